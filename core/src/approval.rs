//! What a human approves of: one thing, exactly as it is asked, once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::bytes::Parts;
use crate::decision::{Parameter, Question, Resource};

/// Names what is to be approved of: a digest over the principal, the action, the resource, the purpose,
/// the run and every parameter. Whatever else is asked has another name.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApprovalId([u8; 32]);

impl ApprovalId {
    /// The name of what `question` asks.
    #[must_use]
    pub fn of(question: &Question) -> Self {
        let (kind, resource) = match &question.resource {
            Resource::TrustDomain(name) => ("trust_domain", name.to_string()),
            Resource::Identity(party) => ("identity", party.id.to_string()),
            Resource::Tool(name) => ("tool", name.to_string()),
        };
        let context = &question.context;
        let purpose = context.purpose.as_ref().map_or("", |purpose| purpose.as_str());
        let run = context.run.as_ref().map_or("", |run| run.as_str());
        let bytes = Parts::new("claviger approval v1")
            .part(question.principal.id.to_string().as_bytes())
            .part(question.action.to_string().as_bytes())
            .part(kind.as_bytes())
            .part(resource.as_bytes())
            .part(purpose.as_bytes())
            .part(run.as_bytes())
            .fixed(&digest_of_parameters(&context.parameters))
            .finish();
        Self(sha256(&bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The SHA-256 of parameters: of their JSON, with the names in order and nothing between.
#[must_use]
pub fn digest_of_parameters(parameters: &BTreeMap<String, Parameter>) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "a map of strings to plain values")]
    let json = serde_json::to_vec(parameters).expect("JSON in memory");
    sha256(&json)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApprovalId({self})")
    }
}

impl FromStr for ApprovalId {
    type Err = ParseApprovalIdError;

    fn from_str(text: &str) -> Result<Self, ParseApprovalIdError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_no_hex| ParseApprovalIdError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ApprovalId {
    type Error = ParseApprovalIdError;

    fn try_from(text: String) -> Result<Self, ParseApprovalIdError> {
        text.parse()
    }
}

impl From<ApprovalId> for String {
    fn from(id: ApprovalId) -> Self {
        id.to_string()
    }
}

/// A string names no approval.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "what is to be approved of is named by 64 hexadecimal digits, as the denial and `claviger approval list` do"
)]
pub struct ParseApprovalIdError;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Action, Context, Party};
    use crate::time::UnixTime;

    fn question() -> Question {
        let tool = "execute_trade".parse().unwrap();
        Question {
            principal: Party::new("spiffe://example.org/bot".parse().unwrap()),
            action: Action::Call("execute_trade".parse().unwrap()),
            resource: Resource::Tool(tool),
            context: Context {
                time: UnixTime::from_secs(7),
                purpose: Some("rebalance".parse().unwrap()),
                parameters: BTreeMap::from([
                    ("symbol".to_owned(), Parameter::Text("A".to_owned())),
                    ("amount".to_owned(), Parameter::Number(5)),
                ]),
                ..Context::default()
            },
        }
    }

    #[test]
    fn an_id_survives_its_spelling() {
        let id = ApprovalId::of(&question());
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "00", "g".repeat(64).as_str(), "0".repeat(66).as_str()] {
            assert_eq!(bad.parse::<ApprovalId>(), Err(ParseApprovalIdError), "{bad}");
        }
    }

    #[test]
    fn whatever_is_asked_otherwise_has_another_name() {
        let id = ApprovalId::of(&question());
        let changed = |change: &dyn Fn(&mut Question)| {
            let mut question = question();
            change(&mut question);
            ApprovalId::of(&question)
        };
        assert_eq!(changed(&|q| q.context.time = UnixTime::from_secs(9)), id, "time passes");
        let others: [&dyn Fn(&mut Question); 8] = [
            &|q| q.principal.id = "spiffe://example.org/other".parse().unwrap(),
            &|q| q.action = Action::Connect,
            &|q| q.resource = Resource::Tool("other".parse().unwrap()),
            &|q| q.context.purpose = None,
            &|q| q.context.run = Some("ci:1".parse().unwrap()),
            &|q| q.context.parameters.extend([("amount".to_owned(), Parameter::Number(6))]),
            &|q| q.context.parameters.extend([("amount".to_owned(), Parameter::Text("5".into()))]),
            &|q| q.context.parameters.retain(|name, _value| name != "amount"),
        ];
        for (number, other) in others.into_iter().enumerate() {
            assert_ne!(changed(other), id, "{number}");
        }
    }
}
