//! Which policies a question can concern: those whose scope it fits. All others need not be looked at,
//! because a policy whose scope does not fit is not evaluated further.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

use crate::rule::Rule;

/// The place of a policy among all.
pub(crate) type Place = usize;

/// Policies by their scopes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By an action or a group of actions; `None` of those that are about every action.
    by_action: HashMap<Option<EntityUid>, Places>,
    scopes: Vec<Scope>,
}

#[derive(Debug, Default)]
struct Places {
    by_principal: HashMap<EntityUid, Vec<Place>>,
    /// Those that are about every principal.
    by_resource: HashMap<EntityUid, Vec<Place>>,
    /// Those that are about every resource, too.
    everywhere: Vec<Place>,
}

/// What the scope of a policy says of one end.
#[derive(Debug)]
struct End {
    is: Option<EntityTypeName>,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Any,
    Only(EntityUid),
    In(EntityUid),
}

#[derive(Debug)]
struct Scope {
    principal: End,
    resource: End,
}

/// An entity, and all that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    pub(crate) uid: EntityUid,
    pub(crate) above: Vec<EntityUid>,
}

impl Lineage {
    /// The entity, and all that it is in.
    pub(crate) fn all(&self) -> impl Iterator<Item = &EntityUid> {
        std::iter::once(&self.uid).chain(&self.above)
    }

    /// Whether it is `uid`.
    pub(crate) fn is(&self, uid: &EntityUid) -> bool {
        same(&self.uid, uid)
    }

    /// Whether it is `uid`, or is in it.
    pub(crate) fn is_in(&self, uid: &EntityUid) -> bool {
        self.all().any(|above| same(above, uid))
    }
}

/// Names differ more often than their types, and are compared sooner.
fn same(one: &EntityUid, other: &EntityUid) -> bool {
    one.id() == other.id() && one.type_name() == other.type_name()
}

impl End {
    fn fits(&self, entity: &Lineage) -> bool {
        self.is.as_ref().is_none_or(|kind| kind == entity.uid.type_name())
            && match &self.of {
                Of::Any => true,
                Of::Only(uid) => entity.is(uid),
                Of::In(uid) => entity.is_in(uid),
            }
    }

    /// What the entity is, or is in.
    fn key(&self) -> Option<&EntityUid> {
        match &self.of {
            Of::Any => None,
            Of::Only(uid) | Of::In(uid) => Some(uid),
        }
    }
}

impl From<PrincipalConstraint> for End {
    fn from(constraint: PrincipalConstraint) -> Self {
        match constraint {
            PrincipalConstraint::Any => Self { is: None, of: Of::Any },
            PrincipalConstraint::Eq(uid) => Self { is: None, of: Of::Only(uid) },
            PrincipalConstraint::In(uid) => Self { is: None, of: Of::In(uid) },
            PrincipalConstraint::Is(kind) => Self { is: Some(kind), of: Of::Any },
            PrincipalConstraint::IsIn(kind, uid) => Self { is: Some(kind), of: Of::In(uid) },
        }
    }
}

impl From<ResourceConstraint> for End {
    fn from(constraint: ResourceConstraint) -> Self {
        match constraint {
            ResourceConstraint::Any => Self { is: None, of: Of::Any },
            ResourceConstraint::Eq(uid) => Self { is: None, of: Of::Only(uid) },
            ResourceConstraint::In(uid) => Self { is: None, of: Of::In(uid) },
            ResourceConstraint::Is(kind) => Self { is: Some(kind), of: Of::Any },
            ResourceConstraint::IsIn(kind, uid) => Self { is: Some(kind), of: Of::In(uid) },
        }
    }
}

impl Index {
    /// These policies, by their scopes.
    pub(crate) fn new(policies: &[(Policy, Rule)]) -> Self {
        let mut index = Self::default();
        for (place, (policy, _)) in policies.iter().enumerate() {
            let principal = End::from(policy.principal_constraint());
            let resource = End::from(policy.resource_constraint());
            let actions = match policy.action_constraint() {
                ActionConstraint::Any => vec![None],
                ActionConstraint::Eq(uid) => vec![Some(uid)],
                ActionConstraint::In(uids) => uids.into_iter().map(Some).collect(),
            };
            for action in actions {
                let places = index.by_action.entry(action).or_default();
                let list = match (principal.key(), resource.key()) {
                    (Some(uid), _) => places.by_principal.entry(uid.clone()).or_default(),
                    (None, Some(uid)) => places.by_resource.entry(uid.clone()).or_default(),
                    (None, None) => &mut places.everywhere,
                };
                list.push(place);
            }
            index.scopes.push(Scope { principal, resource });
        }
        index
    }

    /// The policies whose scope fits, in their order.
    pub(crate) fn fitting(
        &self,
        principal: &Lineage,
        action: &Lineage,
        resource: &Lineage,
    ) -> Vec<Place> {
        let mut fitting = Vec::new();
        let actions = action.all().cloned().map(Some).chain([None]);
        for places in actions.filter_map(|action| self.by_action.get(&action)) {
            let by_principal = principal.all().filter_map(|uid| places.by_principal.get(uid));
            let by_resource = resource.all().filter_map(|uid| places.by_resource.get(uid));
            let lists = by_principal.chain(by_resource).chain([&places.everywhere]);
            fitting.extend(lists.flatten().copied().filter(|place| {
                self.scopes.get(*place).is_some_and(|scope| {
                    scope.principal.fits(principal) && scope.resource.fits(resource)
                })
            }));
        }
        // One policy can name several actions that fit.
        fitting.sort_unstable();
        fitting.dedup();
        fitting
    }
}
