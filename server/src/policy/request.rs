//! From an act to Cedar's principal, action, resource and context.

use std::collections::{HashMap, HashSet};
use std::error::Error;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};
use claviger_core::evidence::{Bond, Tier};
use claviger_core::grant::{
    IssueEar, IssueJwt, IssuePsk, IssueWit, IssueX509, IssueX509Ca, Requester,
};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::psk::PskBinding;
use claviger_core::svid::SvidTtl;
use claviger_core::time::UnixTime;

/// A question does not fit the schema: a mistake in this file, never in a policy.
type MalformedQuestion = Box<dyn Error + Send + Sync>;

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    IssueX509,
    IssueX509Ca,
    IssueJwt,
    IssueWit,
    IssueEar,
    IssuePsk,
    RedeemPsk,
    RedeemPskByIdentity,
}

impl Action {
    /// Its name in the schema.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::IssueX509 => "issue_x509",
            Self::IssueX509Ca => "issue_x509_ca",
            Self::IssueJwt => "issue_jwt",
            Self::IssueWit => "issue_wit",
            Self::IssueEar => "issue_ear",
            Self::IssuePsk => "issue_psk",
            Self::RedeemPsk => "redeem_psk",
            Self::RedeemPskByIdentity => "redeem_psk_by_identity",
        }
    }
}

/// One question to the policies.
#[derive(Debug)]
pub(super) struct Question {
    action: Action,
    principal: SpiffeId,
    resource: Resource,
    context: Vec<(String, RestrictedExpression)>,
}

#[derive(Debug)]
enum Resource {
    TrustDomain(TrustDomain),
    Identity(SpiffeId),
}

impl Question {
    pub(super) fn issue_x509(act: &IssueX509, trust_domain: &TrustDomain) -> Self {
        let names = act.contents.dns_names.iter().map(|name| text(name.as_str()));
        let names = ("dns_names".to_owned(), RestrictedExpression::new_set(names));
        let context = svid(&act.requester, act.contents.ttl).into_iter().chain([names]);
        Self {
            action: Action::IssueX509,
            principal: act.contents.subject.clone(),
            resource: Resource::TrustDomain(trust_domain.clone()),
            context: context.collect(),
        }
    }

    pub(super) fn issue_x509_ca(act: &IssueX509Ca, trust_domain: &TrustDomain) -> Self {
        Self {
            action: Action::IssueX509Ca,
            principal: act.server.clone(),
            resource: Resource::TrustDomain(trust_domain.clone()),
            context: vec![("ttl_seconds".to_owned(), seconds(act.ttl.as_secs().into()))],
        }
    }

    pub(super) fn issue_jwt(act: &IssueJwt, trust_domain: &TrustDomain) -> Self {
        let names = act.contents.audience.names().iter().map(|name| text(name));
        let audience = ("audience".to_owned(), RestrictedExpression::new_set(names));
        let context = svid(&act.requester, act.contents.ttl).into_iter().chain([audience]);
        Self {
            action: Action::IssueJwt,
            principal: act.contents.subject.clone(),
            resource: Resource::TrustDomain(trust_domain.clone()),
            context: context.collect(),
        }
    }

    pub(super) fn issue_wit(act: &IssueWit, trust_domain: &TrustDomain) -> Self {
        Self {
            action: Action::IssueWit,
            principal: act.contents.subject.clone(),
            resource: Resource::TrustDomain(trust_domain.clone()),
            context: svid(&act.requester, act.contents.ttl),
        }
    }

    pub(super) fn issue_ear(act: &IssueEar, trust_domain: &TrustDomain) -> Self {
        let appraisal = &act.contents.appraisal;
        let shown =
            Evidence { kind: &appraisal.kind, bond: appraisal.bond, tier: appraisal.tier() };
        let context = always(&act.requester, act.contents.ttl).into_iter().chain(shown.to_cedar());
        Self {
            action: Action::IssueEar,
            principal: act.contents.agent.clone(),
            resource: Resource::TrustDomain(trust_domain.clone()),
            context: context.collect(),
        }
    }

    pub(super) fn issue_psk(act: &IssuePsk, now: UnixTime) -> Self {
        let mut question = Self::connection(Action::IssuePsk, &act.binding, now);
        question.context.extend(evidence(&act.requester));
        question
    }

