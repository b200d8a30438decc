//! Reading policies, and refusing those that do not fit the schema.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cedar_policy::{Policy as CedarPolicy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use claviger_core::grant::PolicyDigest;
use claviger_core::id::TrustDomain;

use super::{DEFAULT, Policy};

const SCHEMA: &str = include_str!("../../policy/schema.cedarschema");

/// The most policy files in a directory.
const MAX_FILES: usize = 256;

/// The largest policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A file's name, for messages and for the digest, and what it says.
type Text = (String, String);

impl Policy {
    /// The built-in policies, for a server of `trust_domain`.
    ///
    /// # Errors
    ///
    /// None; a test loads them. The type is that of [`Self::load`].
    pub fn built_in(trust_domain: TrustDomain) -> Result<Self, LoadError> {
        Self::from_texts(trust_domain, vec![("default.cedar".to_owned(), DEFAULT.to_owned())])
    }

    /// The policies in the `*.cedar` files of `dir`. No file at all permits nothing.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the file, the line and the reason.
    pub fn load(trust_domain: TrustDomain, dir: &Path) -> Result<Self, LoadError> {
        Self::from_texts(trust_domain, read(dir)?)
    }

    pub(super) fn from_texts(
        trust_domain: TrustDomain,
        mut texts: Vec<Text>,
    ) -> Result<Self, LoadError> {
        texts.sort();
        let schema = schema()?;
        let validator = Validator::new(schema.clone());
        let mut policies = PolicySet::new();
        for (file, text) in &texts {
            for policy in parse(file, text, &validator)? {
                policies
                    .add(policy)
                    .map_err(|error| LoadError::policy(file, None, error.to_string()))?;
            }
        }
        Ok(Self { trust_domain, schema, policies, digest: digest(&texts) })
    }
}

pub(super) fn schema() -> Result<Schema, LoadError> {
    let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|error| LoadError::policy("schema.cedarschema", None, error.to_string()))?;
    Ok(schema)
}

/// The SHA-256 over schema and files, each with its name and both with their lengths, so that no
/// two sets of policies share a digest.
fn digest(texts: &[Text]) -> PolicyDigest {
    let schema = ("schema.cedarschema", SCHEMA);
    let files = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
    let mut bytes = b"claviger policy v1".to_vec();
    for (name, text) in std::iter::once(schema).chain(files) {
        for part in [name, text] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    PolicyDigest::of(&bytes)
}

/// The policies in one file, named after it and checked against the schema.
fn parse(file: &str, text: &str, validator: &Validator) -> Result<Vec<CedarPolicy>, LoadError> {
    let set: PolicySet = text
        .parse()
        .map_err(|errors: cedar_policy::ParseErrors| syntax_error(file, text, &errors))?;
    if set.templates().next().is_some() {
        let reason = "templates (`?principal`, `?resource`) are not supported".to_owned();
        return Err(LoadError::policy(file, None, reason));
    }
    let checked = validator.validate(&set, ValidationMode::Strict);
    if let Some(error) = checked.validation_errors().next() {
        let at = miette::Diagnostic::labels(error).and_then(|mut labels| labels.next());
        let line = at.map(|label| line_of(text, label.offset()));
        return Err(LoadError::policy(file, line, error.to_string()));
    }
    Ok(set
        .policies()
        .map(|policy| policy.new_id(PolicyId::new(format!("{file}#{}", policy.id()))))
        .collect())
}

fn syntax_error(file: &str, text: &str, errors: &cedar_policy::ParseErrors) -> LoadError {
    let at = miette::Diagnostic::labels(errors).and_then(|mut labels| labels.next());
    let line = at.map(|label| line_of(text, label.offset()));
    LoadError::policy(file, line, errors.to_string())
}

/// The line, from 1, that byte `offset` lies in.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

fn read(dir: &Path) -> Result<Vec<Text>, LoadError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Read { path, source }
    };
    let mut texts = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        if texts.len() == MAX_FILES {
            return Err(LoadError::TooManyFiles { dir: dir.to_owned() });
        }
        let size = fs::metadata(&path).map_err(failed(&path))?.len();
        if MAX_FILE < size {
            return Err(LoadError::TooLarge { path, size });
        }
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        texts.push((name, text));
    }
    Ok(texts)
}

/// Why policies cannot come into force. The server does not start with half of them.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or the directory cannot be read.
    #[error("cannot read policies from `{path}`", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There are more files than anyone can oversee.
    #[error("`{dir}` holds more than {MAX_FILES} policy files; join some of them", dir = dir.display())]
    TooManyFiles {
        /// The directory.
        dir: PathBuf,
    },
    /// A file is too large.
    #[error("policy file `{path}` has {size} bytes; at most {MAX_FILE} are read", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A policy is not Cedar, or does not fit the schema.
    #[error("policy file `{file}`, {}: {reason}", line.map_or_else(|| "somewhere".to_owned(), |line| format!("line {line}")))]
    Policy {
        /// The file's name.
        file: String,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
}

impl LoadError {
    fn policy(file: &str, line: Option<usize>, reason: String) -> Self {
        Self::Policy { file: file.to_owned(), line, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    #[track_caller]
    fn refuses(text: &str, wanted: &[&str]) {
        let texts = vec![("a.cedar".to_owned(), text.to_owned())];
        let error = Policy::from_texts(domain(), texts).unwrap_err().to_string();
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

    #[test]
    fn the_digest_covers_schema_names_and_texts() {
        let digest = |texts: &[(&str, &str)]| {
            let texts: Vec<Text> =
                texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            Policy::from_texts(domain(), texts).unwrap().digest()
        };
        const PERMIT: &str = "permit (principal, action, resource);";
        let one = digest(&[("a.cedar", PERMIT), ("b.cedar", "")]);
        assert_eq!(one, digest(&[("b.cedar", ""), ("a.cedar", PERMIT)]), "order is no matter");
        assert_ne!(one, digest(&[("a.cedar", ""), ("b.cedar", PERMIT)]));
        assert_ne!(one, digest(&[("a.cedar", PERMIT)]));
        assert_ne!(one, digest(&[]));
    }

    #[test]
    fn a_directory_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Policy::load(domain(), dir.path());
        assert_eq!(load().unwrap().count(), 0);
        fs::write(dir.path().join("a.cedar"), DEFAULT).unwrap();
        fs::write(dir.path().join("b.cedar"), DEFAULT).unwrap();
        fs::write(dir.path().join("README"), "not a policy").unwrap();
        assert_eq!(load().unwrap().count(), 4);
        fs::write(dir.path().join("c.cedar"), "permit").unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.contains("`c.cedar`"), "{error}");
        let missing = Policy::load(domain(), &dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
