//! Questions to the policies, and the answers: what is written down of each, and can be asked again.
//!
//! A [`Question`] holds everything that a decision depends on beside the policies, whose
//! [`PolicyDigest`] is in the [`Decision`]: who asks again with the same policies gets the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::approval::ApprovalId;
use crate::evidence::{Bond, Tier};
use crate::grant::PolicyDigest;
use crate::id::{SpiffeId, TrustDomain};
use crate::psk::{Purpose, Run};
use crate::selector::Selectors;
use crate::standing::Risk;
use crate::time::UnixTime;

/// What is asked about. Written as policies name it, such as `issue_psk` or `call:execute_trade`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Action {
    /// To open a connection to the resource, or to take it in.
    Connect,
    /// To be given an X.509-SVID.
    IssueX509,
    /// To be given an authority for X.509-SVIDs, as a downstream server.
    IssueX509Ca,
    /// To be given a JWT-SVID.
    IssueJwt,
    /// To be given a WIT-SVID.
    IssueWit,
    /// To be the subject of a signed attestation result.
    IssueEar,
    /// To be given a one-time key for a connection to the resource.
    IssuePsk,
    /// To have such a key taken in by the resource.
    RedeemPsk,
    /// The same, with nothing but the key's name to show for it.
    RedeemPskByIdentity,
    /// To call a tool.
    Call(ToolName),
    /// To ask on behalf of the resource, as a gateway does.
    Ask,
    /// To say how much the resource is risked.
    Signal,
}

impl Action {
    /// Every action but those of tools.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::IssueX509,
        Self::IssueX509Ca,
        Self::IssueJwt,
        Self::IssueWit,
        Self::IssueEar,
        Self::IssuePsk,
        Self::RedeemPsk,
        Self::RedeemPskByIdentity,
        Self::Ask,
        Self::Signal,
    ];

    /// What the action of every tool begins with.
    pub const CALL: &str = "call:";

    /// The name, or, of a call, the kind of name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::IssueX509 => "issue_x509",
            Self::IssueX509Ca => "issue_x509_ca",
            Self::IssueJwt => "issue_jwt",
            Self::IssueWit => "issue_wit",
            Self::IssueEar => "issue_ear",
            Self::IssuePsk => "issue_psk",
            Self::RedeemPsk => "redeem_psk",
            Self::RedeemPskByIdentity => "redeem_psk_by_identity",
            Self::Call(_) => "call",
            Self::Ask => "ask",
            Self::Signal => "signal",
        }
    }

    /// Whether it is done for a purpose: to reach somebody, to have a key for that, or to call a tool.
    #[must_use]
    pub const fn has_purpose(&self) -> bool {
        match self {
            Self::Connect
            | Self::IssuePsk
            | Self::RedeemPsk
            | Self::RedeemPskByIdentity
            | Self::Call(_) => true,
            Self::IssueX509
            | Self::IssueX509Ca
            | Self::IssueJwt
            | Self::IssueWit
            | Self::IssueEar
            | Self::Ask
            | Self::Signal => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(tool) => write!(f, "{}{tool}", Self::CALL),
            Self::Connect
            | Self::IssueX509
            | Self::IssueX509Ca
            | Self::IssueJwt
            | Self::IssueWit
            | Self::IssueEar
            | Self::IssuePsk
            | Self::RedeemPsk
            | Self::RedeemPskByIdentity
            | Self::Ask
            | Self::Signal => f.write_str(self.kind()),
        }
    }
}

impl FromStr for Action {
    type Err = ParseActionError;

    fn from_str(text: &str) -> Result<Self, ParseActionError> {
        if let Some(tool) = text.strip_prefix(Self::CALL) {
            return tool.parse().map(Self::Call).map_err(|_no_tool| ParseActionError);
        }
        Self::ALL.into_iter().find(|action| action.kind() == text).ok_or(ParseActionError)
    }
}

impl TryFrom<String> for Action {
    type Error = ParseActionError;

    fn try_from(text: String) -> Result<Self, ParseActionError> {
        text.parse()
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.to_string()
    }
}

/// A string names no action.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "there is no such action; the actions are connect, issue_x509, issue_x509_ca, issue_jwt, issue_wit, issue_ear, issue_psk, redeem_psk, redeem_psk_by_identity, ask, signal and `call:` with the name of a tool"
)]
pub struct ParseActionError;

