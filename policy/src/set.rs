//! From a question to a decision.

use cedar_policy::{Entities, PolicySet as CedarPolicies, Request, Schema};
use claviger_core::decision::{Action, Decision, Party, Question, Resource, Verdict};
use claviger_core::grant::PolicyDigest;
use claviger_core::psk::Purpose;

use crate::ask::{Asked, Known, MalformedQuestion};
use crate::groups::Groups;
use crate::guard::{Facts, Seen};
use crate::identities::Identities;
use crate::index::{Index, Lineage};
use crate::load::{LoadError, Loaded};
use crate::policy::Policy;
use crate::rule::{Does, Rule, strictest};
use crate::source::Source;
use crate::tools::Tools;

/// Policies that are right as a whole.
#[derive(Debug)]
pub struct PolicySet {
    source: Source,
    digest: PolicyDigest,
    schema: Schema,
    known: Known,
    policies: Vec<Policy>,
    index: Index,
    /// All policies, as Cedar has them together.
    cedar: CedarPolicies,
}

/// The policies that match a question.
#[derive(Debug, Default)]
struct Matching<'a> {
    permits: Vec<&'a Rule>,
    forbids: Vec<&'a Rule>,
    observing_permits: Vec<&'a Rule>,
    observing_forbids: Vec<&'a Rule>,
    /// What was wrong with those that could not be evaluated, and with those of them that only
    /// observe.
    errors: Vec<String>,
    observing_errors: Vec<String>,
}

impl PolicySet {
    /// The policies of `source`.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the file, the line and the reason.
    pub fn compile(source: Source) -> Result<Self, LoadError> {
        let Loaded { groups, identities, tools, schema, policies } = Loaded::of(&source)?;
        let unusable = |error: MalformedQuestion| {
            LoadError::new("schema.cedarschema", None, error.to_string())
        };
        let known = Known::new(groups, identities, tools, &schema).map_err(unusable)?;
        let index = Index::new(&policies);
        let twice = |rule: &Rule, error: &dyn std::error::Error| {
            LoadError::new(&rule.name, rule.line, error.to_string())
        };
        let mut cedar = CedarPolicies::new();
        let mut compiled = Vec::with_capacity(policies.len());
        for (policy, rule) in policies {
            cedar.add(policy.clone()).map_err(|error| twice(&rule, &error))?;
            compiled.push(Policy::new(policy, rule, &known)?);
        }
        let digest = source.digest();
        Ok(Self { source, digest, schema, known, policies: compiled, index, cedar })
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
    pub const fn count(&self) -> usize {
        self.policies.len()
    }

    /// What each policy says of itself, in the order of files and lines.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.policies.iter().map(Policy::rule)
    }

    /// What is registered of identities.
    #[must_use]
    pub const fn identities(&self) -> &Identities {
        &self.known.identities
    }

