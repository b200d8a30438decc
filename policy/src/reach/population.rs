//! Who there is: the identities that stand beside the policies, those that policies name, those that
//! the caller knows of, and stand-ins for everyone else. Identities that no policy can tell apart are
//! one class.

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::{Action, Party, Question, Resource};
use claviger_core::id::{SpiffeId, TrustDomain};
use serde::Serialize;

use super::declared;
use super::possible::{Asked, Broken, Known};
use crate::set::PolicySet;
use crate::situation::Situation;
use crate::vocabulary::Vocabulary;

/// One identity, or one that stands for many.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Subject {
    /// The identity that is asked about.
    pub id: SpiffeId,
    /// How it is called: its URI, or, of a stand-in, the pattern that it stands for.
    pub name: String,
}

impl Subject {
    fn named(id: SpiffeId) -> Self {
        Self { name: id.to_string(), id }
    }

    /// Whether it stands for others.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.name.ends_with('*')
    }
}

/// Identities that no policy can tell apart.
#[derive(Clone, Debug)]
pub struct Class {
    /// At least one.
    pub members: Vec<Subject>,
    pub(crate) known: Vec<Known>,
}

impl Class {
    /// The first of them, and how many more there are.
    #[must_use]
    pub fn label(&self) -> String {
        let first = self.members.first().map(|subject| subject.name.as_str()).unwrap_or_default();
        match self.members.len().saturating_sub(1) {
            0 => first.to_owned(),
            more => format!("{first} (and {more} more)"),
        }
    }
}

impl Serialize for Class {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.members.iter().map(|subject| &subject.name))
    }
}

/// The last part of the path of whoever stands for others.
const STAND_IN: &str = "any-other";

/// Everyone whom `set` knows of, and `known`.
#[must_use]
pub fn everyone(set: &PolicySet, known: &[SpiffeId]) -> BTreeMap<SpiffeId, Subject> {
    let words = Vocabulary::of_all(set.cedar().policies().map(Vocabulary::of));
    let prefixes = declared::prefixes(set);
    let mut named: BTreeSet<SpiffeId> = known.iter().cloned().collect();
    named.extend(declared::exact(set));
    named.extend(words.entities("Identity").filter_map(|uri| uri.parse().ok()));
    let mut domains: BTreeSet<TrustDomain> =
        named.iter().map(|id| id.trust_domain().clone()).collect();
    domains.extend(prefixes.iter().filter_map(|prefix| domain_of(prefix)));
    domains.extend(words.entities("TrustDomain").filter_map(|name| name.parse().ok()));
    domains.extend(words.texts("trust_domain").filter_map(|name| name.parse().ok()));
    if domains.is_empty() {
        domains.extend("example.org".parse().ok());
    }
    let paths = |domain: &TrustDomain| {
        let ids = words.texts("path").filter_map(|path| SpiffeId::new(domain.clone(), &path).ok());
        ids.collect::<Vec<_>>()
    };
    named.extend(domains.iter().flat_map(paths));
    let mut everyone: BTreeMap<_, _> =
        named.into_iter().map(|id| (id.clone(), Subject::named(id))).collect();
    let mut stand_in = |prefix: String| {
        if let Ok(id) = format!("{prefix}{STAND_IN}").parse::<SpiffeId>() {
            let name = format!("{prefix}*");
            everyone.entry(id.clone()).or_insert(Subject { id, name });
        }
    };
    for prefix in prefixes {
        stand_in(prefix);
    }
    for domain in &domains {
        stand_in(format!("spiffe://{domain}/"));
        if words.mentions("reserved") {
            stand_in(format!("spiffe://{domain}/spire/agent/"));
        }
    }
    everyone
}

fn domain_of(prefix: &str) -> Option<TrustDomain> {
    prefix.strip_prefix("spiffe://")?.split('/').next()?.parse().ok()
}