/// The name of a tool or a method, such as `execute_trade`: 1 to [`Self::MAX_LEN`] characters of
/// `A-Z a-z 0-9 . _ / -`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolName(Box<str>);

impl ToolName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ToolName {
    type Err = ParseToolNameError;

    fn from_str(text: &str) -> Result<Self, ParseToolNameError> {
        let sound = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
        if sound { Ok(Self(text.into())) } else { Err(ParseToolNameError) }
    }
}

impl TryFrom<String> for ToolName {
    type Error = ParseToolNameError;

    fn try_from(text: String) -> Result<Self, ParseToolNameError> {
        text.parse()
    }
}

impl From<ToolName> for String {
    fn from(name: ToolName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string is not the name of a tool.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a tool's name has 1 to {max} characters of `A-Z a-z 0-9 . _ / -`", max = ToolName::MAX_LEN)]
pub struct ParseToolNameError;

/// An identity, and what is known of it at the moment. What is registered of it stands beside the
/// policies.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Which.
    pub id: SpiffeId,
    /// What was attested of whoever has it; what all of them have in common, if there are several.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub selectors: Selectors,
    /// How far the evidence of its node, or its own, is to be trusted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tier: Tier,
    /// How much it is risked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub risk: Risk,
}

impl Party {
    /// An identity of which nothing is known.
    #[must_use]
    pub const fn new(id: SpiffeId) -> Self {
        Self { id, selectors: Selectors::new(), tier: Tier::None, risk: Risk::NONE }
    }
}

/// What an action is done to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The server's trust domain, which issues.
    TrustDomain(TrustDomain),
    /// An identity, to which one connects.
    Identity(Party),
    /// A tool, which is called.
    Tool(ToolName),
}

/// What else is asked to be known: each action takes of it what concerns it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Context {
    /// When it is asked.
    pub time: UnixTime,
    /// On whose word, of what is issued: `agent`, `operator`, `admin`, `server` or `evidence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// What was presented for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceShown>,
    /// The DNS names of a certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// For whom a token is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    /// How long what is issued lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// For which run of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// How the connection is, or will be, protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// What a tool is called with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Parameter>,
}

/// Evidence, as a policy sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceShown {
    /// The kind, such as `x509pop`.
    pub kind: String,
    /// What keeps others from presenting it.
    pub bond: Bond,
    /// How far it is to be trusted.
    pub tier: Tier,
    /// How long ago it was judged.
    #[serde(default)]
    pub age_seconds: u64,
}

/// How a connection is protected.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// The version of TLS, such as `1.3`.
    pub tls: String,
    /// The group of the key exchange by its name at IANA, such as `X25519MLKEM768`.
    pub group: String,
    /// Whether that withstands a quantum computer.
    pub post_quantum: bool,
}

/// The value of a tool's parameter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
    /// Texts, of which neither order nor number counts.
    Texts(BTreeSet<String>),
}

/// One question to the policies.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Who wants it.
    pub principal: Party,
    /// What.
    pub action: Action,
    /// To what.
    pub resource: Resource,
    /// What else is known.
    pub context: Context,
}

impl Question {
    /// That of the principal or of the resource, whichever is greater.
    #[must_use]
    pub fn risk(&self) -> Risk {
        let other = match &self.resource {
            Resource::Identity(party) => party.risk,
            Resource::TrustDomain(_) | Resource::Tool(_) => Risk::NONE,
        };
        self.principal.risk.max(other)
    }
}

/// What the policies say to a question.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A policy permits it, and none forbids it.
    Permit,
    /// It would be denied, and is let through, because a policy says to observe only.
    Observe,
    /// No policy permits it, or one forbids it.
    Deny,
}

/// How much is written down of a call.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditLevel {
    /// Who called what, and digests of the parameters.
    #[default]
    Standard,
    /// The parameters' names, too.
    Detailed,
    /// The parameters themselves, too.
    Full,
}

/// How often something may be done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many times at most, at no risk; at more, less (see [`Risk::shrink`]).
    pub times: u32,
    /// In so many seconds.
    pub seconds: u32,
}

