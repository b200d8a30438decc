//! What a program asks, and what it is told.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;
use std::sync::Arc;

use claviger_core::decision::{
    Action, Context, Decided, Parameter, ParseActionError, Party, Question, Resource, Transport,
    Verdict,
};
use claviger_core::entry::Entry;
use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::psk::{ParsePurposeError, Purpose};
use claviger_core::selector::Selectors;
use claviger_policy::local::Undecided;
use claviger_proto::claviger::policy::v1::{
    AuthorizeRequest, AuthorizeResponse, Transport as WireTransport,
    authorize_response::Verdict as WireVerdict,
};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::unix::Peer;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use tonic::Status;
use tracing::{debug, info, warn};

use super::PolicyDesk;
use crate::attestation::NO_IDENTITY;
use crate::credentials::Snapshot;
use crate::metrics;

/// The longest name of a version of TLS or of a group, in bytes.
const MAX_NAME: usize = 64;

/// The most parameters of a call.
const MAX_PARAMETERS: usize = 256;

/// What a process asks.
struct Asked {
    action: Action,
    principal: Option<SpiffeId>,
    /// Whom it is done to; the tool is in the action.
    other: Option<SpiffeId>,
    purpose: Option<Purpose>,
    transport: Option<Transport>,
    parameters: BTreeMap<String, Parameter>,
}

pub(super) async fn authorize(
    desk: &PolicyDesk,
    peer: &Peer,
    request: AuthorizeRequest,
) -> Result<AuthorizeResponse, AuthorizeError> {
    let asked = Asked::try_from(request)?;
    let own = desk.desk.identities(peer).await.map_err(AuthorizeError::Caller)?;
    let snapshot = desk.desk.snapshot().map_err(AuthorizeError::Caller)?;
    let question = asked.question(&own, &snapshot)?;
    let answer = decide(desk, question)?;
    metrics::decided(named(answer.verdict()));
    Ok(answer)
}

const fn named(verdict: WireVerdict) -> &'static str {
    match verdict {
        WireVerdict::Permit => "permit",
        WireVerdict::Observe => "observe",
        WireVerdict::Deny | WireVerdict::Unspecified => "deny",
    }
}

/// What is answered to `question`.
fn decide(desk: &PolicyDesk, question: Question) -> Result<AuthorizeResponse, AuthorizeError> {
    let decided = match desk.policies.local.decide(question, desk.desk.clock.now()) {
        Ok(decided) => decided,
        Err(why @ Undecided::Quarantined(_)) => {
            debug!(%why, "denied");
            return Ok(denial(desk, "one end is in quarantine"));
        }
        Err(why @ (Undecided::NoPolicies | Undecided::Untimely(_))) => {
            return Err(AuthorizeError::Undecided(why));
        }
    };
    let Decided { question, decision } = decided;
    for error in &decision.errors {
        warn!(error, action = %question.action, principal = %question.principal.id,
            "a policy cannot be evaluated, so it is denied");
    }
    let owed = decision.obligations;
    if decision.verdict != Verdict::Deny && (owed.approval || owed.rate.is_some()) {
        info!(action = %question.action, principal = %question.principal.id,
            "denied: only the server counts and asks humans; ask it, by `POST /v1/authorize`");
        return Ok(denial(desk, "it is limited or has to be approved of: ask the server"));
    }
    let verdict = match decision.verdict {
        Verdict::Permit => WireVerdict::Permit,
        Verdict::Observe => WireVerdict::Observe,
        Verdict::Deny => WireVerdict::Deny,
    };
    Ok(AuthorizeResponse {
        verdict: verdict.into(),
        policy: decision.policy.to_string(),
        policies: decision.policies,
        reasons: decision.reasons,
    })
}

/// A denial that no policy made.
fn denial(desk: &PolicyDesk, reason: &str) -> AuthorizeResponse {
    let policies = desk.policies.local.policies();
    AuthorizeResponse {
        verdict: WireVerdict::Deny.into(),
        policy: policies.map(|signed| signed.set().digest().to_string()).unwrap_or_default(),
        policies: Vec::new(),
        reasons: vec![reason.to_owned()],
    }
}

impl Asked {
    /// The question, if the caller, who is `own`, may ask it.
    fn question(self, own: &[Arc<Entry>], snapshot: &Snapshot) -> Result<Question, AuthorizeError> {
        let is_own = |id: &SpiffeId| own.iter().any(|entry| entry.spiffe_id == *id);
        let first = || own.first().map(|entry| entry.spiffe_id.clone());
        let principal = self.principal.or_else(first).ok_or(AuthorizeError::NotYours)?;
        let is_party = is_own(&principal) || self.other.as_ref().is_some_and(is_own);
        if !is_party {
            return Err(AuthorizeError::NotYours);
        }
        let resource = match (&self.action, self.other) {
            (_, Some(id)) => Resource::Identity(party(id, snapshot)),
            (Action::Call(tool), None) => Resource::Tool(tool.clone()),
            (_, None) => return Err(AuthorizeError::Action),
        };
        let context = Context {
            purpose: self.purpose,
            transport: self.transport,
            parameters: self.parameters,
            ..Context::default()
        };
        let principal = party(principal, snapshot);
        Ok(Question { principal, action: self.action, resource, context })
    }
}

