//! What the proofs of possession have in common: the node signs two nonces, the server's and its
//! own.
//!
//! The format leaves the node's nonce to the node, and it is part of what is signed. A node of ours
//! puts the digest of its [`Binding`] there, which binds the proof to the key that it is to earn a
//! certificate for. To a server that knows nothing of this, it is a nonce like any other.

pub(crate) mod ecdsa;
pub(crate) mod rsa;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::{Binding, Bond};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// 32 bytes that nobody has used before.
pub type Nonce = [u8; 32];

/// A nonce of the server's. Lives as long as one conversation does.
pub(crate) fn fresh_nonce() -> Result<Nonce, Unspecified> {
    let mut nonce = Nonce::default();
    rand::fill(&mut nonce)?;
    Ok(nonce)
}

/// The node's nonce in answer to the server's.
pub(crate) fn bound_nonce(binding: &Binding, server: &Nonce) -> Nonce {
    binding.digest(server).short()
}

/// What the node's nonce, once it is shown to be signed, binds the proof to.
pub(crate) fn bond(binding: &Binding, server: &Nonce, node: &Nonce) -> Bond {
    if binding.digest(server).is(node) { Bond::Key } else { Bond::Bearer }
}

/// One nonce after the other.
pub(crate) fn both(server: &Nonce, node: &Nonce) -> Vec<u8> {
    [server.as_slice(), node].concat()
}

/// Bytes that JSON carries in base64, as Go writes a byte slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Base64 {
    /// The bytes, if they are a nonce.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        self.0.as_slice().try_into().ok()
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(key: &[u8]) -> Binding {
        Binding::new("x509pop", key, &"example.org".parse().unwrap())
    }

    #[test]
    fn only_the_digest_of_the_binding_binds() {
        let server = fresh_nonce().unwrap();
        let bound = bound_nonce(&binding(b"key"), &server);
        assert_eq!(bond(&binding(b"key"), &server, &bound), Bond::Key);
        assert_eq!(bond(&binding(b"other"), &server, &bound), Bond::Bearer);
        let (other, random) = (fresh_nonce().unwrap(), fresh_nonce().unwrap());
        assert_eq!(bond(&binding(b"key"), &other, &bound), Bond::Bearer);
        assert_eq!(bond(&binding(b"key"), &server, &random), Bond::Bearer);
    }

    #[test]
    fn nonces_do_not_repeat() {
        assert_ne!(fresh_nonce().unwrap(), fresh_nonce().unwrap());
    }

    #[test]
    fn bytes_travel_in_padded_base64() {
        let bytes = Base64(vec![1, 2, 3, 4]);
        let json = serde_json::to_string(&bytes).unwrap();
        assert_eq!(json, r#""AQIDBA==""#);
        assert_eq!(serde_json::from_str::<Base64>(&json).unwrap(), bytes);
        for bad in [r#""AQIDBA""#, r#""AQID_A==""#, "null", "3", r#"["AQ=="]"#] {
            assert!(serde_json::from_str::<Base64>(bad).is_err(), "{bad}");
        }
        assert_eq!(bytes.nonce(), None);
    }
}
