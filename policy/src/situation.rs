//! A question as people write it: who, what, to what, and only what is out of the ordinary.

use std::collections::BTreeMap;

use claviger_core::decision::{
    Action, Context, EvidenceShown, Parameter, Party, Question, Resource, ToolName, Transport,
};
use claviger_core::evidence::Tier;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::psk::{Purpose, Run};
use claviger_core::selector::Selectors;
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;
use serde::Deserialize;

/// When it is asked if nobody says when: 2026-01-01T00:00:00Z.
pub const ORDINARY_TIME: UnixTime = UnixTime::from_secs(1_767_225_600);

/// What is known beside who wants what. Everything has an ordinary value: no risk, nothing attested,
/// `requester` an agent, keys for a minute and SVIDs for an hour, asked at [`ORDINARY_TIME`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Situation {
    /// How much the principal is risked.
    pub risk: Risk,
    /// How far the principal's evidence is to be trusted.
    pub tier: Tier,
    /// What was attested of the principal.
    pub selectors: Selectors,
    /// The same of the resource, if that is an identity.
    pub resource: Other,
    /// When.
    pub time: Option<UnixTime>,
    /// On whose word, of what is issued.
    pub requester: Option<String>,
    /// What was presented for it.
    pub evidence: Option<EvidenceShown>,
    /// The DNS names of a certificate.
    pub dns_names: Vec<String>,
    /// For whom a token is.
    pub audience: Vec<String>,
    /// How long what is issued lasts.
    pub ttl_seconds: Option<u64>,
    /// For which run of the client.
    pub run: Option<Run>,
    /// How the connection is protected.
    pub transport: Option<Transport>,
    /// What a tool is called with.
    pub parameters: BTreeMap<String, Parameter>,
}

/// What is known of the resource.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Other {
    /// How much it is risked.
    pub risk: Risk,
    /// How far its evidence is to be trusted.
    pub tier: Tier,
    /// What was attested of it.
    pub selectors: Selectors,
}

impl Situation {
    /// The question whether `principal` may do `action` to `resource`, for `purpose`.
    ///
    /// The resource is an identity, or, for what is issued, a trust domain: the principal's, if it is
    /// not named. Of a call it is the tool, which the action names already.
    ///
    /// # Errors
    ///
    /// [`SituationError`] if the resource is missing, or of the wrong kind.
    pub fn asked(
        self,
        principal: SpiffeId,
        action: Action,
        resource: Option<&str>,
        purpose: Option<Purpose>,
    ) -> Result<Question, SituationError> {
        let resource = self.resource(&principal, &action, resource)?;
        let ttl = match action {
            Action::IssuePsk | Action::RedeemPsk | Action::RedeemPskByIdentity => 60,
            Action::Connect
            | Action::IssueX509
            | Action::IssueX509Ca
            | Action::IssueJwt
            | Action::IssueWit
            | Action::IssueEar
            | Action::Call(_)
            | Action::Ask
            | Action::Signal => 3_600,
        };
        Ok(Question {
            principal: Party {
                id: principal,
                selectors: self.selectors,
                tier: self.tier,
                risk: self.risk,
            },
            action,
            resource,
            context: Context {
                time: self.time.unwrap_or(ORDINARY_TIME),
                requester: Some(self.requester.unwrap_or_else(|| "agent".to_owned())),
                evidence: self.evidence,
                dns_names: self.dns_names,
                audience: self.audience,
                ttl_seconds: Some(self.ttl_seconds.unwrap_or(ttl)),
                purpose,
                run: self.run,
                transport: self.transport,
                parameters: self.parameters,
            },
        })
    }

    fn resource(
        &self,
        principal: &SpiffeId,
        action: &Action,
        named: Option<&str>,
    ) -> Result<Resource, SituationError> {
        let wrong = |kind| {
            let named = named.unwrap_or_default().to_owned();
            move || SituationError { action: action.clone(), named, kind }
        };
        match action {
            Action::Call(tool) => match named.map(str::parse::<ToolName>) {
                None => Ok(Resource::Tool(tool.clone())),
                Some(Ok(named)) if named == *tool => Ok(Resource::Tool(named)),
                Some(_) => Err(wrong("the tool that the action names, or nothing")()),
            },
            Action::IssueX509
            | Action::IssueX509Ca
            | Action::IssueJwt
            | Action::IssueWit
            | Action::IssueEar => {
                let named = named.map(|name| name.strip_prefix("spiffe://").unwrap_or(name));
                let own = || Ok(principal.trust_domain().clone());
                let domain = named.map_or_else(own, str::parse::<TrustDomain>);
                domain
                    .map(Resource::TrustDomain)
                    .map_err(|_no_domain| wrong("a trust domain, or nothing")())
            }
            Action::Connect
            | Action::IssuePsk
            | Action::RedeemPsk
            | Action::RedeemPskByIdentity
            | Action::Ask
            | Action::Signal => {
                let id = named.unwrap_or_default().parse();
                let id = id.map_err(|_no_identity| wrong("a SPIFFE ID")())?;
                let Other { risk, tier, selectors } = self.resource.clone();
                Ok(Resource::Identity(Party { id, selectors, tier, risk }))
            }
        }
    }
}

/// What is asked about is not what the action is done to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the resource of `{action}` is {kind}, not `{named}`")]
pub struct SituationError {
    action: Action,
    named: String,
    kind: &'static str,
}