/// What this agent knows of `id`: what all entries that give it ask for. Of identities elsewhere it
/// knows nothing.
fn party(id: SpiffeId, snapshot: &Snapshot) -> Party {
    let entries = snapshot.identities().iter().map(|identity| &identity.entry);
    let asked = entries.filter(|entry| entry.spiffe_id == id).map(|entry| entry.selectors.clone());
    let selectors: Selectors = asked.reduce(|all, next| &all & &next).unwrap_or_default();
    Party { selectors, ..Party::new(id) }
}

impl TryFrom<AuthorizeRequest> for Asked {
    type Error = AuthorizeError;

    fn try_from(request: AuthorizeRequest) -> Result<Self, AuthorizeError> {
        let AuthorizeRequest { action, principal, resource, purpose, transport, parameters } =
            request;
        let action: Action = action.parse()?;
        let named = |text: &str| match text {
            "" => Ok(None),
            id => id.parse().map(Some),
        };
        let principal = named(&principal).map_err(AuthorizeError::Principal)?;
        let other = match &action {
            Action::Connect => Some(resource.parse().map_err(AuthorizeError::Resource)?),
            Action::Call(tool) if resource.is_empty() || resource == tool.as_str() => None,
            Action::Call(_) => return Err(AuthorizeError::OtherTool),
            Action::IssueX509
            | Action::IssueX509Ca
            | Action::IssueJwt
            | Action::IssueWit
            | Action::IssueEar
            | Action::IssuePsk
            | Action::RedeemPsk
            | Action::RedeemPskByIdentity
            | Action::Ask
            | Action::Signal => return Err(AuthorizeError::Action),
        };
        let purpose = if purpose.is_empty() { None } else { Some(purpose.parse()?) };
        let parameters = match (&action, parameters.as_str()) {
            (_, "") => BTreeMap::new(),
            (Action::Call(_), json) => serde_json::from_str::<Parameters>(json)?.0,
            (_, _) => return Err(AuthorizeError::NoParameters),
        };
        let transport = transport.map(protected).transpose()?;
        Ok(Self { action, principal, other, purpose, transport, parameters })
    }
}

fn protected(wire: WireTransport) -> Result<Transport, AuthorizeError> {
    let WireTransport { tls, group, post_quantum } = wire;
    let is_name = |name: &str| {
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if is_name(&tls) && is_name(&group) {
        Ok(Transport { tls, group, post_quantum })
    } else {
        Err(AuthorizeError::Transport)
    }
}

/// A JSON object in which every name stands once: of two values, one would be decided about and the
/// other might be acted on.
struct Parameters(BTreeMap<String, Parameter>);

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the tool's parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut parameters = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Parameter>()? {
                    if MAX_PARAMETERS <= parameters.len() {
                        return Err(A::Error::custom(format!(
                            "more than {MAX_PARAMETERS} members"
                        )));
                    }
                    match parameters.entry(name) {
                        Slot::Vacant(slot) => drop(slot.insert(value)),
                        Slot::Occupied(_) => return Err(A::Error::custom("a member stands twice")),
                    }
                }
                Ok(Parameters(parameters))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// Why a question is not answered. A denial is an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorizeError {
    #[error(transparent)]
    ParseAction(#[from] ParseActionError),
    #[error("an agent decides about `connect`, and `call:` with the name of a tool")]
    Action,
    #[error("the principal is no SPIFFE ID")]
    Principal(#[source] ParseIdError),
    #[error("the resource is no SPIFFE ID")]
    Resource(#[source] ParseIdError),
    #[error("the resource is another tool than the action calls; name one, or leave it empty")]
    OtherTool,
    #[error("the purpose is none")]
    Purpose(#[from] ParsePurposeError),
    #[error(
        "a transport has the version of TLS and the group's name, of 1 to {MAX_NAME} printable characters each"
    )]
    Transport,
    #[error(
        "the parameters are no JSON object of flags, whole numbers, texts and lists of texts: {0}"
    )]
    Parameters(#[from] serde_json::Error),
    #[error("only a call has parameters")]
    NoParameters,
    #[error("the caller is neither end")]
    NotYours,
    #[error("nothing is decided: {0}")]
    Undecided(Undecided),
    #[error("the caller is not served")]
    Caller(Status),
}

impl From<AuthorizeError> for Status {
    fn from(error: AuthorizeError) -> Self {
        match error {
            AuthorizeError::Caller(status) => status,
            AuthorizeError::NotYours => Self::permission_denied(NO_IDENTITY),
            AuthorizeError::Undecided(why) => {
                metrics::decided("undecided");
                debug!(%why, "not decided");
                Self::unavailable(format!("{why}; nothing is permitted"))
            }
            AuthorizeError::ParseAction(_)
            | AuthorizeError::Action
            | AuthorizeError::Principal(_)
            | AuthorizeError::Resource(_)
            | AuthorizeError::OtherTool
            | AuthorizeError::Purpose(_)
            | AuthorizeError::Transport
            | AuthorizeError::Parameters(_)
            | AuthorizeError::NoParameters => Self::invalid_argument(Chain(&error).to_string()),
        }
    }
}
