//! Policies by whom and what their heads name, so that few of them have to be asked about a pair.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use cedar_policy::{
    ActionConstraint, Effect, EntityTypeName, EntityUid, Policy, PolicySet as CedarPolicies,
    PrincipalConstraint, ResourceConstraint,
};

use super::possible::{Act, Broken, Known};
use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// A policy that counts, and what it speaks of.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) policy: Policy,
    pub(crate) permits: bool,
    pub(crate) words: Vocabulary,
    /// The policy alone.
    pub(crate) alone: CedarPolicies,
    principal: Head,
    resource: Head,
}

/// What the head of a policy says of one end.
#[derive(Debug)]
struct Head {
    kind: Option<EntityTypeName>,
    is: Option<EntityUid>,
    within: Option<EntityUid>,
}

impl Head {
    fn admits(&self, known: &Known) -> bool {
        let kind = self.kind.as_ref().is_none_or(|kind| known.uid.type_name() == kind);
        let is = self.is.as_ref().is_none_or(|uid| known.uid == *uid);
        let within = self.within.as_ref();
        kind && is && within.is_none_or(|uid| known.uid == *uid || known.ancestors.contains(uid))
    }
}

impl Rule {
    fn new(policy: &Policy) -> Result<Self, Broken> {
        let any = || Head { kind: None, is: None, within: None };
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => any(),
            PrincipalConstraint::In(uid) => Head { within: Some(uid), ..any() },
            PrincipalConstraint::Eq(uid) => Head { is: Some(uid), ..any() },
            PrincipalConstraint::Is(kind) => Head { kind: Some(kind), ..any() },
            PrincipalConstraint::IsIn(kind, uid) => {
                Head { kind: Some(kind), within: Some(uid), ..any() }
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => any(),
            ResourceConstraint::In(uid) => Head { within: Some(uid), ..any() },
            ResourceConstraint::Eq(uid) => Head { is: Some(uid), ..any() },
            ResourceConstraint::Is(kind) => Head { kind: Some(kind), ..any() },
            ResourceConstraint::IsIn(kind, uid) => {
                Head { kind: Some(kind), within: Some(uid), ..any() }
            }
        };
        Ok(Self {
            permits: policy.effect() == Effect::Permit,
            words: Vocabulary::of(policy),
            alone: CedarPolicies::from_policies([policy.clone()])?,
            policy: policy.clone(),
            principal,
            resource,
        })
    }

    pub(crate) fn concerns(&self, act: &Act) -> bool {
        let covers = |uid: &EntityUid| act.uid == *uid || act.ancestors.contains(uid);
        match self.policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::In(uids) => uids.iter().any(covers),
            ActionConstraint::Eq(uid) => act.uid == uid,
        }
    }

    pub(crate) fn admits_principal(&self, known: &Known) -> bool {
        self.principal.admits(known)
    }

    pub(crate) fn admits_resource(&self, known: &Known) -> bool {
        self.resource.admits(known)
    }
}

/// Every policy that counts: all but those that forbid for the record only.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    slices: RefCell<HashMap<Vec<usize>, Rc<CedarPolicies>>>,
}

impl Rules {
    pub(crate) fn of(set: &PolicySet) -> Result<Self, Broken> {
        let counts = |policy: &&Policy| {
            policy.effect() == Effect::Permit || policy.annotation("mode") != Some("observe")
        };
        let mut rules =
            set.cedar().policies().filter(counts).map(Rule::new).collect::<Result<Vec<_>, _>>()?;
        rules.sort_by_cached_key(|rule| rule.policy.id().to_string());
        Ok(Self { rules, slices: RefCell::default() })
    }

    pub(crate) fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that concern `act`, by their number.
    pub(crate) fn about(&self, act: &Act) -> Vec<(usize, &Rule)> {
        self.rules.iter().enumerate().filter(|(_, rule)| rule.concerns(act)).collect()
    }

    /// These rules, as Cedar has them.
    pub(crate) fn slice(&self, chosen: &BTreeSet<usize>) -> Result<Rc<CedarPolicies>, Broken> {
        let key: Vec<_> = chosen.iter().copied().collect();
        if let Some(known) = self.slices.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let policies = key.iter().filter_map(|number| self.rules.get(*number));
        let slice = CedarPolicies::from_policies(policies.map(|rule| rule.policy.clone()))?;
        let slice = Rc::new(slice);
        self.slices.borrow_mut().insert(key, Rc::clone(&slice));
        Ok(slice)
    }
}
