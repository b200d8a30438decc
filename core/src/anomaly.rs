//! What stands out among decisions, and where a caller says that a question comes from.

use serde::{Deserialize, Serialize};

/// What stands out of one principal's decisions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// It asked for a registered identity to which it was never let through by a policy.
    UnexpectedPath,
    /// It asks more than three times as often as it used to.
    #[serde(rename = "rate_anomaly")]
    Rate {
        /// How often in this minute.
        times: u32,
        /// How often in a minute before.
        usual: u32,
    },
    /// Of the last hundred decisions, more than ten were denials.
    RepeatedDenials {
        /// How many.
        denied: u32,
    },
}

/// Where a question comes from, as the caller says. Nothing is decided by it: it is written down for
/// those who read on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Origin {
    /// The prompt that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
    /// On whose behalf: each on behalf of the one before, the first of all first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_chain: Vec<String>,
    /// Which data it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dataset_scope: Vec<String>,
    /// Techniques of MITRE ATLAS that the caller suspects, such as `AML.T0053`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub atlas_mapping: Vec<String>,
}

impl Origin {
    /// The longest text in it, in bytes.
    pub const MAX_TEXT: usize = 256;
    /// The most texts in one list.
    pub const MAX_LIST: usize = 16;

    /// Whether nothing is said.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every text and list is within its bound: what is not, nobody writes down.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        let lists = [&self.subject_chain, &self.dataset_scope, &self.atlas_mapping];
        let mut texts = lists.into_iter().flatten().chain(&self.prompt_id);
        lists.iter().all(|list| list.len() <= Self::MAX_LIST)
            && texts.all(|text| text.len() <= Self::MAX_TEXT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_says_is_bounded() {
        let origin = |prompt: usize, chain: usize| Origin {
            prompt_id: Some("p".repeat(prompt)),
            subject_chain: vec!["s".to_owned(); chain],
            ..Origin::default()
        };
        assert!(origin(Origin::MAX_TEXT, Origin::MAX_LIST).is_within_bounds());
        assert!(!origin(Origin::MAX_TEXT + 1, 0).is_within_bounds());
        assert!(!origin(0, Origin::MAX_LIST + 1).is_within_bounds());
        assert!(Origin::default().is_unknown());
    }
}
