//! What is known of entities before anyone asks.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use claviger_core::decision::{Action, Party, ToolName};
use claviger_core::id::SpiffeId;

use super::{Field, MalformedQuestion, field, text, texts};
use crate::groups::Groups;
use crate::guard::models;
use crate::identities::{Identities, Registered};
use crate::index::Lineage;
use crate::tools::Tools;

/// What is known of entities before anyone asks.
#[derive(Debug)]
pub(crate) struct Known {
    kinds: Kinds,
    pub(crate) groups: Groups,
    pub(crate) identities: Identities,
    pub(crate) tools: Tools,
    /// The attributes of [`Self::identities`], in their order.
    registered: Vec<Attributes>,
    unregistered: Attributes,
    actions: HashMap<String, (Lineage, Entity)>,
    callable: HashMap<ToolName, (Lineage, Entity)>,
}

/// The names of Cedar's types.
#[derive(Debug)]
struct Kinds {
    identity: EntityTypeName,
    domain: EntityTypeName,
    group: EntityTypeName,
    tool: EntityTypeName,
}

/// What a record in `identities.toml` comes to.
#[derive(Debug)]
struct Attributes {
    fields: Vec<Field>,
    groups: Vec<EntityUid>,
}

impl Kinds {
    fn new() -> Result<Self, MalformedQuestion> {
        Ok(Self {
            identity: "Identity".parse()?,
            domain: "TrustDomain".parse()?,
            group: "Group".parse()?,
            tool: "Tool".parse()?,
        })
    }

    fn groups(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<EntityUid> {
        names.into_iter().map(|name| uid(&self.group, name.as_ref())).collect()
    }

    fn attributes(&self, registered: Option<&Registered>, groups: &Groups) -> Attributes {
        let none: [&str; 0] = [];
        let Some(registered) = registered else {
            let fields = vec![
                field("registered", RestrictedExpression::new_bool(false)),
                field("purposes", texts(none)),
                field("data_scopes", texts(none)),
            ];
            return Attributes { fields, groups: Vec::new() };
        };
        let mut fields = vec![
            field("registered", RestrictedExpression::new_bool(true)),
            field("purposes", texts(&registered.purposes)),
            field("data_scopes", texts(&registered.data_scopes)),
        ];
        let optional = [
            ("owner", &registered.owner),
            ("tenant", &registered.tenant),
            ("stage", &registered.stage),
            ("ring", &registered.ring),
        ];
        for (name, value) in optional {
            fields.extend(value.iter().map(|value| field(name, text(value))));
        }
        let groups = self.groups(groups.and_above(&registered.groups));
        Attributes { fields, groups }
    }
}

impl Known {
    /// What a folder says, by these files and the schema.
    pub(crate) fn new(
        groups: Groups,
        identities: Identities,
        tools: Tools,
        schema: &Schema,
    ) -> Result<Self, MalformedQuestion> {
        let kinds = Kinds::new()?;
        let registered =
            identities.iter().map(|record| kinds.attributes(Some(record), &groups)).collect();
        Ok(Self {
            registered,
            unregistered: kinds.attributes(None, &groups),
            actions: actions(schema)?,
            callable: callable(&kinds, &tools, &groups),
            kinds,
            groups,
            identities,
            tools,
        })
    }

    /// The identity, and what is known of it now.
    pub(crate) fn identity(&self, party: &Party) -> Result<(Lineage, Entity), MalformedQuestion> {
        let attested = [
            field("selectors", texts(party.selectors.iter().map(ToString::to_string))),
            field("models", texts(models(&party.selectors))),
            field("tier", text(party.tier.name())),
            field("risk", RestrictedExpression::new_long(party.risk.percent().into())),
        ];
        self.entity(&party.id, attested)
    }

    fn entity(
        &self,
        id: &SpiffeId,
        attested: impl IntoIterator<Item = Field>,
    ) -> Result<(Lineage, Entity), MalformedQuestion> {
        let place = self.identities.place(id);
        let record = place.and_then(|place| self.registered.get(place));
        let record = record.unwrap_or(&self.unregistered);
        let mut attributes: HashMap<_, _> = record.fields.iter().cloned().collect();
        attributes.extend([
            field("path", text(id.path())),
            field("trust_domain", text(id.trust_domain().as_str())),
            field("reserved", RestrictedExpression::new_bool(id.is_reserved())),
        ]);
        attributes.extend(attested);
        let mut above = record.groups.clone();
        above.push(self.domain(id.trust_domain().as_str()));
        let uid = uid(&self.kinds.identity, &id.to_string());
        let parents: HashSet<_> = above.iter().cloned().collect();
        let entity = Entity::new(uid.clone(), attributes, parents)?;
        Ok((Lineage { uid, above }, entity))
    }

    /// The action, and the groups that it is in.
    pub(crate) fn action(&self, action: &Action) -> Result<(Lineage, Entity), MalformedQuestion> {
        let known = self.actions.get(&action.to_string()).cloned();
        known.ok_or_else(|| format!("there is no action `{action}`").into())
    }

    /// The tool, and the groups that it is in.
    pub(crate) fn tool(&self, name: &ToolName) -> Result<(Lineage, Entity), MalformedQuestion> {
        let known = self.callable.get(name).cloned();
        known.ok_or_else(|| format!("there is no tool `{name}`").into())
    }

    /// The name of a trust domain.
    pub(crate) fn domain(&self, name: &str) -> EntityUid {
        uid(&self.kinds.domain, name)
    }

    /// What is known of an entity that a policy names, for whatever it asks about it. Nothing is
    /// attested of it: a policy that asks for that fails.
    pub(crate) fn named(&self, named: &EntityUid) -> Result<Option<Entity>, MalformedQuestion> {
        let (kind, name) = (named.type_name(), named.id().unescaped());
        if *kind == self.kinds.identity {
            let id = name.parse()?;
            return Ok(Some(self.entity(&id, [])?.1));
        }
        if *kind == self.kinds.group {
            let above = self.kinds.groups(self.groups.above(name)).into_iter().collect();
            return Ok(Some(Entity::new_no_attrs(named.clone(), above)));
        }
        if *kind == self.kinds.tool {
            return Ok(Some(self.tool(&name.parse()?)?.1));
        }
        Ok(self.actions.get(name).map(|(_, action)| action.clone()))
    }
}

/// Every action of `schema`, and the groups that it is in.
fn actions(schema: &Schema) -> Result<HashMap<String, (Lineage, Entity)>, MalformedQuestion> {
    let entities = schema.action_entities()?;
    let mut actions = HashMap::new();
    for entity in entities.iter() {
        let uid = entity.uid();
        let above = entities.ancestors(&uid).into_iter().flatten().cloned().collect();
        let name = uid.id().unescaped().to_owned();
        actions.insert(name, (Lineage { uid, above }, entity.clone()));
    }
    Ok(actions)
}

/// Every tool, and the groups that it is in.
fn callable(kinds: &Kinds, tools: &Tools, groups: &Groups) -> HashMap<ToolName, (Lineage, Entity)> {
    let known = tools.iter().map(|tool| {
        let uid = uid(&kinds.tool, tool.name.as_str());
        let above = kinds.groups(groups.and_above(&tool.groups));
        let entity = Entity::new_no_attrs(uid.clone(), above.iter().cloned().collect());
        (tool.name.clone(), (Lineage { uid, above }, entity))
    });
    known.collect()
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
