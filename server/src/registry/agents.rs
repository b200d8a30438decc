//! What the server knows about each agent.

use claviger_core::evidence::{Appraisal, KeyDigest};
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

/// One attested agent, as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its identity.
    pub id: SpiffeId,
    /// The kind of evidence that admitted it.
    pub kind: String,
    /// What was proved.
    pub selectors: Selectors,
    /// Whether it can show its evidence again.
    pub reattestable: bool,
    /// Whether it is thrown out.
    pub banned: bool,
    /// The SVID by which it is known.
    pub svid: AgentSvid,
    /// The SVID that replaces it as soon as it is used.
    pub next: Option<AgentSvid>,
    /// How its evidence was judged last; servers of the first versions did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appraised: Option<Appraised>,
}

/// How an agent's evidence was judged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Appraised {
    /// When.
    pub at: UnixTime,
    /// How.
    pub appraisal: Appraisal,
    /// The newest change to how identities stood when it began to show its evidence; servers of the
    /// first versions did not keep it.
    #[serde(default)]
    pub seen: u64,
}

/// The SVID of an agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSvid {
    /// Its serial number: the content of the DER integer.
    #[serde(with = "hex::serde")]
    pub serial: [u8; 16],
    /// The digest of its key.
    pub key: KeyDigest,
    /// The last second at which it is valid.
    pub not_after: UnixTime,
}

impl AgentSvid {
    /// The serial number in decimal, as SPIRE's tools show it.
    #[must_use]
    pub fn decimal_serial(&self) -> String {
        u128::from_be_bytes(self.serial).to_string()
    }
}

/// Which of an agent's SVIDs was shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    Current,
    Next,
}

impl Agent {
    /// Whether `now` is this agent, which has shown the same evidence again.
    pub(super) fn is_again(&self, now: &Self) -> bool {
        let same = (&self.kind, &self.selectors) == (&now.kind, &now.selectors);
        same && self.reattestable && now.reattestable
    }

    /// Whether it has shown its evidence since change number `version` to how identities stand.
    #[must_use]
    pub fn has_shown_since(&self, version: u64) -> bool {
        version <= self.appraised.as_ref().map_or(0, |appraised| appraised.seen)
    }

    /// Whether one of its SVIDs is for this key.
    pub(super) fn holds(&self, key: &KeyDigest) -> bool {
        self.svid.key == *key || self.next.as_ref().is_some_and(|next| next.key == *key)
    }

    /// Whether the SVID with this serial number is one of the agent's.
    pub(super) fn shows(&self, serial: &[u8]) -> Option<Shown> {
        if self.svid.serial == serial {
            return Some(Shown::Current);
        }
        self.next.as_ref().is_some_and(|next| next.serial == serial).then_some(Shown::Next)
    }
}

/// Why a caller is not taken for the agent that its SVID names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAnAgent {
    /// No agent has this identity; it was evicted, or never one.
    #[error("the agent is not attested")]
    Unknown,
    /// The agent has a newer SVID.
    #[error("the agent's SVID was replaced by a newer one")]
    NotActive,
    /// The agent is thrown out.
    #[error("the agent is banned")]
    Banned,
}

#[cfg(test)]
mod tests {
    use claviger_core::evidence::Bond;

    use super::*;

    /// As a server of the first versions wrote it.
    const OLD: &str = r#"{"id":"spiffe://a.org/spire/agent/x","kind":"x509pop","selectors":[],
        "reattestable":true,"banned":false,"svid":{"serial":"00000000000000000000000000000007",
        "key":"0101010101010101010101010101010101010101010101010101010101010101","not_after":9},
        "next":null}"#;

    #[test]
    fn records_of_the_first_versions_are_still_read() {
        let old: Agent = serde_json::from_str(OLD).unwrap();
        assert_eq!(old.appraised, None);
        assert!(!serde_json::to_string(&old).unwrap().contains("appraised"));
        let appraisal = Appraisal::new("x509pop", Bond::Key);
        let appraised = Some(Appraised { at: UnixTime::from_secs(7), appraisal, seen: 3 });
        let new = Agent { appraised, ..old };
        let stored = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<Agent>(&stored).unwrap(), new);
    }
}
