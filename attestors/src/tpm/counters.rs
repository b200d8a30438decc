//! The counters of TPMs that were seen before. They only go up, so a TPM whose counters went down was
//! cleared, or it is software whose state was put back or copied.

use claviger_core::evidence::KeyDigest;
use quick_cache::sync::Cache;

use super::rules::Facts;
use super::structure::{Clock, Public, Writer};
use crate::checklist::{Broken, Checklist, Rule};

static FORWARD: Rule = Rule::new(
    "tpm.counters",
    "the TPM's reset counter and clock have not gone back since this server saw it last",
);

/// How many TPMs are remembered; of more, those that were not seen for long are forgotten. An entry
/// takes a hundred bytes.
const REMEMBERED: usize = 65_536;

/// `TPM_RH_ENDORSEMENT`: the name of the hierarchy (Part 1 §26.2).
const ENDORSEMENT: u32 = 0x4000_000b;

/// What TPMs counted when they were seen last.
#[derive(Debug)]
pub(super) struct Counters(Cache<KeyDigest, Clock>);

impl Counters {
    pub(super) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// How often the TPM was reset since it was seen last, if it was: the last rule, because what it
    /// says is remembered. Numbers that the TPM disguises are passed over.
    pub(super) fn advance(
        &self,
        ek: KeyDigest,
        keys: (&Public, &Public),
        facts: &Facts,
        checks: &mut Checklist,
    ) -> Result<Option<u32>, Broken> {
        if !are_plain(keys, &facts.signer) {
            return Ok(None);
        }
        let (now, last) = (facts.clock, self.0.get(&ek));
        let went_back = last.is_some_and(|last| order(now) < order(last));
        checks.require(&FORWARD, !went_back, || {
            let (reset, before) = (now.resets, last.map_or(0, |last| last.resets));
            format!(
                "it was reset {before} times when it was seen last, and {reset} times now; if it was \
                 cleared on purpose, restart the server"
            )
        })?;
        self.0.insert(ek, now);
        Ok(last.and_then(|last| now.resets.checked_sub(last.resets)))
    }
}

const fn order(clock: Clock) -> (u32, u64) {
    (clock.resets, clock.milliseconds)
}

/// Whether the counters are what the TPM counts. It disguises them, differently for each key, unless
/// the key that signs belongs to the endorsement hierarchy (Part 1 §36.7): at its top, or below the EK.
fn are_plain((ek, ak): (&Public, &Public), signer: &[u8]) -> bool {
    let top = ENDORSEMENT.to_be_bytes();
    qualified(ak, &top) == signer || qualified(ak, &qualified(ek, &top)) == signer
}

/// The qualified name of a key below `parent` (Part 1 §16.4).
fn qualified(key: &Public, parent: &[u8]) -> Vec<u8> {
    let digest = key.name_hash.of(&[parent, &key.name()].concat());
    Writer::default().u16(key.name_hash.number()).bytes(digest.as_ref()).finish()
}
