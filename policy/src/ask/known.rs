//! What is known of entities before anyone asks.

use std::collections::{HashMap, HashSet};

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use cedar_policy_core::ast::{Entity, Value};
use claviger_core::decision::{Action, Party, ToolName};
use claviger_core::id::SpiffeId;

use super::MalformedQuestion;
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

/// The name of an attribute, and its value.
type Field = (&'static str, Value);

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
        let Some(registered) = registered else {
            let nothing = || Value::empty_set(None);
            let fields = vec![
                ("registered", false.into()),
                ("purposes", nothing()),
                ("data_scopes", nothing()),
            ];
            return Attributes { fields, groups: Vec::new() };
        };
        let mut fields = vec![
            ("registered", true.into()),
            ("purposes", texts(&registered.purposes)),
            ("data_scopes", texts(&registered.data_scopes)),
        ];
        let optional = [
            ("owner", &registered.owner),
            ("tenant", &registered.tenant),
            ("stage", &registered.stage),
            ("ring", &registered.ring),
        ];
        for (name, value) in optional {
            fields.extend(value.iter().map(|value| (name, value.as_str().into())));
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

    /// The identity, and all that it is in.
    pub(crate) fn lineage(&self, id: &SpiffeId) -> Lineage {
        let mut above = self.record(id).groups.clone();
        above.push(self.domain(id.trust_domain().as_str()));
        Lineage { uid: uid(&self.kinds.identity, &id.to_string()), above }
    }

    /// The identity of this lineage, with what is known of it now.
    pub(crate) fn identity(&self, party: &Party, lineage: &Lineage) -> Entity {
        let attested = [
            ("selectors", texts(party.selectors.iter().map(ToString::to_string))),
            ("models", texts(models(&party.selectors))),
            ("tier", party.tier.name().into()),
            ("risk", i64::from(party.risk.percent()).into()),
        ];
        self.entity(&party.id, lineage, attested)
    }

    fn record(&self, id: &SpiffeId) -> &Attributes {
        let place = self.identities.place(id);
        place.and_then(|place| self.registered.get(place)).unwrap_or(&self.unregistered)
    }

    fn entity(
        &self,
        id: &SpiffeId,
        lineage: &Lineage,
        attested: impl IntoIterator<Item = Field>,
    ) -> Entity {
        let named = [
            ("path", id.path().into()),
            ("trust_domain", id.trust_domain().as_str().into()),
            ("reserved", id.is_reserved().into()),
        ];
        let attributes = self.record(id).fields.iter().cloned().chain(named).chain(attested);
        let attributes = attributes.map(|(name, value)| (name.into(), value.into()));
        let above = lineage.above.iter().cloned().map(Into::into).collect();
        let uid = lineage.uid.clone().into();
        Entity::new_with_attr_partial_value(uid, attributes, HashSet::new(), above, [])
    }

    /// The action, and the groups that it is in.
    pub(crate) fn action(&self, action: &Action) -> Result<&(Lineage, Entity), MalformedQuestion> {
        let known = self.actions.get(&action.to_string());
        known.ok_or_else(|| format!("there is no action `{action}`").into())
    }

    /// The tool, and the groups that it is in.
    pub(crate) fn tool(&self, name: &ToolName) -> Result<&(Lineage, Entity), MalformedQuestion> {
        let known = self.callable.get(name);
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
            return Ok(Some(self.entity(&id, &self.lineage(&id), [])));
        }
        if *kind == self.kinds.group {
            let above = self.kinds.groups(self.groups.above(name));
            return Ok(Some(without_attributes(named, &above)));
        }
        if *kind == self.kinds.tool {
            return Ok(Some(self.tool(&name.parse()?)?.1.clone()));
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
        actions.insert(name, (Lineage { uid, above }, entity.as_ref().clone()));
    }
    Ok(actions)
}

/// Every tool, and the groups that it is in.
fn callable(kinds: &Kinds, tools: &Tools, groups: &Groups) -> HashMap<ToolName, (Lineage, Entity)> {
    let known = tools.iter().map(|tool| {
        let uid = uid(&kinds.tool, tool.name.as_str());
        let above = kinds.groups(groups.and_above(&tool.groups));
        let entity = without_attributes(&uid, &above);
        (tool.name.clone(), (Lineage { uid, above }, entity))
    });
    known.collect()
}

fn without_attributes(uid: &EntityUid, above: &[EntityUid]) -> Entity {
    let above = above.iter().cloned().map(Into::into).collect();
    Entity::new_with_attr_partial_value(uid.clone().into(), [], HashSet::new(), above, [])
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> Value {
    Value::set(values.into_iter().map(|value| value.as_ref().into()), None)
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
