//! Bundles as JWK Sets (SPIFFE Trust Domain and Bundle §4, X509-SVID §6, JWT-SVID §6, WIT-SVID §6).

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Bundle, TokenAuthority, X509Authority};
use crate::der::{self, DerError};
use crate::id::TrustDomain;
use crate::jose::key::{Jwk, KeyError};
use crate::jose::{Algorithm, PublicKey};

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// The most keys in a document, whether we know what they are or not.
const MAX_KEYS: usize = 1_024;

/// What the keys of a set are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// Checking JWT-SVIDs.
    JwtSvid,
    /// Checking WIT-SVIDs.
    WitSvid,
    /// Checking JWT-SVIDs, for relying parties that know OpenID Connect and not SPIFFE.
    Signature,
}

impl Use {
    const fn name(self) -> &'static str {
        match self {
            Self::JwtSvid => "jwt-svid",
            Self::WitSvid => "wit-svid",
            Self::Signature => "sig",
        }
    }
}

/// The document.
#[derive(Serialize)]
struct Document {
    keys: Vec<Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Serialize)]
struct Key {
    #[serde(rename = "use")]
    purpose: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<&'static str>,
    #[serde(flatten)]
    key: AnyKey,
    /// Exactly one certificate, DER in standard base64 (RFC 7517 §4.7).
    #[serde(skip_serializing_if = "Option::is_none")]
    x5c: Option<[String; 1]>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyKey {
    Token(Jwk),
    /// Signs certificates, and no tokens (RFC 8037 §2).
    Ed25519 {
        kty: &'static str,
        crv: &'static str,
        x: String,
    },
}

/// The set of `authorities`, all of one use. Nothing else is in it (SPIFFE Workload API §6.2.2).
#[must_use]
pub fn jwks(authorities: &[TokenAuthority], purpose: Use) -> String {
    let keys = authorities.iter().map(|authority| token_key(authority, purpose)).collect();
    print(&Document { keys, spiffe_sequence: None, spiffe_refresh_hint: None })
}

/// The whole bundle, as bundle endpoints serve it.
///
/// # Errors
///
/// [`WriteError`] if a certificate is none, or has a key that has no JWK.
pub fn write(bundle: &Bundle) -> Result<String, WriteError> {
    let mut keys =
        bundle.x509_authorities.iter().map(x509_key).collect::<Result<Vec<_>, WriteError>>()?;
    keys.extend(bundle.jwt_authorities.iter().map(|key| token_key(key, Use::JwtSvid)));
    keys.extend(bundle.wit_authorities.iter().map(|key| token_key(key, Use::WitSvid)));
    Ok(print(&Document {
        keys,
        spiffe_sequence: Some(bundle.sequence),
        spiffe_refresh_hint: bundle.refresh_hint.map(|hint| hint.as_secs()),
    }))
}

/// Text and numbers always have a form in JSON.
fn print(document: &Document) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

fn token_key(authority: &TokenAuthority, purpose: Use) -> Key {
    let algorithm = authority.public_key.default_algorithm();
    Key {
        purpose: purpose.name(),
        kid: Some(authority.key_id.clone()),
        // A SPIFFE key may be used with any algorithm that fits it; others want to be told.
        alg: (purpose == Use::Signature).then(|| Algorithm::name(algorithm)),
        key: AnyKey::Token(authority.public_key.to_jwk()),
        x5c: None,
    }
}

fn x509_key(authority: &X509Authority) -> Result<Key, WriteError> {
    let (_, certificate) =
        X509Certificate::from_der(&authority.der).map_err(|_detail| WriteError::Certificate)?;
    let spki = certificate.public_key();
    let key = if spki.algorithm.algorithm == OID_SIG_ED25519 {
        let x = URL_SAFE_NO_PAD.encode(&spki.subject_public_key.data);
        AnyKey::Ed25519 { kty: "OKP", crv: "Ed25519", x }
    } else {
        AnyKey::Token(PublicKey::from_spki(spki.raw)?.to_jwk())
    };
    let x5c = Some([STANDARD.encode(&authority.der)]);
    // Without `kid` (X509-SVID §6.1).
    Ok(Key { purpose: "x509-svid", kid: None, alg: None, key, x5c })
}

/// Why a bundle has no JSON form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// An authority is none.
    #[error("an authority is not an X.509 certificate")]
    Certificate,
    /// An authority's key cannot be written.
    #[error("an authority has a key that has no JWK")]
    Key(#[from] KeyError),
}

/// What is read of a document; other members are ignored.
#[derive(Deserialize)]
struct Incoming {
    keys: Vec<IncomingKey>,
    #[serde(default)]
    spiffe_sequence: u64,
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Deserialize)]
struct IncomingKey {
    kty: Option<Value>,
    #[serde(rename = "use")]
    purpose: Option<Value>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

/// Reads the bundle of `trust_domain`. Keys of unknown types or uses are left out, as the standard
/// says (§4.1.3, §4.2).
///
/// # Errors
///
/// [`ReadError`] says which part of the document is wrong.
pub fn read(trust_domain: TrustDomain, document: &[u8]) -> Result<Bundle, ReadError> {
    if MAX_DOCUMENT < document.len() {
        return Err(ReadError::Size);
    }
    let document: Incoming = serde_json::from_slice(document)?;
    if MAX_KEYS < document.keys.len() {
        return Err(ReadError::TooManyKeys);
    }
    let mut bundle = Bundle {
        sequence: document.spiffe_sequence,
        refresh_hint: document
            .spiffe_refresh_hint
            .filter(|hint| *hint != 0)
            .map(Duration::from_secs),
        ..Bundle::empty(trust_domain)
    };
    for (at, key) in document.keys.into_iter().enumerate() {
        add(&mut bundle, key).map_err(|problem| ReadError::Key { at, problem })?;
    }
    check(&bundle)?;
    Ok(bundle)
}

fn add(bundle: &mut Bundle, key: IncomingKey) -> Result<(), KeyProblem> {
    let known = |member: &Option<Value>| member.as_ref().and_then(Value::as_str).map(str::to_owned);
    let (Some(kty), Some(purpose)) = (known(&key.kty), known(&key.purpose)) else { return Ok(()) };
    match purpose.as_str() {
        "x509-svid" => bundle.x509_authorities.extend(x509_authority(&key)?),
        "jwt-svid" => bundle.jwt_authorities.extend(token_authority(&kty, key)?),
        "wit-svid" => bundle.wit_authorities.extend(token_authority(&kty, key)?),
        _ => {}
    }
    Ok(())
}

/// The first certificate; an entry without one says nothing (X509-SVID §6.2).
fn x509_authority(key: &IncomingKey) -> Result<Option<X509Authority>, KeyProblem> {
    let Some(first) = key.x5c.first() else { return Ok(None) };
    let certificate = STANDARD.decode(first).map_err(|_detail| KeyProblem::Base64)?;
    der::check_one(&certificate)?;
    X509Certificate::from_der(&certificate).map_err(|_detail| KeyProblem::Certificate)?;
    Ok(Some(X509Authority { der: Bytes::from(certificate), tainted: false }))
}

fn token_authority(kty: &str, key: IncomingKey) -> Result<Option<TokenAuthority>, KeyProblem> {
    let member = |member: Option<String>| member.ok_or(KeyProblem::Incomplete);
    let jwk = match kty {
        "EC" => Jwk::Ec { crv: member(key.crv)?, x: member(key.x)?, y: member(key.y)? },
        "RSA" => Jwk::Rsa { n: member(key.n)?, e: member(key.e)? },
        _ => return Ok(None),
    };
    let public_key = match PublicKey::from_jwk(&jwk) {
        Ok(public_key) => public_key,
        // A curve we do not know is like a type we do not know.
        Err(KeyError::Kind) => return Ok(None),
        Err(error @ (KeyError::Malformed | KeyError::RsaSize(_))) => return Err(error.into()),
    };
    let sound = |kid: &String| (1..=Bundle::MAX_KEY_ID).contains(&kid.len());
    let key_id = key.kid.filter(sound).ok_or(KeyProblem::KeyId)?;
    Ok(Some(TokenAuthority { key_id, public_key, expires_at: None, tainted: false }))
}

/// Checks what concerns more than one key.
fn check(bundle: &Bundle) -> Result<(), ReadError> {
    let Bundle { x509_authorities, jwt_authorities, wit_authorities, .. } = bundle;
    for count in [x509_authorities.len(), jwt_authorities.len(), wit_authorities.len()] {
        if Bundle::MAX_AUTHORITIES < count {
            return Err(ReadError::TooManyKeys);
        }
    }
    let certificates: BTreeSet<_> = x509_authorities.iter().map(|one| &one.der).collect();
    if certificates.len() != x509_authorities.len() {
        return Err(ReadError::Repeated("a certificate".to_owned()));
    }
    for authorities in [jwt_authorities, wit_authorities] {
        let mut seen = BTreeSet::new();
        if let Some(twice) = authorities.iter().find(|one| !seen.insert(&one.key_id)) {
            return Err(ReadError::Repeated(format!("kid `{}`", twice.key_id)));
        }
    }
    Ok(())
}

/// Why a document is not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is too large.
    #[error("the document is larger than {MAX_DOCUMENT} bytes")]
    Size,
    /// It is no JSON, or lacks `keys`.
    #[error("the document is not a JWK Set")]
    Json(#[from] serde_json::Error),
    /// It has too many keys.
    #[error(
        "the document has more than {MAX_KEYS} keys, or more than {} of one use",
        Bundle::MAX_AUTHORITIES
    )]
    TooManyKeys,
    /// Something is there twice, so that nobody can say which one is meant.
    #[error("the document has {0} twice")]
    Repeated(String),
    /// A key is wrong.
    #[error("keys[{at}] is not usable")]
    Key {
        /// Which; the first is 0.
        at: usize,
        /// What is wrong with it.
        #[source]
        problem: KeyProblem,
    },
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyProblem {
    /// It has no name.
    #[error("a key for tokens needs a kid of 1 to {} bytes", Bundle::MAX_KEY_ID)]
    KeyId,
    /// A member is missing that its type needs.
    #[error("a member is missing")]
    Incomplete,
    /// The certificate is no base64.
    #[error("x5c is not base64")]
    Base64,
    /// The certificate is framed wrongly.
    #[error("x5c {0}")]
    Frame(#[from] DerError),
    /// The certificate is none.
    #[error("x5c is not an X.509 certificate")]
    Certificate,
    /// The key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[cfg(test)]
mod tests;