/// Puts those together whom no policy can tell apart.
pub(crate) fn classes(
    set: &PolicySet,
    words: &Vocabulary,
    everyone: BTreeMap<SpiffeId, Subject>,
) -> Result<Vec<Class>, Broken> {
    let mut classes: BTreeMap<Vec<String>, Class> = BTreeMap::new();
    for (_, subject) in everyone {
        let to = Resource::Identity(Party::new(subject.id.clone()));
        let question = ordinary(set, &subject.id, &Action::Connect, &to)?;
        let asked = Asked::new(set, &question)?;
        let known = asked.principal()?;
        let traits = traits(&known, &subject, words);
        let class = classes
            .entry(traits)
            .or_insert_with(|| Class { members: Vec::new(), known: Vec::new() });
        // One to ask as, and one to ask for; who stands for many is both.
        if class.known.len() < 2 {
            class.known.push(known);
        }
        if class.known.len() < 2 && subject.stands_in() {
            let another: SpiffeId = format!("{}-2", subject.id).parse()?;
            let to = Resource::Identity(Party::new(another.clone()));
            let question = ordinary(set, &another, &Action::Connect, &to)?;
            class.known.push(Asked::new(set, &question)?.principal()?);
        }
        class.members.push(subject);
    }
    let mut classes: Vec<_> = classes.into_values().collect();
    classes.sort_by_cached_key(Class::label);
    Ok(classes)
}

/// An ordinary question.
pub(crate) fn ordinary(
    set: &PolicySet,
    from: &SpiffeId,
    action: &Action,
    to: &Resource,
) -> Result<Question, Broken> {
    // The action of a call names the tool.
    let to = match to {
        _ if matches!(action, Action::Call(_)) => None,
        Resource::Identity(party) => Some(party.id.to_string()),
        Resource::TrustDomain(domain) => Some(domain.to_string()),
        Resource::Tool(_) => None,
    };
    let purpose = Some("any".parse()?);
    let situation = Situation::default();
    let question = situation.asked(from.clone(), action.clone(), to.as_deref(), purpose)?;
    Ok(declared::with_parameters(set, question))
}

/// Everything that policies with this vocabulary can tell `subject` by.
fn traits(known: &Known, subject: &Subject, words: &Vocabulary) -> Vec<String> {
    let mut traits = Vec::new();
    if words.names("Identity", &subject.id.to_string()) {
        traits.push(subject.id.to_string());
    }
    for ancestor in &known.ancestors {
        let kind = ancestor.type_name().to_string();
        if words.names(&kind, ancestor.id().unescaped()) {
            traits.push(ancestor.to_string());
        }
    }
    for (name, value) in known.attributes() {
        if name == "path" && !words.is_open("path") {
            traits.extend(path_traits(subject.id.path(), words));
        } else if words.mentions(&name) {
            traits.push(format!("{name}={value}"));
        }
    }
    traits
}

/// What of a path policies can tell that compare it with nothing but what they write themselves.
fn path_traits(path: &str, words: &Vocabulary) -> Vec<String> {
    let matches = words.patterns("path").filter(|pattern| matches(path, pattern));
    let mut traits: Vec<_> = matches.map(|pattern| format!("path~{}", pattern.join("*"))).collect();
    if words.texts("path").any(|known| known == path) {
        traits.push(format!("path={path}"));
    }
    traits
}

/// Whether `text` is made of these parts in this order, with anything between them.
fn matches(text: &str, parts: &[String]) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return text.is_empty();
    };
    let Some(mut left) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return left.is_empty();
    };
    for part in middle {
        let Some((_, after)) = left.split_once(part.as_str()) else {
            return false;
        };
        left = after;
    }
    left.ends_with(last.as_str())
}

impl Known {
    /// What it is asked about as.
    pub(crate) fn party(&self) -> Result<Party, Broken> {
        Ok(Party::new(self.uid.id().unescaped().parse()?))
    }

    pub(crate) fn resource(&self) -> Result<Resource, Broken> {
        if self.uid.type_name().to_string() == "Tool" {
            return Ok(Resource::Tool(self.uid.id().unescaped().parse()?));
        }
        Ok(Resource::Identity(self.party()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let parts = |pattern: &str| pattern.split('*').map(str::to_owned).collect::<Vec<_>>();
        for (text, pattern, wanted) in [
            ("/ml/train", "/ml/*", true),
            ("/ml", "/ml/*", false),
            ("/ml/train", "/ml/train", true),
            ("/ml/train/1", "/ml/train", false),
            ("/a/b/c", "/a/*/c", true),
            ("/a/c", "/a/*/c", false),
            ("/abab", "*ab", true),
            ("/x", "*", true),
            ("/aXbXc", "/a*b*c", true),
        ] {
            assert_eq!(matches(text, &parts(pattern)), wanted, "{text} {pattern}");
        }
    }
}
