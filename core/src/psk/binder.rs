//! The binder: how a ClientHello proves that its sender holds the PSK (RFC 9846 §4.2.11.2).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac;

use super::derive::{Psk, expand};
use crate::secret::Secret;

/// The SHA-256 of a ClientHello up to, not including, its list of binders.
pub type TranscriptHash = [u8; 32];

/// A binder for SHA-256.
pub type Binder = [u8; 32];

/// Whether `binder` was made with `psk` over the ClientHello with this transcript hash.
///
/// Takes the same time whatever the answer.
#[must_use]
pub fn verify(psk: &Psk, transcript: &TranscriptHash, binder: &Binder) -> bool {
    hmac::verify(&binder_key(psk), transcript, binder).is_ok()
}

/// The binder that a client with `psk` sends.
#[must_use]
pub fn compute(psk: &Psk, transcript: &TranscriptHash) -> Binder {
    let mut binder = [0; 32];
    binder.copy_from_slice(hmac::sign(&binder_key(psk), transcript).as_ref());
    binder
}

fn binder_key(psk: &Psk) -> hmac::Key {
    let early = Salt::new(HKDF_SHA256, &[0; 32]).extract(psk.0.expose());
    let empty = digest(&SHA256, b"");
    let derived = expand_label(&early, "ext binder", empty.as_ref());
    let derived = Prk::new_less_safe(HKDF_SHA256, derived.expose());
    let finished = expand_label(&derived, "finished", b"");
    hmac::Key::new(hmac::HMAC_SHA256, finished.expose())
}

/// HKDF-Expand-Label to 32 bytes (RFC 9846 §7.1).
fn expand_label(prk: &Prk, label: &str, context: &[u8]) -> Secret<32> {
    const TLS: &[u8] = b"tls13 ";
    // Our labels and contexts are at most a hash long.
    let length = |part: usize| [u8::try_from(part).unwrap_or(u8::MAX)];
    expand(
        prk,
        &[
            &32_u16.to_be_bytes(),
            &length(TLS.len().saturating_add(label.len())),
            TLS,
            label.as_bytes(),
            &length(context.len()),
            context,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psk(byte: u8) -> Psk {
        Psk(Secret::copy_from(&[byte; 32]).unwrap())
    }

    /// Computed with Python's `hmac` and `hashlib`; see `tests/vectors/psk.py`.
    #[test]
    fn binder_is_pinned() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/psk.json")).unwrap();
        let binder = compute(&psk(1), &[2; 32]);
        assert_eq!(hex::encode(binder), vectors["binder"].as_str().unwrap());
    }

    #[test]
    fn only_the_same_key_and_hello_verify() {
        let binder = compute(&psk(1), &[2; 32]);
        assert!(verify(&psk(1), &[2; 32], &binder));
        assert!(!verify(&psk(2), &[2; 32], &binder));
        assert!(!verify(&psk(1), &[3; 32], &binder));
        let mut flipped = binder;
        flipped[31] ^= 1;
        assert!(!verify(&psk(1), &[2; 32], &flipped));
    }
}
