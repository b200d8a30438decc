//! From the root of an epoch to the key of one connection.
//!
//! ```text
//! base = HKDF-SHA256(salt "claviger psk base v1", root, info = identity)
//! psk  = HKDF-Expand(base, LP("claviger tls13-psk v1") LP(trust domain) LP(client) LP(server)
//!                          LP(purpose) not_after hash)
//! ```
//!
//! A key for one run of its client has the label `claviger tls13-psk run v1` instead, and `LP(run)`
//! at the end.
//!
//! The server sends `base`; each end adds its own view of who talks to whom and why. Any
//! disagreement is another key, and shows as a bad binder.

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::PskBinding;
use super::identity::{Serial, WireIdentity};
use crate::bytes::Parts;
use crate::secret::Secret;

/// The secret from which every PSK of an epoch is derived. Destroying it voids them all.
#[derive(Debug)]
pub struct EpochRoot(pub Secret<32>);

/// What a server gives each end, to derive the PSK from.
#[derive(Debug)]
pub struct PskBase(pub Secret<32>);

/// The external PSK of one TLS connection.
#[derive(Debug)]
pub struct Psk(pub Secret<32>);

/// The working keys of an epoch.
#[derive(Debug)]
pub struct EpochKeys {
    root: EpochRoot,
    seal: EncryptingKey,
    open: DecryptingKey,
}

impl EpochKeys {
    /// The working keys under `root`.
    #[must_use]
    pub fn new(root: EpochRoot) -> Self {
        let key = hkdf(b"claviger psk identity v1", root.0.expose(), b"");
        #[expect(clippy::expect_used, reason = "AES-256 takes any 32 bytes")]
        let unbound = || UnboundCipherKey::new(&AES_256, key.expose()).expect("key length");
        #[expect(clippy::expect_used, reason = "every AES key can be used block by block")]
        let (seal, open) = (
            EncryptingKey::ecb(unbound()).expect("ecb"),
            DecryptingKey::ecb(unbound()).expect("ecb"),
        );
        Self { root, seal, open }
    }

    /// The wire identity of the PSK with this serial.
    #[must_use]
    pub fn seal(&self, serial: Serial) -> WireIdentity {
        let mut block = serial.to_key();
        #[expect(clippy::expect_used, reason = "the input is exactly one block")]
        let context = self.seal.encrypt(&mut block).expect("one block");
        debug_assert!(matches!(context, DecryptionContext::None));
        WireIdentity::from_bytes(block)
    }

    /// The serial behind a wire identity. Any 16 bytes have one; whether it was ever given out is
    /// for the ledger to say.
    #[must_use]
    pub fn open(&self, identity: WireIdentity) -> Serial {
        let mut block = *identity.as_bytes();
        #[expect(clippy::expect_used, reason = "the input is exactly one block")]
        let key = self.open.decrypt(&mut block, DecryptionContext::None).expect("one block");
        let mut serial = [0; 16];
        serial.copy_from_slice(key);
        Serial::from_key(serial)
    }

    /// Shows that a challenge which begins with `head` was made in this epoch.
    #[must_use]
    pub fn challenge_tag(&self, head: &[u8]) -> [u8; 16] {
        let whole = hkdf(b"claviger challenge v1", self.root.0.expose(), head);
        let mut tag = [0; 16];
        tag.iter_mut().zip(whole.expose()).for_each(|(to, from)| *to = *from);
        tag
    }

    /// What both ends of the PSK named `identity` derive from.
    #[must_use]
    pub fn base(&self, identity: WireIdentity) -> PskBase {
        PskBase(hkdf(b"claviger psk base v1", self.root.0.expose(), identity.as_bytes()))
    }
}

impl PskBase {
    /// The key for a connection bound to `binding`.
    #[must_use]
    pub fn psk(&self, binding: &PskBinding) -> Psk {
        let label = match binding.run {
            None => "claviger tls13-psk v1",
            Some(_) => "claviger tls13-psk run v1",
        };
        let info = Parts::new(label)
            .part(binding.server.trust_domain().as_str().as_bytes())
            .part(binding.client.to_string().as_bytes())
            .part(binding.server.to_string().as_bytes())
            .part(binding.purpose.as_str().as_bytes())
            .number(binding.not_after.as_secs())
            .fixed(&[binding.hash.code()]);
        let info = match &binding.run {
            None => info,
            Some(run) => info.part(run.as_str().as_bytes()),
        };
        let info = info.finish();
        Psk(expand(&Prk::new_less_safe(HKDF_SHA256, self.0.expose()), &[&info]))
    }
}

