//! What could be otherwise beside the question: what is registered, and the policies themselves.

use std::collections::BTreeSet;
use std::fmt;

use cedar_policy::{Effect, PolicySet as CedarPolicies};
use claviger_core::decision::{Question, Resource};
use claviger_core::id::SpiffeId;
use toml::{Table, Value};

use crate::identities::{self, Registered};
use crate::set::PolicySet;
use crate::source::Source;
use crate::vocabulary::Vocabulary;

/// The most sets of policies that are made to find one.
pub const MOST_WORLDS: usize = 200;

/// One thing that is otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fix {
    /// Something is registered of an identity: a value of an attribute.
    Register { id: SpiffeId, attribute: &'static str, value: String },
    /// A policy is not there.
    Remove(String),
    /// A policy is there, too.
    Add(String),
}

/// The name of the file that a policy is added in.
const ADDED: &str = "suggested.cedar";

/// The attributes as `identities.toml` calls them, what policies call them, and whether there can be
/// several.
const ATTRIBUTES: [(&str, &str, bool); 7] = [
    ("groups", "groups", true),
    ("purposes", "purposes", true),
    ("data-scopes", "data_scopes", true),
    ("stage", "stage", false),
    ("tenant", "tenant", false),
    ("ring", "ring", false),
    ("owner", "owner", false),
];

/// Everything that could be otherwise for `question`: the mildest first.
pub(super) fn all(
    set: &PolicySet,
    question: &Question,
    words: &Vocabulary,
    determining: &[String],
) -> Vec<Fix> {
    let mut fixes = Vec::new();
    let mut parties = vec![&question.principal.id];
    let other = match &question.resource {
        Resource::Identity(party) if party.id != question.principal.id => Some(&party.id),
        Resource::Identity(_) | Resource::TrustDomain(_) | Resource::Tool(_) => None,
    };
    parties.extend(other);
    for id in &parties {
        let others = parties.iter().filter(|other| *other != id);
        let others = others.filter_map(|other| set.identities().of(other)).collect::<Vec<_>>();
        register(set, id, question, words, &others, &mut fixes);
    }
    fixes.truncate(MOST_WORLDS);
    let forbids = set.cedar().policies().filter(|policy| policy.effect() == Effect::Forbid);
    let forbids: BTreeSet<_> = forbids.map(|policy| policy.id().to_string()).collect();
    let removable = determining.iter().filter(|name| forbids.contains(*name));
    fixes.extend(removable.cloned().map(Fix::Remove));
    fixes.push(Fix::Add(permit(question)));
    fixes
}

/// What could be registered of `id`: whatever policies name, or the other end has.
fn register(
    set: &PolicySet,
    id: &SpiffeId,
    question: &Question,
    words: &Vocabulary,
    others: &[&Registered],
    fixes: &mut Vec<Fix>,
) {
    for (attribute, name, several) in ATTRIBUTES {
        let mut values: BTreeSet<String> = words.texts(name).collect();
        if attribute == "groups" {
            values.extend(words.entities("Group").map(str::to_owned));
        }
        if attribute == "purposes" && words.mentions("purposes") {
            values.extend(question.context.purpose.as_ref().map(ToString::to_string));
        }
        if words.mentions(name) {
            values.extend(others.iter().flat_map(|other| texts(other, attribute)));
        }
        let known = set.identities().of(id).map(|record| texts(record, attribute));
        let known = known.unwrap_or_default();
        for value in values.difference(&known) {
            // An attribute of which there is one is not overwritten lightly, but it can be.
            let fix = Fix::Register { id: id.clone(), attribute, value: value.clone() };
            if several || known.len() < 2 {
                fixes.push(fix);
            }
        }
    }
}

fn texts(record: &Registered, attribute: &str) -> BTreeSet<String> {
    let one = |value: &Option<String>| value.iter().cloned().collect();
    match attribute {
        "groups" => record.groups.clone(),
        "purposes" => record.purposes.clone(),
        "data-scopes" => record.data_scopes.clone(),
        "stage" => one(&record.stage),
        "tenant" => one(&record.tenant),
        "ring" => one(&record.ring),
        "owner" => one(&record.owner),
        _ => BTreeSet::new(),
    }
}

