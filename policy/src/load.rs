//! Reading policies, and refusing those that do not fit the schema.

use std::io;
use std::path::PathBuf;

use cedar_policy::{
    ParseErrors, Policy as CedarPolicy, PolicyId, PolicySet as CedarPolicies, Schema,
    ValidationMode, Validator,
};

use crate::source::{SCHEMA, Source};

pub(crate) fn schema() -> Result<Schema, LoadError> {
    let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|error| LoadError::new("schema.cedarschema", None, error.to_string()))?;
    Ok(schema)
}

/// The policies of `source`, checked against `schema`.
pub(crate) fn policies(source: &Source, schema: &Schema) -> Result<CedarPolicies, LoadError> {
    let validator = Validator::new(schema.clone());
    let mut policies = CedarPolicies::new();
    for (file, text) in source.cedar() {
        for policy in parse(file, text, &validator)? {
            policies.add(policy).map_err(|error| LoadError::new(file, None, error.to_string()))?;
        }
    }
    Ok(policies)
}

/// The policies in one file, named after it and checked against the schema.
fn parse(file: &str, text: &str, validator: &Validator) -> Result<Vec<CedarPolicy>, LoadError> {
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
    Ok(set
        .policies()
        .map(|policy| policy.new_id(PolicyId::new(format!("{file}#{}", policy.id()))))
        .collect())
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
        let error = policies(&source, &schema().unwrap()).unwrap_err().to_string();
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