    /// The groups of identities and tools.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.known.groups
    }

    /// The tools that can be called.
    #[must_use]
    pub const fn tools(&self) -> &Tools {
        &self.known.tools
    }

    /// What they are checked against.
    pub(crate) const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The policies, as Cedar has them.
    pub(crate) const fn cedar(&self) -> &CedarPolicies {
        &self.cedar
    }

    /// `question` in Cedar's terms, with everything that any policy could look at.
    pub(crate) fn asked(
        &self,
        question: &Question,
    ) -> Result<(Request, Entities), MalformedQuestion> {
        let asked = Asked::new(question, &self.schema, &self.known)?;
        let looked_at = self.policies.iter().flat_map(Policy::looks_at);
        let entities = asked.entities(question, &self.known, looked_at.collect())?;
        Ok((asked.request, entities))
    }

    /// What they say to `question`.
    #[must_use]
    pub fn decide(&self, question: &Question) -> Decision {
        if let Err(reason) = self.check_call(question) {
            return Decision::denial(self.digest, vec![reason]);
        }
        match self.matching(question) {
            Ok(matching) => matching.decide(self.digest),
            Err(malformed) => Decision {
                errors: vec![malformed.to_string()],
                ..Decision::denial(self.digest, Vec::new())
            },
        }
    }

    /// Refuses a call of a tool that is not declared, or of another than the resource, or with other
    /// parameters than declared. The error is the reason.
    fn check_call(&self, question: &Question) -> Result<(), String> {
        let Action::Call(name) = &question.action else { return Ok(()) };
        let tool = self.tools().named(name);
        let tool = tool.ok_or_else(|| format!("there is no tool `{name}`"))?;
        if question.resource != Resource::Tool(name.clone()) {
            return Err(format!("the resource of a call of `{name}` is that tool"));
        }
        tool.check(&question.context.parameters)
    }

    fn matching(&self, question: &Question) -> Result<Matching<'_>, MalformedQuestion> {
        let asked = Asked::new(question, &self.schema, &self.known)?;
        let fitting = self.index.fitting(&asked.principal, &asked.action, &asked.resource);
        let facts = self.facts(question, &asked);
        let policies = fitting.into_iter().filter_map(|place| self.policies.get(place));
        let policies: Vec<_> = policies.filter(|policy| !policy.is_out(&facts)).collect();
        let mut matching = Matching::default();
        if policies.is_empty() {
            return Ok(matching);
        }
        let looked_at = policies.iter().flat_map(|policy| policy.looks_at());
        let entities = asked.entities(question, &self.known, looked_at.collect())?;
        for policy in policies {
            matching.add(policy.rule(), policy.matches(&asked.request, &entities));
        }
        Ok(matching)
    }

    fn facts<'a>(&'a self, question: &'a Question, asked: &'a Asked) -> Facts<'a> {
        let other = match &question.resource {
            // What is known of the one is known of the other.
            Resource::Identity(party) if party.id == question.principal.id => {
                Some(&question.principal)
            }
            Resource::Identity(party) => Some(party),
            Resource::TrustDomain(_) | Resource::Tool(_) => None,
        };
        let seen = |lineage: &'a Lineage, party: Option<&'a Party>| Seen {
            lineage,
            party,
            registered: party.and_then(|party| self.identities().of(&party.id)),
        };
        Facts {
            principal: seen(&asked.principal, Some(&question.principal)),
            resource: seen(&asked.resource, other),
            purpose: question.context.purpose.as_ref().map(Purpose::as_str),
            risk: question.risk(),
        }
    }
}

impl<'a> Matching<'a> {
    fn add(&mut self, rule: &'a Rule, matches: Result<bool, String>) {
        match (matches, rule.observes, rule.does) {
            (Ok(false), _, _) => {}
            (Ok(true), false, Does::Permit) => self.permits.push(rule),
            (Ok(true), false, Does::Forbid) => self.forbids.push(rule),
            (Ok(true), true, Does::Permit) => self.observing_permits.push(rule),
            (Ok(true), true, Does::Forbid) => self.observing_forbids.push(rule),
            (Err(error), false, _) => self.errors.push(error),
            (Err(error), true, _) => self.observing_errors.push(error),
        }
    }

    fn decide(self, policy: PolicyDigest) -> Decision {
        let Self { permits, forbids, observing_permits, observing_forbids, errors, .. } = self;
        let denial = Decision::denial(policy, Vec::new());
        // Cedar leaves out a policy that fails, be it a `forbid`. We take no chances.
        if !errors.is_empty() {
            return Decision { errors, ..denial };
        }
        let (verdict, made_so) = if !forbids.is_empty() {
            (Verdict::Deny, forbids)
        } else if !permits.is_empty() {
            (Verdict::Permit, permits)
        } else if !observing_permits.is_empty() {
            (Verdict::Observe, observing_permits)
        } else {
            (Verdict::Deny, Vec::new())
        };
        let would_deny = if verdict == Verdict::Deny { Vec::new() } else { observing_forbids };
        let mut reasons = Vec::new();
        for reason in made_so.iter().filter_map(|rule| rule.reason.clone()) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        // Nothing is demanded of what is only observed, but that enough of it is written down.
        let mut obligations = strictest(&made_so);
        if verdict == Verdict::Observe {
            (obligations.rate, obligations.approval) = (None, false);
        }
        Decision {
            verdict,
            policies: names(&made_so),
            reasons,
            observed: names(&would_deny),
            errors: self.observing_errors,
            obligations,
            ..denial
        }
    }
}

/// The names of `rules`, sorted.
fn names(rules: &[&Rule]) -> Vec<String> {
    let mut names: Vec<_> = rules.iter().map(|rule| rule.name.clone()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