/// A policy that permits exactly this.
fn permit(question: &Question) -> String {
    let resource = match &question.resource {
        Resource::TrustDomain(name) => format!("TrustDomain::\"{name}\""),
        Resource::Identity(party) => format!("Identity::\"{}\"", party.id),
        Resource::Tool(tool) => format!("Tool::\"{tool}\""),
    };
    let purpose = question.context.purpose.as_ref().filter(|_| super::between(&question.action));
    let when = purpose.map_or_else(String::new, |purpose| {
        format!("\nwhen {{ context.purpose == \"{purpose}\" }}")
    });
    format!(
        "permit (\n    principal == Identity::\"{}\",\n    action == Action::\"{}\",\n    \
         resource == {resource}\n){when};",
        question.principal.id, question.action
    )
}

impl Fix {
    /// The same policies, but for this; none if that makes no sense.
    pub(super) fn apply(&self, set: &PolicySet) -> Option<PolicySet> {
        let source = set.source();
        let changed = match self {
            Self::Register { id, attribute, value } => {
                let text = registered(set, id, attribute, value)?;
                replace(source, identities::FILE, text)
            }
            Self::Remove(name) => {
                let (file, _) = name.rsplit_once(".cedar#")?;
                let file = format!("{file}.cedar");
                let kept = set.cedar().policies().filter(|policy| {
                    let id = policy.id().to_string();
                    id != *name && id.starts_with(&format!("{file}#"))
                });
                let kept = CedarPolicies::from_policies(kept.cloned()).ok()?;
                replace(source, &file, kept.to_cedar()?)
            }
            Self::Add(text) => replace(source, ADDED, text.clone()),
        };
        PolicySet::compile(changed).ok()
    }
}

/// The same files, with `name` reading `text`.
fn replace(source: &Source, name: &str, text: String) -> Source {
    let others = source.files().iter().filter(|(known, _)| known != name).cloned();
    Source::new(others.chain([(name.to_owned(), text)]).collect())
}

/// `identities.toml`, with `value` for `attribute` of `id`.
fn registered(set: &PolicySet, id: &SpiffeId, attribute: &str, value: &str) -> Option<String> {
    let text = set.source().file(identities::FILE).unwrap_or_default();
    let mut document: Table = text.parse().ok()?;
    let name = id.to_string();
    if attribute == "groups" && !set.groups().has(value) {
        let group = Table::from_iter([("name".to_owned(), Value::from(value))]);
        entries(&mut document, "group")?.push(Value::Table(group));
    }
    let whom = set.identities().of(id).map(|record| record.whom.to_string());
    let identities = entries(&mut document, "identity")?;
    // What is registered by a prefix is written out before it is changed.
    if !identities.iter().any(|entry| is_about(entry, &name)) {
        let whom = whom.as_deref().unwrap_or_default();
        let known = identities.iter().find(|entry| is_about(entry, whom));
        let mut entry = known.and_then(Value::as_table).cloned().unwrap_or_default();
        entry.insert("id".to_owned(), Value::from(name.as_str()));
        identities.push(Value::Table(entry));
    }
    let entry = identities.iter_mut().find(|entry| is_about(entry, &name))?.as_table_mut()?;
    let several = ATTRIBUTES.iter().any(|(known, _, several)| *known == attribute && *several);
    if several {
        let values = entry.entry(attribute).or_insert_with(|| Value::Array(Vec::new()));
        values.as_array_mut()?.push(Value::from(value));
    } else {
        entry.insert(attribute.to_owned(), Value::from(value));
    }
    toml::to_string(&document).ok()
}

fn is_about(entry: &Value, whom: &str) -> bool {
    entry.get("id").and_then(Value::as_str) == Some(whom)
}

fn entries<'a>(document: &'a mut Table, name: &str) -> Option<&'a mut Vec<Value>> {
    document.entry(name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut()
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { id, attribute: "groups", value } => {
                write!(f, "put {id} into the group `{value}` (identities.toml)")
            }
            Self::Register { id, attribute, value } => {
                write!(f, "register {attribute} = \"{value}\" of {id} (identities.toml)")
            }
            Self::Remove(name) => write!(f, "remove the policy `{name}`, which forbids it"),
            Self::Add(text) => write!(f, "add a policy that permits exactly this:\n{text}"),
        }
    }
}
