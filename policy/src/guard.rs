//! What the conditions of a policy begin with, if that is quickly seen to be false.
//!
//! Cedar evaluates `a && b && c` from the left and stops at the first that is false, so nothing that
//! comes later matters, not even that it fails. A guard is such a beginning, of a kind that cannot fail.
//! What it says is what Cedar would say; that it is so is a property test of [`crate::set`].

use cedar_policy::pst::{BinaryOp, Clause, EntityUID, Expr, Literal, UnaryOp, Var};
use cedar_policy::{EntityId, EntityTypeName, EntityUid, Policy};
use claviger_core::decision::Party;
use claviger_core::selector::Selectors;
use claviger_core::standing::Risk;

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
    /// The greater of the two ends'.
    pub(crate) risk: Risk,
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
    /// It is of this type.
    Kind(End, EntityTypeName),
    /// It has such an attribute.
    Has(End, Word),
    /// Two texts are the same.
    Same(Text, Text),
    /// A list holds a text.
    Holds(End, List, Text),
    /// The first number is less than the second.
    Less(Number, Number),
    Not(Box<Self>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Principal,
    Resource,
}

#[derive(Debug)]
pub(crate) enum Text {
    Literal(String),
    Of(End, Word),
    Purpose,
}

/// An attribute that is a text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Path,
    TrustDomain,
    Tier,
    Owner,
    Tenant,
    Stage,
    Ring,
}

/// An attribute that is a list of texts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    Selectors,
    Models,
    Purposes,
    DataScopes,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Literal(i64),
    /// That of one end.
    RiskOf(End),
    /// That of both, in the context.
    Risk,
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
    #[expect(clippy::wildcard_enum_match_arm, reason = "of all expressions, these are understood")]
    fn of(condition: &Expr) -> Option<Self> {
        match condition {
            Expr::UnaryOp { op: UnaryOp::Not, expr } => Self::of(expr).map(Self::not),
            Expr::HasAttr { expr, attrs } if attrs.tail.is_empty() => {
                Some(Self::Has(end(expr)?, Word::optional(attrs.head.as_str())?))
            }
            Expr::Is { expr, entity_type, in_expr: None } => {
                Some(Self::Kind(end(expr)?, entity_type.to_string().parse().ok()?))
            }
            Expr::BinaryOp { op, left, right } => Self::comparison(*op, left, right),
            _ => None,
        }
    }

    fn comparison(op: BinaryOp, left: &Expr, right: &Expr) -> Option<Self> {
        let less = |left, right| Some(Self::Less(number(left)?, number(right)?));
        match (op, right) {
            (BinaryOp::Eq, Expr::Literal(Literal::EntityUID(uid))) => {
                Some(Self::Is(end(left)?, entity(uid)?))
            }
            (BinaryOp::In, Expr::Literal(Literal::EntityUID(uid))) => {
                Some(Self::In(end(left)?, entity(uid)?))
            }
            (BinaryOp::Eq, _) => Some(Self::Same(text(left)?, text(right)?)),
            (BinaryOp::NotEq, _) => Self::comparison(BinaryOp::Eq, left, right).map(Self::not),
            (BinaryOp::Contains, _) => {
                let Expr::GetAttr { expr, attr } = left else { return None };
                Some(Self::Holds(end(expr)?, List::named(attr)?, text(right)?))
            }
            (BinaryOp::Less, _) => less(left, right),
            (BinaryOp::Greater, _) => less(right, left),
            (BinaryOp::LessEq, _) => less(right, left).map(Self::not),
            (BinaryOp::GreaterEq, _) => less(left, right).map(Self::not),
            _ => None,
        }
    }

    fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether it is false, for certain. Of what is not known nothing is certain.
    pub(crate) fn is_false(&self, facts: &Facts<'_>) -> bool {
        self.holds(facts) == Some(false)
    }

    fn holds(&self, facts: &Facts<'_>) -> Option<bool> {
        match self {
            Self::Is(end, uid) => Some(facts.end(*end).lineage.is(uid)),
            Self::In(end, uid) => Some(facts.end(*end).lineage.is_in(uid)),
            Self::Kind(end, kind) => Some(facts.end(*end).lineage.uid.type_name() == kind),
            Self::Has(end, word) => facts.end(*end).has(*word),
            Self::Same(left, right) => Some(left.known(facts)? == right.known(facts)?),
            Self::Holds(end, list, text) => facts.end(*end).holds(*list, text.known(facts)?),
            Self::Less(left, right) => Some(left.known(facts)? < right.known(facts)?),
            Self::Not(guard) => guard.holds(facts).map(|holds| !holds),
        }
    }
}