    pub(super) fn connection(action: Action, binding: &PskBinding, now: UnixTime) -> Self {
        let mut context = vec![
            ("purpose".to_owned(), text(binding.purpose.as_str())),
            ("ttl_seconds".to_owned(), seconds(binding.not_after.since(now).as_secs())),
        ];
        context.extend(binding.run.iter().map(|run| ("run".to_owned(), text(run.as_str()))));
        Self {
            action,
            principal: binding.client.clone(),
            resource: Resource::Identity(binding.server.clone()),
            context,
        }
    }

    pub(super) const fn action(&self) -> Action {
        self.action
    }

    /// The question in Cedar's terms, checked against `schema`.
    pub(super) fn to_cedar(
        &self,
        schema: &Schema,
    ) -> Result<(Request, Entities), MalformedQuestion> {
        let mut entities = vec![identity(&self.principal)?, domain(self.principal.trust_domain())?];
        let resource = match &self.resource {
            Resource::TrustDomain(name) => {
                if name != self.principal.trust_domain() {
                    entities.push(domain(name)?);
                }
                uid("TrustDomain", name.as_str())?
            }
            Resource::Identity(id) => {
                if id.trust_domain() != self.principal.trust_domain() {
                    entities.push(domain(id.trust_domain())?);
                }
                if *id != self.principal {
                    entities.push(identity(id)?);
                }
                uid("Identity", &id.to_string())?
            }
        };
        let request = Request::new(
            uid("Identity", &self.principal.to_string())?,
            uid("Action", self.action.name())?,
            resource,
            Context::from_pairs(self.context.clone())?,
            Some(schema),
        )?;
        // Checking the entities against the schema, too, would take longer than all the rest; the
        // tests do it.
        Ok((request, Entities::from_entities(entities, None)?))
    }
}

/// What a policy sees of every SVID.
fn svid(requester: &Requester, ttl: SvidTtl) -> Vec<(String, RestrictedExpression)> {
    always(requester, ttl).into_iter().chain(evidence(requester)).collect()
}

/// What a policy sees of everything that is signed.
fn always(requester: &Requester, ttl: SvidTtl) -> [(String, RestrictedExpression); 2] {
    let requester = match requester {
        Requester::Agent(_) => "agent",
        Requester::Operator { .. } => "operator",
        Requester::Admin(_) => "admin",
        Requester::Server => "server",
        Requester::Evidence { .. } => "evidence",
    };
    [
        ("requester".to_owned(), text(requester)),
        ("ttl_seconds".to_owned(), seconds(ttl.as_secs().into())),
    ]
}

/// What a policy sees of the evidence that was presented for it, if any was.
fn evidence(requester: &Requester) -> Option<(String, RestrictedExpression)> {
    let Requester::Evidence { id: _, kind, bond, tier } = requester else { return None };
    Evidence { kind, bond: *bond, tier: *tier }.to_cedar()
}

/// Evidence, as a policy sees it.
struct Evidence<'a> {
    kind: &'a str,
    bond: Bond,
    tier: Tier,
}

impl Evidence<'_> {
    fn to_cedar(&self) -> Option<(String, RestrictedExpression)> {
        let fields = [("kind", self.kind), ("bond", self.bond.name()), ("tier", self.tier.name())];
        let fields = fields.map(|(name, value)| (name.to_owned(), text(value)));
        // Fails only if a field is there twice.
        RestrictedExpression::new_record(fields).ok().map(|record| ("evidence".to_owned(), record))
    }
}

fn identity(id: &SpiffeId) -> Result<Entity, MalformedQuestion> {
    let attributes = HashMap::from([
        ("path".to_owned(), text(id.path())),
        ("trust_domain".to_owned(), text(id.trust_domain().as_str())),
        ("reserved".to_owned(), RestrictedExpression::new_bool(id.is_reserved())),
    ]);
    let parents = HashSet::from([uid("TrustDomain", id.trust_domain().as_str())?]);
    Ok(Entity::new(uid("Identity", &id.to_string())?, attributes, parents)?)
}

fn domain(name: &TrustDomain) -> Result<Entity, MalformedQuestion> {
    Ok(Entity::new_no_attrs(uid("TrustDomain", name.as_str())?, HashSet::new()))
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, MalformedQuestion> {
    let kind: EntityTypeName = kind.parse()?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn seconds(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_fit_the_schema() {
        let schema = super::super::load::schema().unwrap();
        let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
        let entities = [identity(&id).unwrap(), domain(id.trust_domain()).unwrap()];
        Entities::from_entities(entities, Some(&schema)).unwrap();
    }
}
