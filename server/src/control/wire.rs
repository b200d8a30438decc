//! What is asked, as it stands in a body: AuthZEN's Authorization API 1.0 §5 to §7, and signals of risk.
//! Every byte of it is somebody else's.

use std::collections::BTreeMap;
use std::fmt;

use claviger_core::approval::ApprovalId;
use claviger_core::decision::Transport;
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::standing::{Reason, Risk};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The most members of one object.
const MAX_MEMBERS: usize = 64;

/// One question (§6.1). What it says beyond what is known here is kept by name: then it is denied.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Evaluation {
    pub(crate) subject: Option<Entity>,
    pub(crate) action: Option<Verb>,
    pub(crate) resource: Option<Entity>,
    pub(crate) context: Option<Members>,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, IgnoredAny>,
}

/// Several questions (§7.1). What stands beside them holds for each that does not say otherwise.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Evaluations {
    pub(crate) subject: Option<Entity>,
    pub(crate) action: Option<Verb>,
    pub(crate) resource: Option<Entity>,
    pub(crate) context: Option<Members>,
    #[serde(default)]
    pub(crate) evaluations: Vec<Evaluation>,
    #[serde(default)]
    pub(crate) options: Options,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, IgnoredAny>,
}

/// How several questions are answered (§7.1.2).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    #[serde(default)]
    pub(crate) evaluations_semantic: Semantic,
}

/// When to stop (§7.1.2.1).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Semantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

/// A subject or a resource (§5.1, §5.2).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entity {
    pub(crate) r#type: String,
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) properties: Option<Members>,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, IgnoredAny>,
}

/// An action (§5.3). Its properties are what a tool is called with.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Verb {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) properties: Option<Members>,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, IgnoredAny>,
}

/// The members of an object, each there once: of two with the same name, others might read the one that
/// was not looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members(pub(crate) BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                    if MAX_MEMBERS < members.len() {
                        return Err(A::Error::custom(format!("more than {MAX_MEMBERS} members")));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// What is understood of a context (§5.4).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    pub(crate) purpose: Purpose,
    pub(crate) transport: Option<Transport>,
    /// The approval that the gateway was told to wait for.
    pub(crate) approval: Option<ApprovalId>,
    pub(crate) prompt_id: Option<String>,
    #[serde(default)]
    pub(crate) subject_chain: Vec<String>,
    #[serde(default)]
    pub(crate) dataset_scope: Texts,
    #[serde(default)]
    pub(crate) atlas_mapping: Texts,
}

/// One text, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Several(texts) => texts,
        }
    }
}

/// `POST /v1/risk`: one of `risk` and `quarantine`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signal {
    pub(crate) spiffe_id: SpiffeId,
    /// In percent.
    pub(crate) risk: Option<Risk>,
    /// Whether it is to be in quarantine.
    pub(crate) quarantine: Option<bool>,
    pub(crate) reason: Reason,
}