impl Text {
    fn known<'a>(&'a self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Of(end, word) => facts.end(*end).text(*word),
            Self::Purpose => facts.purpose,
        }
    }
}

impl Word {
    fn named(name: &str) -> Option<Self> {
        match name {
            "path" => Some(Self::Path),
            "trust_domain" => Some(Self::TrustDomain),
            "tier" => Some(Self::Tier),
            _ => Self::optional(name),
        }
    }

    /// One that not every identity has.
    fn optional(name: &str) -> Option<Self> {
        match name {
            "owner" => Some(Self::Owner),
            "tenant" => Some(Self::Tenant),
            "stage" => Some(Self::Stage),
            "ring" => Some(Self::Ring),
            _ => None,
        }
    }
}

impl List {
    fn named(name: &str) -> Option<Self> {
        match name {
            "selectors" => Some(Self::Selectors),
            "models" => Some(Self::Models),
            "purposes" => Some(Self::Purposes),
            "data_scopes" => Some(Self::DataScopes),
            _ => None,
        }
    }
}

impl Number {
    fn known(self, facts: &Facts<'_>) -> Option<i64> {
        match self {
            Self::Literal(number) => Some(number),
            Self::RiskOf(end) => Some(facts.end(end).party?.risk.percent().into()),
            Self::Risk => Some(facts.risk.percent().into()),
        }
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
    fn has(&self, word: Word) -> Option<bool> {
        self.party?;
        Some(self.text(word).is_some())
    }

    fn text(&self, word: Word) -> Option<&'a str> {
        let party = self.party?;
        match word {
            Word::Path => Some(party.id.path()),
            Word::TrustDomain => Some(party.id.trust_domain().as_str()),
            Word::Tier => Some(party.tier.name()),
            Word::Owner => self.registered?.owner.as_deref(),
            Word::Tenant => self.registered?.tenant.as_deref(),
            Word::Stage => self.registered?.stage.as_deref(),
            Word::Ring => self.registered?.ring.as_deref(),
        }
    }

    fn holds(&self, list: List, text: &str) -> Option<bool> {
        let party = self.party?;
        Some(match list {
            List::Selectors => party.selectors.iter().any(|selector| {
                let value = text.strip_prefix(selector.kind()).and_then(|it| it.strip_prefix(':'));
                value == Some(selector.value())
            }),
            List::Models => models(&party.selectors).any(|model| model == text),
            List::Purposes => self.registered.is_some_and(|it| it.purposes.contains(text)),
            List::DataScopes => self.registered.is_some_and(|it| it.data_scopes.contains(text)),
        })
    }
}

/// The digests of the models among `selectors`: `model:digest:…`.
pub(crate) fn models(selectors: &Selectors) -> impl Iterator<Item = &str> {
    let models = selectors.iter().filter(|selector| selector.kind() == MODEL);
    models.filter_map(|selector| selector.value().strip_prefix("digest:"))
}

fn text(expression: &Expr) -> Option<Text> {
    if let Expr::Literal(Literal::String(text)) = expression {
        return Some(Text::Literal(text.to_string()));
    }
    let Expr::GetAttr { expr, attr } = expression else { return None };
    if matches!(**expr, Expr::Var(Var::Context)) {
        return (attr == "purpose").then_some(Text::Purpose);
    }
    Some(Text::Of(end(expr)?, Word::named(attr)?))
}

fn number(expression: &Expr) -> Option<Number> {
    if let Expr::Literal(Literal::Long(number)) = expression {
        return Some(Number::Literal(*number));
    }
    let Expr::GetAttr { expr, attr } = expression else { return None };
    if attr != "risk" {
        return None;
    }
    if matches!(**expr, Expr::Var(Var::Context)) {
        return Some(Number::Risk);
    }
    end(expr).map(Number::RiskOf)
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
