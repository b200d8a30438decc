//! From a question to a decision.

use cedar_policy::{
    Authorizer, Decision as CedarDecision, Entities, PolicySet as CedarPolicies, Request, Schema,
};
use claviger_core::decision::{Decision, Question, Verdict};
use claviger_core::grant::PolicyDigest;

use crate::ask;
use crate::load::{self, LoadError};
use crate::source::Source;

/// Policies that are right as a whole.
#[derive(Debug)]
pub struct PolicySet {
    source: Source,
    digest: PolicyDigest,
    schema: Schema,
    policies: CedarPolicies,
}

impl PolicySet {
    /// The policies of `source`.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the file, the line and the reason.
    pub fn compile(source: Source) -> Result<Self, LoadError> {
        let schema = load::schema()?;
        let policies = load::policies(&source, &schema)?;
        Ok(Self { digest: source.digest(), source, schema, policies })
    }

    /// Names these policies in the audit log.
    #[must_use]
    pub const fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// What they were made of.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// How many policies there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.policies.num_of_policies()
    }

    /// What they are checked against.
    pub(crate) const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The policies, as Cedar has them.
    pub(crate) const fn cedar(&self) -> &CedarPolicies {
        &self.policies
    }

    /// `question` in Cedar's terms.
    pub(crate) fn asked(
        &self,
        question: &Question,
    ) -> Result<(Request, Entities), ask::MalformedQuestion> {
        ask::to_cedar(question, &self.schema)
    }

    /// What they say to `question`.
    #[must_use]
    pub fn decide(&self, question: &Question) -> Decision {
        let denied = |errors| Decision { errors, ..Decision::denial(self.digest, Vec::new()) };
        let (request, entities) = match ask::to_cedar(question, &self.schema) {
            Ok(asked) => asked,
            Err(malformed) => return denied(vec![malformed.to_string()]),
        };
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        let diagnostics = response.diagnostics();
        // Cedar leaves out a policy that fails, be it a `forbid`. We take no chances.
        let errors: Vec<_> = diagnostics.errors().map(ToString::to_string).collect();
        if !errors.is_empty() {
            return denied(errors);
        }
        let verdict = match response.decision() {
            CedarDecision::Allow => Verdict::Permit,
            CedarDecision::Deny => Verdict::Deny,
        };
        let mut policies: Vec<_> = diagnostics.reason().map(ToString::to_string).collect();
        policies.sort_unstable();
        Decision { verdict, policies, ..denied(Vec::new()) }
    }
}