fn hkdf(salt: &[u8], secret: &[u8], info: &[u8]) -> Secret<32> {
    expand(&Salt::new(HKDF_SHA256, salt).extract(secret), &[info])
}

/// HKDF-Expand to 32 bytes.
pub(super) fn expand(prk: &Prk, info: &[&[u8]]) -> Secret<32> {
    let filled: Result<_, Unspecified> = Secret::try_fill(|out| prk.expand(info, Len32)?.fill(out));
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 255 * 32 bytes; we ask for 32")]
    filled.expect("output length is valid")
}

/// Tells HKDF how much to expand.
struct Len32;

impl KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::psk::PskHash;
    use crate::time::UnixTime;

    fn keys() -> EpochKeys {
        EpochKeys::new(EpochRoot(Secret::copy_from(&[7; 32]).unwrap()))
    }

    fn binding() -> PskBinding {
        PskBinding {
            client: "spiffe://example.org/a".parse().unwrap(),
            server: "spiffe://example.org/b".parse().unwrap(),
            purpose: "test".parse().unwrap(),
            not_after: UnixTime::from_secs(1_800_000_000),
            hash: PskHash::Sha256,
            run: None,
        }
    }

    /// Computed with Python's `hmac`, `hashlib` and `cryptography`; see `tests/vectors/psk.py`.
    #[test]
    fn layout_is_pinned() {
        let serial = Serial::new(UnixTime::from_secs(1_800_000_000), [9; 12]);
        let identity = keys().seal(serial);
        let base = keys().base(identity);
        let psk = base.psk(&binding());
        assert_eq!(identity.to_string(), include_vector("identity"));
        assert_eq!(hex::encode(base.0.expose()), include_vector("base"));
        assert_eq!(hex::encode(psk.0.expose()), include_vector("psk"));
        let in_run = PskBinding { run: Some("github:8412:1".parse().unwrap()), ..binding() };
        assert_eq!(hex::encode(base.psk(&in_run).0.expose()), include_vector("psk_run"));
    }

    fn include_vector(name: &str) -> String {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/psk.json")).unwrap();
        vectors[name].as_str().unwrap().to_owned()
    }

    #[test]
    fn opening_undoes_sealing() {
        let serial = Serial::new(UnixTime::from_secs(1_000_000), [3; 12]);
        assert_eq!(keys().open(keys().seal(serial)), serial);
    }

    #[test]
    fn another_epoch_reads_garbage() {
        let serial = Serial::new(UnixTime::from_secs(1_000_000), [3; 12]);
        let other = EpochKeys::new(EpochRoot(Secret::copy_from(&[8; 32]).unwrap()));
        assert_ne!(other.open(keys().seal(serial)), serial);
    }

    #[test]
    fn every_field_of_the_binding_matters() {
        let base = PskBase(Secret::copy_from(&[5; 32]).unwrap());
        let key = base.psk(&binding()).0;
        assert!(key.ct_eq(&base.psk(&binding()).0));
        let changes: [fn(&mut PskBinding); 6] = [
            |b| std::mem::swap(&mut b.client, &mut b.server),
            |b| b.client = "spiffe://example.org/c".parse().unwrap(),
            |b| b.server = "spiffe://example.com/b".parse().unwrap(),
            |b| b.purpose = "other".parse().unwrap(),
            |b| b.not_after = UnixTime::from_secs(1_800_000_001),
            |b| b.run = Some("github:8412:1".parse().unwrap()),
        ];
        for change in changes {
            let mut other = binding();
            change(&mut other);
            assert!(!key.ct_eq(&base.psk(&other).0), "{other:?}");
        }
    }

    proptest! {
        /// Two runs, or a run and none, never have the same key.
        #[test]
        fn no_two_runs_share_a_key(one in "[!-~]{1,255}", two in "[!-~]{1,255}", part in 0_usize..9) {
            let base = PskBase(Secret::copy_from(&[5; 32]).unwrap());
            let key = |run: &str| {
                let binding = PskBinding { run: Some(run.parse().unwrap()), ..binding() };
                base.psk(&binding).0
            };
            prop_assert!(!key(&one).ct_eq(&base.psk(&binding()).0));
            prop_assert_eq!(key(&one).ct_eq(&key(&two)), one == two);
            // What lies next to it in the derivation does not flow into it.
            let (head, _) = one.split_at(part.min(one.len()));
            prop_assert!(head.is_empty() || head == one || !key(head).ct_eq(&key(&one)));
        }
    }
}
