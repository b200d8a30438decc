//! What the conditions of a policy begin with, if that is quickly seen to be false.
//!
//! Cedar evaluates `a && b && c` from the left and stops at the first that is false, so nothing that
//! comes later matters, not even that it fails. A guard is such a beginning, of a kind that cannot fail.
//! What it says is what Cedar would say; that it is so is a property test of [`crate::set`].

use cedar_policy::pst::{BinaryOp, Clause, EntityUID, Expr, Literal, Var};
use cedar_policy::{EntityId, EntityTypeName, EntityUid, Policy};
use claviger_core::decision::Party;
use claviger_core::selector::Selectors;

use crate::identities::Registered;
use crate::index::Lineage;

/// The kind of selectors that name models: see `docs/attestors/model.md`.
const MODEL: &str = "model";

/// What is known, as guards look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) principal: Seen<'a>,
    pub(crate) resource: Seen<'a>,
    pub(crate) purpose: Option<&'a str>,
}

/// What is known of one end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) lineage: &'a Lineage,
    /// Only of identities.
    pub(crate) party: Option<&'a Party>,
    pub(crate) registered: Option<&'a Registered>,
}

/// A condition.
#[derive(Debug)]
pub(crate) enum Guard {
    Is(End, EntityUid),
    In(End, EntityUid),
    /// It has such an attribute.
    Has(End, String),
    /// An attribute is this text.
    Text(End, String, String),
    /// An attribute holds this text, too.
    Contains(End, String, String),
    /// The purpose is this.
    Purpose(String),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Principal,
    Resource,
}

/// What `policy` begins with, as far as it is such that it cannot fail.
pub(crate) fn of(policy: &Policy) -> Vec<Guard> {
    let Ok(form) = policy.to_pst() else { return Vec::new() };
    // Whatever follows the first condition is joined to it from the right.
    let Some(Clause::When(condition)) = form.body().clauses().first() else { return Vec::new() };
    let mut guards = Vec::new();
    collect(condition, &mut guards);
    guards
}

/// Takes what `condition` begins with; whether that is all of it.
fn collect(condition: &Expr, guards: &mut Vec<Guard>) -> bool {
    if let Expr::BinaryOp { op: BinaryOp::And, left, right } = condition {
        return collect(left, guards) && collect(right, guards);
    }
    let guard = Guard::of(condition);
    let known = guard.is_some();
    guards.extend(guard);
    known
}

impl Guard {
    fn of(condition: &Expr) -> Option<Self> {
        if let Expr::HasAttr { expr, attrs } = condition {
            let whole = attrs.tail.is_empty();
            return whole.then(|| Some(Self::Has(end(expr)?, attrs.head.to_string())))?;
        }
        let Expr::BinaryOp { op, left, right } = condition else { return None };
        match (op, &**right) {
            (BinaryOp::Eq, Expr::Literal(Literal::EntityUID(uid))) => {
                Some(Self::Is(end(left)?, entity(uid)?))
            }
            (BinaryOp::In, Expr::Literal(Literal::EntityUID(uid))) => {
                Some(Self::In(end(left)?, entity(uid)?))
            }
            (BinaryOp::Eq, Expr::Literal(Literal::String(text))) => {
                let Expr::GetAttr { expr, attr } = &**left else { return None };
                if matches!(**expr, Expr::Var(Var::Context)) {
                    return (attr == "purpose").then(|| Self::Purpose(text.to_string()));
                }
                Some(Self::Text(end(expr)?, attr.to_string(), text.to_string()))
            }
            (BinaryOp::Contains, Expr::Literal(Literal::String(text))) => {
                let Expr::GetAttr { expr, attr } = &**left else { return None };
                Some(Self::Contains(end(expr)?, attr.to_string(), text.to_string()))
            }
            _ => None,
        }
    }

    /// Whether it is false, for certain. Of what is not known nothing is certain.
    pub(crate) fn is_false(&self, facts: &Facts<'_>) -> bool {
        let holds = match self {
            Self::Is(end, uid) => Some(facts.end(*end).lineage.uid == *uid),
            Self::In(end, uid) => Some(facts.end(*end).lineage.all().any(|above| above == uid)),
            Self::Has(end, attribute) => facts.end(*end).has(attribute),
            Self::Text(end, attribute, text) => {
                facts.end(*end).text(attribute).map(|known| known == text)
            }
            Self::Contains(end, attribute, text) => facts.end(*end).holds(attribute, text),
            Self::Purpose(purpose) => facts.purpose.map(|known| known == purpose),
        };
        holds == Some(false)
    }
}

impl<'a> Facts<'a> {
    const fn end(&self, end: End) -> &Seen<'a> {
        match end {
            End::Principal => &self.principal,
            End::Resource => &self.resource,
        }
    }
}

impl<'a> Seen<'a> {
    fn has(&self, attribute: &str) -> Option<bool> {
        self.party?;
        let registered = self.registered;
        Some(match attribute {
            "owner" => registered.is_some_and(|it| it.owner.is_some()),
            "tenant" => registered.is_some_and(|it| it.tenant.is_some()),
            "stage" => registered.is_some_and(|it| it.stage.is_some()),
            "ring" => registered.is_some_and(|it| it.ring.is_some()),
            _ => return None,
        })
    }

    fn text(&self, attribute: &str) -> Option<&'a str> {
        let party = self.party?;
        match attribute {
            "path" => Some(party.id.path()),
            "trust_domain" => Some(party.id.trust_domain().as_str()),
            "tier" => Some(party.tier.name()),
            "owner" => self.registered?.owner.as_deref(),
            "tenant" => self.registered?.tenant.as_deref(),
            "stage" => self.registered?.stage.as_deref(),
            "ring" => self.registered?.ring.as_deref(),
            _ => None,
        }
    }

    fn holds(&self, attribute: &str, text: &str) -> Option<bool> {
        let party = self.party?;
        match attribute {
            "selectors" => Some(party.selectors.iter().any(|selector| {
                let value = text.strip_prefix(selector.kind()).and_then(|it| it.strip_prefix(':'));
                value == Some(selector.value())
            })),
            "models" => Some(models(&party.selectors).any(|model| model == text)),
            "purposes" => Some(self.registered.is_some_and(|it| it.purposes.contains(text))),
            "data_scopes" => Some(self.registered.is_some_and(|it| it.data_scopes.contains(text))),
            _ => None,
        }
    }
}

/// The digests of the models among `selectors`: `model:digest:…`.
pub(crate) fn models(selectors: &Selectors) -> impl Iterator<Item = &str> {
    let models = selectors.iter().filter(|selector| selector.kind() == MODEL);
    models.filter_map(|selector| selector.value().strip_prefix("digest:"))
}

fn end(expression: &Expr) -> Option<End> {
    let Expr::Var(var) = expression else { return None };
    match var {
        Var::Principal => Some(End::Principal),
        Var::Resource => Some(End::Resource),
        Var::Action | Var::Context => None,
    }
}

fn entity(uid: &EntityUID) -> Option<EntityUid> {
    let kind: EntityTypeName = uid.ty.to_string().parse().ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(&uid.eid)))
}
