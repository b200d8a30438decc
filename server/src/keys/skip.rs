//! What is asked by the Secure Key Integration Protocol, draft-cisco-skip-02 §4. Every byte of it is somebody
//! else's.

use claviger_core::psk::KeyBits;

use super::etsi::bits;
use super::id::KeyId;
use super::wanted::{Malformed, Query};

/// The most random bits of one request.
const MAX_ENTROPY: u64 = 8_192;

/// What is asked, read whole. Ends are named as the query names them.
#[derive(Debug)]
pub(crate) enum Asked {
    /// What there is.
    Capabilities,
    /// A new key.
    Key { remote: String, bits: KeyBits },
    /// The key that the other end has named.
    KeyOf { remote: String, id: KeyId },
    /// Random bytes.
    Entropy { bytes: usize },
}

impl Asked {
    pub(crate) fn new_key(query: &mut Query) -> Result<Self, Malformed> {
        Ok(Self::Key { remote: remote(query)?, bits: bits(query.number("size")?)? })
    }

    pub(crate) fn key_of(id: &str, query: &mut Query) -> Result<Self, Malformed> {
        let id = KeyId::from_hex(id);
        let id = id.ok_or_else(|| Malformed::new("a keyId has 32 hexadecimal digits"))?;
        Ok(Self::KeyOf { remote: remote(query)?, id })
    }

    /// 256 bits if nothing is said; whole bytes in any case.
    pub(crate) fn entropy(query: &mut Query) -> Result<Self, Malformed> {
        let bits = query.number("minentropy")?.unwrap_or(256);
        if !(1..=MAX_ENTROPY).contains(&bits) {
            return Err(Malformed::new(format!("minentropy shall be 1 to {MAX_ENTROPY}")));
        }
        let bytes = usize::try_from(bits.div_ceil(8)).unwrap_or_default();
        Ok(Self::Entropy { bytes })
    }
}

fn remote(query: &mut Query) -> Result<String, Malformed> {
    query.take("remoteSystemID").ok_or_else(|| Malformed::new("remoteSystemID is missing"))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::wanted::{Asked as All, Wanted};
    use super::*;

    fn asked(path: &str, query: &str) -> Result<Asked, Malformed> {
        match Wanted::at(path).unwrap().with(&Method::GET, Some(query), b"")? {
            All::Skip(asked) => Ok(asked),
            All::Etsi(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_asked_for_with_another_system() {
        let Asked::Key { remote, bits } = asked("/key", "remoteSystemID=Bob&size=128").unwrap()
        else {
            panic!("no key")
        };
        assert_eq!((remote.as_str(), bits.get()), ("Bob", 128));
        let id = "0a0102030405060708090a0b0c0d0e0f";
        let named =
            asked(&format!("/key/{id}"), "remoteSystemID=spiffe%3A%2F%2Fa.org%2Fb").unwrap();
        let Asked::KeyOf { remote, id: named } = named else { panic!("no key") };
        assert_eq!((remote.as_str(), named.hex().as_str()), ("spiffe://a.org/b", id));
    }

    #[test]
    fn what_is_missing_or_not_known_is_refused() {
        for (path, query) in [
            ("/key", ""),
            ("/key", "remoteSystemID=Bob&size=100"),
            ("/key", "remoteSystemID=Bob&size=2048"),
            ("/key", "remoteSystemID=Bob&remoteSystemID=Eve"),
            ("/key", "remoteSystemID=Bob&more=1"),
            ("/key/xyz", "remoteSystemID=Bob"),
            ("/key/0a0102030405060708090a0b0c0d0e0f", ""),
            ("/key/0a0102030405060708090a0b0c0d0e0f", "remoteSystemID=Bob&size=128"),
            ("/entropy", "minentropy=0"),
            ("/entropy", "minentropy=8193"),
            ("/entropy", "minentropy=x"),
            ("/capabilities", "a=b"),
        ] {
            asked(path, query).unwrap_err();
        }
    }

    #[test]
    fn entropy_is_whole_bytes() {
        for (query, want) in [("", 32), ("minentropy=128", 16), ("minentropy=9", 2)] {
            let Asked::Entropy { bytes } = asked("/entropy", query).unwrap() else {
                panic!("{query}")
            };
            assert_eq!(bytes, want, "{query}");
        }
    }
}
