//! What is asked by others on behalf of those who act, and what others say of them.

use claviger_core::decision::{Action, Context, Decided, Decision, Question, Resource, Why};
use claviger_core::id::SpiffeId;

use super::{Asked, Denied, Met, Policies};

impl Policies {
    /// Whether `gateway` may ask for decisions on behalf of `subject`.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn may_ask(&self, gateway: &SpiffeId, subject: &SpiffeId) -> Result<(), Denied> {
        self.between(Action::Ask, gateway, subject)
    }

    /// Whether `caller` may say how much `subject` is risked.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn may_signal(&self, caller: &SpiffeId, subject: &SpiffeId) -> Result<(), Denied> {
        self.between(Action::Signal, caller, subject)
    }

    /// The question whether `subject` may do `action` to `resource` now, with what is known of both, and
    /// with what the caller says in `context`.
    pub(crate) fn question(
        &self,
        subject: &SpiffeId,
        action: Action,
        resource: Resource,
        context: Context,
    ) -> Question {
        let resource = match resource {
            Resource::Identity(party) => Resource::Identity(self.party(&party.id, None)),
            other @ (Resource::TrustDomain(_) | Resource::Tool(_)) => other,
        };
        let context = Context { time: self.now(), ..context };
        Question { principal: self.party(subject, None), action, resource, context }
    }

    /// Answers `question`.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it, and what it demands is met.
    pub(crate) fn authorize(&self, question: Question) -> Result<(Box<Decided>, Met), Denied> {
        let decided = self.ask(question)?;
        let met = self.meet(&decided)?;
        Ok((decided, met))
    }

    /// Denies `question` for what is known of it beside the policies.
    pub(crate) fn deny(&self, question: Question, why: Why) -> Denied {
        let decision = Decision::denial(self.current().digest(), Vec::new());
        Denied { decided: Box::new(Decided { question, decision }), why }
    }

    fn between(&self, action: Action, caller: &SpiffeId, subject: &SpiffeId) -> Result<(), Denied> {
        let resource = Resource::Identity(self.party(subject, None));
        let question = self.question(caller, action, resource, Context::default());
        self.ask_for(question, &Asked::default()).map(drop)
    }
}
