//! Secure Key Integration Protocol, draft-cisco-skip-02: who initiates draws, the other end collects.

use aws_lc_rs::rand;
use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use http::Response;
use http_body_util::Full;
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::draw::{Key, Wish};
use super::super::refusal::Refusal;
use super::super::skip::Asked;
use super::super::{Inner, json};
use super::in_clear;

/// What keys are for.
const PURPOSE: &str = "skip";

/// What there is (§4.1). Names have no pattern's characters, so each stands for itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities<'a> {
    entropy: bool,
    key: bool,
    algorithm: &'static str,
    #[serde(rename = "localSystemID")]
    local: String,
    #[serde(rename = "remoteSystemID")]
    remote: Vec<&'a str>,
}

/// A key (§4.2).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Drawn {
    key_id: String,
    #[serde(serialize_with = "in_clear")]
    key: Zeroizing<String>,
}

/// Random bytes (§4.3).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entropy {
    #[serde(serialize_with = "in_clear")]
    random_str: Zeroizing<String>,
    minentropy: usize,
}

pub(in super::super) async fn answer(
    door: &Inner,
    caller: &SpiffeId,
    asked: Asked,
) -> Result<Response<Full<Bytes>>, Refusal> {
    match asked {
        Asked::Capabilities => json(
            &Capabilities {
                entropy: true,
                key: true,
                algorithm: "claviger",
                local: door.systems.name(caller),
                remote: door.systems.others(caller),
            },
            0,
        ),
        Asked::Key { remote, bits } => {
            let responder = door.systems.id(&remote).ok_or(Refusal::Nobody)?;
            let wish = Wish { responder, purpose: default_purpose(), ttl: None, bits, number: 1 };
            one(door.draw(caller, wish).await?)
        }
        Asked::KeyOf { remote, id } => {
            let initiator = door.systems.id(&remote).ok_or(Refusal::Nobody)?;
            one(door.collect(caller, &initiator, &[id]).await?)
        }
        Asked::Entropy { bytes } => {
            door.check_registered(caller)?;
            let mut random = Zeroizing::new(vec![0; bytes]);
            rand::fill(&mut random).map_err(|_unspecified| Refusal::NoRandom)?;
            let random_str = Zeroizing::new(hex::encode(&*random));
            json(&Entropy { random_str, minentropy: bytes.saturating_mul(8) }, bytes)
        }
    }
}

fn default_purpose() -> Purpose {
    #[expect(clippy::expect_used, reason = "four lower-case letters are a purpose")]
    PURPOSE.parse().expect("purpose")
}

fn one(keys: Vec<Key>) -> Result<Response<Full<Bytes>>, Refusal> {
    let key = keys.into_iter().next().ok_or(Refusal::NotFound)?;
    let length = key.bytes.len();
    let drawn = Drawn { key_id: key.id.hex(), key: Zeroizing::new(hex::encode(&*key.bytes)) };
    json(&drawn, length)
}
