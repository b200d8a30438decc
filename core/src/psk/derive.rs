//! From the root of an epoch to the key of one connection.
//!
//! ```text
//! base = HKDF-SHA256(salt "claviger psk base v1", root, info = identity)
//! psk  = HKDF-Expand(base, LP("claviger tls13-psk v1") LP(trust domain) LP(client) LP(server)
//!                          LP(purpose) not_after hash)
//! ```
//!
//! A key for one run of its client has the label `claviger tls13-psk run v1` instead, and `LP(run)`
//! at the end; one of a series `claviger tls13-psk series v1`, and `LP(series) epoch`; one of both
//! `claviger tls13-psk run series v1`, and both.
//!
//! ```text
//! key  = HKDF-Expand(base, LP("claviger machine key v1") LP(trust domain) LP(client) LP(server)
//!                          LP(purpose) not_after bits)
//! ```
//!
//! is a key for a machine that is no TLS stack of ours. It has another label, so it is the PSK of no
//! connection.
//!
//! The server sends `base`; each end adds its own view of who talks to whom and why. Any
//! disagreement is another key, and shows as a bad binder.

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use super::identity::{Serial, WireIdentity};
use super::{KeyBits, PskBinding};
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
        let label = match (&binding.run, &binding.series) {
            (None, None) => "claviger tls13-psk v1",
            (Some(_), None) => "claviger tls13-psk run v1",
            (None, Some(_)) => "claviger tls13-psk series v1",
            (Some(_), Some(_)) => "claviger tls13-psk run series v1",
        };
        let mut info = parties(label, binding).fixed(&[binding.hash.code()]);
        if let Some(run) = &binding.run {
            info = info.part(run.as_str().as_bytes());
        }
        if let Some(series) = &binding.series {
            info = info.part(series.name.as_str().as_bytes()).number(series.epoch.get());
        }
        Psk(expand(&self.prk(), &[&info.finish()]))
    }

    /// The key of `bits` for a machine that is no TLS stack of ours. It is no connection's PSK.
    #[must_use]
    pub fn machine_key(&self, binding: &PskBinding, bits: KeyBits) -> Zeroizing<Vec<u8>> {
        let info = parties("claviger machine key v1", binding).fixed(&bits.get().to_be_bytes());
        let mut key = Zeroizing::new(vec![0; bits.bytes()]);
        let (prk, info) = (self.prk(), info.finish());
        let filled = prk.expand(&[&info], Length(bits.bytes())).and_then(|okm| okm.fill(&mut key));
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives 255 * 32 bytes, a key has 128")]
        filled.expect("output length is valid");
        key
    }

    fn prk(&self) -> Prk {
        Prk::new_less_safe(HKDF_SHA256, self.0.expose())
    }
}

/// Who talks to whom, what for and until when, under `label`.
fn parties(label: &str, binding: &PskBinding) -> Parts {
    Parts::new(label)
        .part(binding.server.trust_domain().as_str().as_bytes())
        .part(binding.client.to_string().as_bytes())
        .part(binding.server.to_string().as_bytes())
        .part(binding.purpose.as_str().as_bytes())
        .number(binding.not_after.as_secs())
}

fn hkdf(salt: &[u8], secret: &[u8], info: &[u8]) -> Secret<32> {
    expand(&Salt::new(HKDF_SHA256, salt).extract(secret), &[info])
}

/// HKDF-Expand to 32 bytes.
pub(super) fn expand(prk: &Prk, info: &[&[u8]]) -> Secret<32> {
    let filled: Result<_, Unspecified> =
        Secret::try_fill(|out| prk.expand(info, Length(out.len()))?.fill(out));
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 255 * 32 bytes; we ask for 32")]
    filled.expect("output length is valid")
}

/// Tells HKDF how much to expand, in bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::psk::{PskHash, SeriesEpoch};
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
            series: None,
            bits: None,
        }
    }

    fn epoch(number: u64) -> Option<SeriesEpoch> {
        SeriesEpoch::from_wire("train/run-7", number).unwrap()
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
        let of_series = PskBinding { series: epoch(3), ..binding() };
        assert_eq!(hex::encode(base.psk(&of_series).0.expose()), include_vector("psk_series"));
        let of_both = PskBinding { series: epoch(3), ..in_run };
        assert_eq!(hex::encode(base.psk(&of_both).0.expose()), include_vector("psk_run_series"));
        for bits in [64, 256, 1_024] {
            let key = base.machine_key(&binding(), bits.try_into().unwrap());
            assert_eq!(hex::encode(&*key), include_vector(&format!("machine_key_{bits}")));
        }
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
        let changes: [fn(&mut PskBinding); 8] = [
            |b| std::mem::swap(&mut b.client, &mut b.server),
            |b| b.client = "spiffe://example.org/c".parse().unwrap(),
            |b| b.server = "spiffe://example.com/b".parse().unwrap(),
            |b| b.purpose = "other".parse().unwrap(),
            |b| b.not_after = UnixTime::from_secs(1_800_000_001),
            |b| b.run = Some("github:8412:1".parse().unwrap()),
            |b| b.series = epoch(1),
            |b| b.series = epoch(2),
        ];
        for change in changes {
            let mut other = binding();
            change(&mut other);
            assert!(!key.ct_eq(&base.psk(&other).0), "{other:?}");
        }
        let one = PskBinding { series: epoch(1), ..binding() };
        let two = PskBinding { series: epoch(2), ..binding() };
        assert!(!base.psk(&one).0.ct_eq(&base.psk(&two).0));
    }

    /// Neither does one begin as another, which HKDF's output would if only the length differed.
    #[test]
    fn a_machines_key_is_no_psk_and_none_of_another_length() {
        let base = PskBase(Secret::copy_from(&[5; 32]).unwrap());
        let lengths = [64, 256, 264, 1_024].map(|bits| KeyBits::try_from(bits).unwrap());
        let mut beginnings: Vec<_> = lengths
            .map(|bits| base.machine_key(&binding(), bits)[..8].to_vec())
            .into_iter()
            .chain([base.psk(&binding()).0.expose()[..8].to_vec()])
            .collect();
        beginnings.sort();
        beginnings.dedup();
        assert_eq!(beginnings.len(), 5);
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
