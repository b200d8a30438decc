//! ETSI GS QKD 014 V1.1.1: the master SAE draws, the slave SAE collects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{KeyBits, Purpose};
use http::Response;
use http_body_util::Full;
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::draw::{Key, TTL_SECS, Wish};
use super::super::etsi::{Asked, KeyRequest, MAX_KEYS};
use super::super::refusal::Refusal;
use super::super::{Inner, json};
use super::in_clear;
use crate::ledger::MAX_PSKS;
use crate::registry::server_id;

/// What keys are for that no extension says more of.
const PURPOSE: &str = "qkd";

/// "Status data format", §6.1. There is one key management entity, and it makes keys when they are drawn.
#[derive(Serialize)]
struct Status {
    #[serde(rename = "source_KME_ID")]
    source_kme: String,
    #[serde(rename = "target_KME_ID")]
    target_kme: String,
    #[serde(rename = "master_SAE_ID")]
    master: String,
    #[serde(rename = "slave_SAE_ID")]
    slave: String,
    key_size: u16,
    stored_key_count: usize,
    max_key_count: usize,
    max_key_per_request: usize,
    max_key_size: u16,
    min_key_size: u16,
    #[serde(rename = "max_SAE_ID_count")]
    max_sae_id_count: u8,
    status_extension: StatusExtension,
}

#[derive(Serialize)]
struct StatusExtension {
    /// How long a key waits for the slave, at most.
    claviger_ttl_seconds: u32,
    claviger_purpose: &'static str,
}

/// "Key container", §6.3.
#[derive(Serialize)]
struct Container {
    keys: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_container_extension: Option<Unheeded>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(rename = "key_ID")]
    id: String,
    #[serde(serialize_with = "in_clear")]
    key: Zeroizing<String>,
}

#[derive(Serialize)]
struct Unheeded {
    message: &'static str,
}

pub(in super::super) async fn answer(
    door: &Inner,
    caller: &SpiffeId,
    asked: Asked,
) -> Result<Response<Full<Bytes>>, Refusal> {
    match asked {
        Asked::Status { slave } => status(door, caller, &slave),
        Asked::Encrypt { slave, request } => encrypt(door, caller, &slave, request).await,
        Asked::Decrypt { master, ids } => {
            let master = door.aliases.id(&master).ok_or(Refusal::Nobody)?;
            contain(&door.collect(caller, &master, &ids).await?, true)
        }
    }
}

fn status(door: &Inner, caller: &SpiffeId, slave: &str) -> Result<Response<Full<Bytes>>, Refusal> {
    let shared = &door.issuer.shared;
    let slave = door.aliases.id(slave).ok_or(Refusal::Nobody)?;
    door.check_registered(caller)?;
    let kme = server_id(shared.registry.trust_domain()).to_string();
    let status = Status {
        source_kme: kme.clone(),
        target_kme: kme,
        master: door.aliases.name(caller),
        slave: door.aliases.name(&slave),
        key_size: KeyBits::default().get(),
        stored_key_count: shared.storage.ledger.room_for_psks(),
        max_key_count: MAX_PSKS,
        max_key_per_request: MAX_KEYS,
        max_key_size: *KeyBits::RANGE.end(),
        min_key_size: *KeyBits::RANGE.start(),
        max_sae_id_count: 0,
        status_extension: StatusExtension {
            claviger_ttl_seconds: TTL_SECS,
            claviger_purpose: PURPOSE,
        },
    };
    json(&status, 0)
}

async fn encrypt(
    door: &Inner,
    caller: &SpiffeId,
    slave: &str,
    request: KeyRequest,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let KeyRequest { number, bits, purpose, ttl, all_heeded } = request;
    let responder = door.aliases.id(slave).ok_or(Refusal::Nobody)?;
    let purpose = purpose.unwrap_or_else(default_purpose);
    let wish = Wish { responder, purpose, ttl, bits, number };
    contain(&door.draw(caller, wish).await?, all_heeded)
}

fn default_purpose() -> Purpose {
    #[expect(clippy::expect_used, reason = "three lower-case letters are a purpose")]
    PURPOSE.parse().expect("purpose")
}

fn contain(keys: &[Key], all_heeded: bool) -> Result<Response<Full<Bytes>>, Refusal> {
    let entry =
        |key: &Key| Entry { id: key.id.uuid(), key: Zeroizing::new(STANDARD.encode(&*key.bytes)) };
    let unheeded = Unheeded { message: "not all extension_optional request options handled" };
    let container = Container {
        keys: keys.iter().map(entry).collect(),
        key_container_extension: (!all_heeded).then_some(unheeded),
    };
    json(&container, keys.iter().map(|key| key.bytes.len().saturating_add(32)).sum())
}
