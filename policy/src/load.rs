//! Reading policies, and refusing those that do not fit the schema.

use std::collections::HashSet;
use std::io;
use std::mem::take;
use std::path::PathBuf;

use cedar_policy::{
    ParseErrors, Policy as CedarPolicy, PolicyId, PolicySet as CedarPolicies, Schema,
    ValidationMode, Validator,
};

use crate::groups::Groups;
use crate::identities::{self, Identities};
use crate::rule::Rule;
use crate::source::{SCHEMA, Source};
use crate::toml_file::TomlFile;
use crate::tools::{self, Tools};

/// All that stands in a folder, checked against each other.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) groups: Groups,
    pub(crate) identities: Identities,
    pub(crate) tools: Tools,
    pub(crate) schema: Schema,
    /// In the order of files, and in each of lines.
    pub(crate) policies: Vec<(CedarPolicy, Rule)>,
}

impl Loaded {
    /// What `source` holds.
    pub(crate) fn of(source: &Source) -> Result<Self, LoadError> {
        let mut people = TomlFile::read::<identities::File>(source, identities::FILE)?;
        let mut tools = TomlFile::read::<tools::File>(source, tools::FILE)?;
        let declared = people.iter_mut().map(|(file, people)| (*file, take(&mut people.group)));
        let called = tools.iter_mut().map(|(file, tools)| (*file, take(&mut tools.group)));
        let groups = Groups::new(declared.chain(called).collect())?;
        let identities = match people {
            Some((file, people)) => people.identities(file, &groups)?,
            None => Identities::default(),
        };
        let tools = match tools {
            Some((file, written)) => written.tools(file, &groups)?,
            None => Tools::default(),
        };
        let mut loaded =
            Self { schema: schema(&tools)?, groups, identities, tools, policies: Vec::new() };
        let validator = Validator::new(loaded.schema.clone());
        for (file, text) in source.cedar() {
            let policies = loaded.parse(file, text, &validator)?;
            loaded.policies.extend(policies);
        }
        Ok(loaded)
    }

    /// The policies in one file, named after it and checked against the schema and what they name.
    fn parse(
        &self,
        file: &str,
        text: &str,
        validator: &Validator,
    ) -> Result<Vec<(CedarPolicy, Rule)>, LoadError> {
        let set: CedarPolicies =
            text.parse().map_err(|errors: ParseErrors| syntax_error(file, text, &errors))?;
        if set.templates().next().is_some() {
            let reason = "templates (`?principal`, `?resource`) are not supported".to_owned();
            return Err(LoadError::new(file, None, reason));
        }
        let checked = validator.validate(&set, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            let at = miette::Diagnostic::labels(error).and_then(|mut labels| labels.next());
            let line = at.map(|label| line_of(text, label.offset()));
            return Err(LoadError::new(file, line, error.to_string()));
        }
        let mut policies = Vec::new();
        let mut names = HashSet::new();
        for policy in set.policies() {
            let rule = Rule::of(policy, file, text)?;
            self.check_names(policy).map_err(|(named, reason)| {
                let line = text.find(&named).map(|at| line_of(text, at));
                LoadError::new(file, line.or(rule.line), reason)
            })?;
            if !names.insert(rule.name.clone()) {
                let reason = format!("there are two policies `{}`", rule.name);
                return Err(LoadError::new(file, rule.line, reason));
            }
            policies.push((policy.new_id(PolicyId::new(&rule.name)), rule));
        }
        policies.sort_by_key(|(_, rule)| rule.line);
        Ok(policies)
    }

    /// Refuses groups and tools that nobody declares: a policy that names them in error forbids
    /// nothing. The error is what is named, and why that is wrong.
    fn check_names(&self, policy: &CedarPolicy) -> Result<(), (String, String)> {
        for uid in policy.entity_literals() {
            let name = uid.id().unescaped();
            let (kind, known, file) = match uid.type_name().basename() {
                "Group" => ("group", self.groups.has(name), identities::FILE),
                "Tool" => {
                    let known = name.parse().is_ok_and(|name| self.tools.named(&name).is_some());
                    ("tool", known, tools::FILE)
                }
                _ => continue,
            };
            if !known {
                let reason = format!("there is no {kind} `{name}`; declare it in `{file}`");
                return Err((uid.to_string(), reason));
            }
        }
        Ok(())
    }
}

/// The built-in schema, and the actions of `tools`.
pub(crate) fn schema(tools: &Tools) -> Result<Schema, LoadError> {
    let text = format!("{SCHEMA}{}", tools.schema());
    let (schema, _warnings) = Schema::from_cedarschema_str(&text)
        .map_err(|error| LoadError::new("schema.cedarschema", None, error.to_string()))?;
    Ok(schema)
}

fn syntax_error(file: &str, text: &str, errors: &ParseErrors) -> LoadError {
    let at = miette::Diagnostic::labels(errors).and_then(|mut labels| labels.next());
    let line = at.map(|label| line_of(text, label.offset()));
    LoadError::new(file, line, errors.to_string())
}

/// The line, from 1, that byte `offset` lies in.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

/// Why policies cannot come into force. Nobody works with half of them.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or the folder cannot be read.
    #[error("cannot read policies from `{path}`", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There are more files than anyone can oversee.
    #[error("`{dir}` holds more than {most} policy files; join some of them", dir = dir.display())]
    TooManyFiles {
        /// The folder.
        dir: PathBuf,
        /// How many there may be.
        most: usize,
    },
    /// A file, or all of them together, are too large.
    #[error("policy file `{path}` brings it to {size} bytes; at most {most} are read", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The size in bytes.
        size: u64,
        /// The largest there may be.
        most: u64,
    },
    /// A file is not what it should be, or does not fit the others.
    #[error("policy file `{file}`, {}: {reason}", line.map_or_else(|| "somewhere".to_owned(), |line| format!("line {line}")))]
    Wrong {
        /// The file's name.
        file: String,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
}

impl LoadError {
    pub(crate) fn new(file: &str, line: Option<usize>, reason: String) -> Self {
        Self::Wrong { file: file.to_owned(), line, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(text: &str, wanted: &[&str]) {
        let source = Source::new(vec![("a.cedar".to_owned(), text.to_owned())]);
        let error = Loaded::of(&source).unwrap_err().to_string();
        for part in wanted {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_error_names_file_line_and_reason() {
        refuses("\n\npermit (principal, action);", &["`a.cedar`, line 3"]);
        refuses(
            "permit (principal, action, resource)\nwhen { principal.patth == \"/a\" };",
            &["`a.cedar`, line 2", "patth"],
        );
        refuses(
            "permit (principal, action == Action::\"issue_x590\", resource);",
            &["`a.cedar`, line 1", "issue_x590"],
        );
        refuses("permit (principal == ?principal, action, resource);", &["templates"]);
    }
}
