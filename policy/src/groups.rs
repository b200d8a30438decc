//! Groups of identities and tools: what `[[group]]` in `identities.toml` and `tools.toml` declares.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use crate::load::LoadError;
use crate::toml_file::{Text, TomlFile, nothing};

/// The most groups.
const MAX_GROUPS: usize = 10_000;

/// The most groups that one is directly in.
pub(crate) const MAX_DIRECT: usize = 64;

/// The most groups that one is in, through others, too.
const MAX_ABOVE: usize = 256;

/// One `[[group]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declared {
    name: Spanned<Text>,
    #[serde(default = "nothing")]
    r#in: Spanned<Vec<Spanned<Text>>>,
}

/// Groups, and which groups each is in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Groups {
    /// With those that it is in through others, too.
    above: BTreeMap<String, BTreeSet<String>>,
}

impl Groups {
    /// The groups that these files declare.
    pub(crate) fn new(declared: Vec<(TomlFile<'_>, Vec<Declared>)>) -> Result<Self, LoadError> {
        let mut direct = BTreeMap::new();
        for (file, groups) in declared {
            for Declared { name, r#in } in groups {
                file.at_most(r#in.span(), r#in.get_ref().len(), MAX_DIRECT, "groups")?;
                if direct.len() == MAX_GROUPS {
                    let reason = format!("there are more than {MAX_GROUPS} groups");
                    return Err(file.wrong(name.span(), reason));
                }
                let (span, name) = (name.span(), name.into_inner());
                if direct.insert(name.clone(), (file, span.clone(), r#in.into_inner())).is_some() {
                    let reason = format!("the group `{name}` is declared twice");
                    return Err(file.wrong(span, reason));
                }
            }
        }
        for (file, _, parents) in direct.values() {
            for parent in parents {
                if !direct.contains_key(parent.get_ref()) {
                    return Err(file.wrong(parent.span(), undeclared(parent.get_ref())));
                }
            }
        }
        let mut above = BTreeMap::new();
        for (name, (file, span, _)) in &direct {
            let all = climb(name, |group| {
                direct.get(group).into_iter().flat_map(|(_, _, parents)| parents)
            });
            let all = all.map_err(|reason| file.wrong(span.clone(), reason))?;
            above.insert(name.to_string(), all);
        }
        Ok(Self { above })
    }

    /// All groups, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.above.keys().map(String::as_str)
    }

    /// Whether there is such a group.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.above.contains_key(name)
    }

    /// The groups that `group` is in, directly or through others.
    pub fn above(&self, group: &str) -> impl Iterator<Item = &str> {
        self.above.get(group).into_iter().flatten().map(String::as_str)
    }

    /// These groups, and those that they are in.
    pub(crate) fn and_above<'a>(
        &'a self,
        groups: impl IntoIterator<Item = &'a String>,
    ) -> BTreeSet<&'a str> {
        let groups = groups.into_iter();
        groups.flat_map(|group| self.above(group).chain([group.as_str()])).collect()
    }

    /// The names in `groups` of `file`, each of which has to be declared.
    pub(crate) fn all_declared(
        &self,
        file: TomlFile<'_>,
        groups: Spanned<Vec<Spanned<Text>>>,
    ) -> Result<BTreeSet<String>, LoadError> {
        file.at_most(groups.span(), groups.get_ref().len(), MAX_DIRECT, "groups")?;
        let mut names = BTreeSet::new();
        for name in groups.into_inner() {
            if !self.has(name.get_ref()) {
                return Err(file.wrong(name.span(), undeclared(name.get_ref())));
            }
            names.insert(name.into_inner().into());
        }
        Ok(names)
    }
}

/// All that is above `start`; an error says that it is too much, or that it goes round in circles.
fn climb<'a, P>(start: &Text, parents: impl Fn(&str) -> P) -> Result<BTreeSet<String>, String>
where
    P: Iterator<Item = &'a Spanned<Text>>,
{
    let (mut all, mut next) = (BTreeSet::new(), vec![start.to_string()]);
    while let Some(group) = next.pop() {
        for parent in parents(&group).map(Spanned::get_ref) {
            if parent == start {
                return Err(format!("the group `{start}` is in itself, by way of `{group}`"));
            }
            if all.insert(parent.to_string()) {
                next.push(parent.to_string());
            }
        }
        if MAX_ABOVE < all.len() {
            return Err(format!("the group `{start}` is in more than {MAX_ABOVE} groups"));
        }
    }
    Ok(all)
}

fn undeclared(name: &str) -> String {
    format!("there is no group `{name}`; declare it: [[group]] name = \"{name}\"")
}
