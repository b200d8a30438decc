//! From what is to be done to the question whether it may be.

use claviger_core::decision::{Action, Context, EvidenceShown, Party, Question, Resource};
use claviger_core::grant::{
    IssueEar, IssueJwt, IssuePsk, IssueWit, IssueX509, IssueX509Ca, RedeemPsk, Requester,
};
use claviger_core::id::SpiffeId;
use claviger_core::psk::PskBinding;
use claviger_core::svid::SvidTtl;

use super::Policies;

impl Policies {
    pub(super) fn about_x509(&self, act: &IssueX509) -> Question {
        let names = act.contents.dns_names.iter().map(|name| name.as_str().to_owned());
        let context = Context {
            dns_names: names.collect(),
            ..self.issuing(&act.requester, act.contents.ttl)
        };
        self.about_issuing(Action::IssueX509, &act.contents.subject, context)
    }

    pub(super) fn about_x509_ca(&self, act: &IssueX509Ca) -> Question {
        let context =
            Context { ttl_seconds: Some(act.ttl.as_secs().into()), ..self.now_and_nothing() };
        self.about_issuing(Action::IssueX509Ca, &act.server, context)
    }

    pub(super) fn about_jwt(&self, act: &IssueJwt) -> Question {
        let context = Context {
            audience: act.contents.audience.names().to_vec(),
            ..self.issuing(&act.requester, act.contents.ttl)
        };
        self.about_issuing(Action::IssueJwt, &act.contents.subject, context)
    }

    pub(super) fn about_wit(&self, act: &IssueWit) -> Question {
        let context = self.issuing(&act.requester, act.contents.ttl);
        self.about_issuing(Action::IssueWit, &act.contents.subject, context)
    }

    pub(super) fn about_ear(&self, act: &IssueEar) -> Question {
        let appraisal = &act.contents.appraisal;
        let evidence = Some(EvidenceShown {
            kind: appraisal.kind.clone(),
            bond: appraisal.bond,
            tier: appraisal.tier(),
            age_seconds: self.now().since(act.contents.appraised_at).as_secs(),
        });
        let context = Context { evidence, ..self.issuing(&act.requester, act.contents.ttl) };
        self.about_issuing(Action::IssueEar, &act.contents.agent, context)
    }

    pub(super) fn about_psk(&self, act: &IssuePsk) -> Question {
        let evidence = self.evidence(&act.requester);
        self.about_connection(Action::IssuePsk, &act.binding, evidence)
    }

    pub(super) fn about_redeeming(&self, action: Action, act: &RedeemPsk) -> Question {
        self.about_connection(action, &act.binding, None)
    }

    fn about_connection(
        &self,
        action: Action,
        binding: &PskBinding,
        evidence: Option<EvidenceShown>,
    ) -> Question {
        let context = Context {
            evidence,
            purpose: Some(binding.purpose.clone()),
            ttl_seconds: Some(binding.not_after.since(self.now()).as_secs()),
            run: binding.run.clone(),
            ..self.now_and_nothing()
        };
        Question {
            principal: self.party(&binding.client, context.evidence.as_ref()),
            action,
            resource: Resource::Identity(self.party(&binding.server, None)),
            context,
        }
    }

    /// The trust domain issues something to `principal`.
    fn about_issuing(&self, action: Action, principal: &SpiffeId, context: Context) -> Question {
        Question {
            principal: self.party(principal, context.evidence.as_ref()),
            action,
            resource: Resource::TrustDomain(self.0.trust_domain.clone()),
            context,
        }
    }

    /// What is asked of every SVID.
    fn issuing(&self, requester: &Requester, ttl: SvidTtl) -> Context {
        let name = match requester {
            Requester::Agent(_) => "agent",
            Requester::Operator { .. } => "operator",
            Requester::Admin(_) => "admin",
            Requester::Peer(_) => "peer",
            Requester::Server => "server",
            Requester::Evidence { .. } => "evidence",
        };
        Context {
            requester: Some(name.to_owned()),
            evidence: self.evidence(requester),
            ttl_seconds: Some(ttl.as_secs().into()),
            ..self.now_and_nothing()
        }
    }

    fn now_and_nothing(&self) -> Context {
        Context { time: self.now(), ..Context::default() }
    }

    /// What was presented for it: by whoever gets it, or by the agent that asks for it.
    fn evidence(&self, requester: &Requester) -> Option<EvidenceShown> {
        match requester {
            Requester::Evidence { id: _, kind, bond, tier } => {
                let (kind, bond, tier) = (kind.clone(), *bond, *tier);
                Some(EvidenceShown { kind, bond, tier, age_seconds: 0 })
            }
            Requester::Agent(agent) => self.0.known.evidence(agent, self.now()),
            Requester::Operator { .. }
            | Requester::Admin(_)
            | Requester::Peer(_)
            | Requester::Server => None,
        }
    }

    /// The identity, and what is known of it now.
    pub(super) fn party(&self, id: &SpiffeId, evidence: Option<&EvidenceShown>) -> Party {
        Party {
            selectors: self.0.known.selectors(id),
            tier: evidence.map(|shown| shown.tier).unwrap_or_default(),
            risk: self.0.standings.of(id).risk,
            ..Party::new(id.clone())
        }
    }
}