/// What has to be done, too, because a policy that permits says so. Of several such policies, the
/// strictest of each counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Obligations {
    /// How often it may be done by the same principal, to the same resource, for the same purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether a human has to approve of exactly this, once each time.
    #[serde(skip_serializing_if = "is_default")]
    pub approval: bool,
    /// How much is written down.
    #[serde(skip_serializing_if = "is_default")]
    pub audit: AuditLevel,
}

/// The policies' answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What they say.
    pub verdict: Verdict,
    /// Which policies were asked.
    pub policy: PolicyDigest,
    /// Those that made it so, each as `file.cedar#name`; none if nothing permits it.
    pub policies: Vec<String>,
    /// What those say of themselves by `@reason`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Policies that only observe, and would have denied it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<String>,
    /// Policies that could not be evaluated, and why: unless they only observe, it is denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What has to be done, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub obligations: Obligations,
}

impl Decision {
    /// A denial that no policy made, for these reasons.
    #[must_use]
    pub const fn denial(policy: PolicyDigest, reasons: Vec<String>) -> Self {
        Self {
            verdict: Verdict::Deny,
            policy,
            policies: Vec::new(),
            reasons,
            observed: Vec::new(),
            errors: Vec::new(),
            obligations: Obligations { rate: None, approval: false, audit: AuditLevel::Standard },
        }
    }
}

/// A question and its answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// What was asked.
    pub question: Question,
    /// What was answered.
    pub decision: Decision,
}

impl Decided {
    /// The name of this decision: 32 hexadecimal digits of the SHA-256 of its JSON, so that it can be
    /// found out from the record. The same question at the same second has the same name.
    #[must_use]
    pub fn id(&self) -> String {
        #[expect(clippy::expect_used, reason = "our types have no map whose keys are not strings")]
        let json = serde_json::to_vec(self).expect("JSON in memory");
        let hash = digest(&SHA256, &json);
        hex::encode(hash.as_ref().first_chunk::<16>().unwrap_or(&[0; 16]))
    }
}

/// Why something may not be done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No policy permits it, or one forbids it.
    Policy,
    /// One end is in quarantine: policies were not asked.
    Quarantined(SpiffeId),
    /// No entry gives anybody this identity: policies were not asked.
    Unregistered(SpiffeId),
    /// The approval that was shown is for something else: policies were not asked.
    OtherApproval,
    /// It was done as often as it may be for now.
    Rate,
    /// A human has to approve of it first, by this name.
    Approval(ApprovalId),
    /// A human was asked, and said no.
    Refused(ApprovalId),
    /// The policies that permit it demand `@rate` or `@approval`, of which there is none for the action.
    Unmet,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_one_spelling() {
        let tool = Action::Call("mail/send".parse().unwrap());
        for action in Action::ALL.into_iter().chain([tool]) {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        for bad in ["", "call", "call:", "call:two words", "Connect", "issue"] {
            assert_eq!(bad.parse::<Action>(), Err(ParseActionError), "{bad}");
        }
    }

    #[test]
    fn a_question_survives_storage_and_says_no_more_than_it_has_to() {
        let question = Question {
            principal: Party::new("spiffe://example.org/web".parse().unwrap()),
            action: Action::Connect,
            resource: Resource::Identity(Party::new("spiffe://example.org/db".parse().unwrap())),
            context: Context {
                time: UnixTime::from_secs(7),
                purpose: Some("read".parse().unwrap()),
                ..Context::default()
            },
        };
        let json = serde_json::to_string(&question).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"principal":{"id":"spiffe://example.org/web"},"action":"connect","#,
                r#""resource":{"identity":{"id":"spiffe://example.org/db"}},"#,
                r#""context":{"time":7,"purpose":"read"}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Question>(&json).unwrap(), question);
    }

    #[test]
    fn a_parameter_is_what_its_json_looks_like() {
        for (json, parameter) in [
            ("true", Parameter::Flag(true)),
            ("-3", Parameter::Number(-3)),
            (r#""a""#, Parameter::Text("a".to_owned())),
            (r#"["a","b"]"#, Parameter::Texts(["a".to_owned(), "b".to_owned()].into())),
        ] {
            assert_eq!(serde_json::from_str::<Parameter>(json).unwrap(), parameter);
        }
        for bad in ["null", "1.5", "{}", "[1]", "99999999999999999999"] {
            serde_json::from_str::<Parameter>(bad).unwrap_err();
        }
    }
}
