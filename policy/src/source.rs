//! The files that policies are written in.

use std::io::Read as _;
use std::path::Path;
use std::{fs, io};

use claviger_core::grant::PolicyDigest;
use claviger_core::policies::MAX_BYTES;
use serde::{Deserialize, Serialize};

use crate::load::LoadError;

/// The built-in policies.
pub const DEFAULT: &str = include_str!("../policies/default.cedar");

/// Policies for trying things out: [`DEFAULT`], and redemption by identity alone.
pub const DEV: &str = include_str!("../policies/dev.cedar");

/// What policies can speak of, but for the tools.
pub(crate) const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// The most files in a folder.
const MAX_FILES: usize = 256;

/// The most bytes of all files together.
const MAX_TOTAL: u64 = 4 << 20;

/// A file's name, without its folder, and its text.
pub type File = (String, String);

/// The files of a policy folder: `*.cedar` and `*.toml`, sorted by name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    files: Vec<File>,
}

impl Source {
    /// The built-in policies.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(vec![("default.cedar".to_owned(), DEFAULT.to_owned())])
    }

    /// These files.
    #[must_use]
    pub fn new(mut files: Vec<File>) -> Self {
        files.sort();
        Self { files }
    }

    /// The files in `dir`. No file at all permits nothing.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the file, and what is wrong.
    pub fn read(dir: &Path) -> Result<Self, LoadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::Read { path, source }
        };
        let (mut files, mut total) = (Vec::new(), 0_u64);
        for entry in fs::read_dir(dir).map_err(failed(dir))? {
            let path = entry.map_err(failed(dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = path.extension().is_some_and(|kind| kind == "cedar" || kind == "toml");
            // Editors keep copies and locks under names that begin with a dot.
            if !known || name.starts_with('.') {
                continue;
            }
            if files.len() == MAX_FILES {
                return Err(LoadError::TooManyFiles { dir: dir.to_owned(), most: MAX_FILES });
            }
            let found = fs::metadata(&path).map_err(failed(&path))?;
            if !found.is_file() {
                let no_file = io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
                return Err(failed(&path)(no_file));
            }
            total = total.saturating_add(found.len());
            if MAX_TOTAL < total {
                return Err(LoadError::TooLarge { path, size: total, most: MAX_TOTAL });
            }
            let mut text = String::new();
            // It may grow meanwhile.
            let file = fs::File::open(&path).map_err(failed(&path))?;
            file.take(MAX_TOTAL).read_to_string(&mut text).map_err(failed(&path))?;
            files.push((name, text));
        }
        let source = Self::new(files);
        let sent = source.to_bytes().len();
        if MAX_BYTES < sent {
            let size = u64::try_from(sent).unwrap_or(u64::MAX);
            return Err(LoadError::TooLarge { path: dir.to_owned(), size, most: MAX_TOTAL });
        }
        Ok(source)
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The text of the file with this name, if there is one.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// The files that decide. What is expected of them, by invariants and tests, stays at home.
    #[must_use]
    pub fn deciding(&self) -> Self {
        let files = self.files.iter().filter(|(name, _)| decides(name)).cloned();
        Self { files: files.collect() }
    }

    /// The files that decide, in the form in which they are signed, sent and kept: JSON, of which
    /// there is one for each set of files.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.deciding()).unwrap_or_default()
    }

    /// The files in `bytes`, at most [`MAX_BYTES`].
    ///
    /// # Errors
    ///
    /// [`MalformedSource`] unless [`Self::to_bytes`] made exactly this.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedSource> {
        if MAX_BYTES < bytes.len() {
            return Err(MalformedSource::TooLarge(bytes.len()));
        }
        let source: Self = serde_json::from_slice(bytes).map_err(MalformedSource::Json)?;
        if MAX_FILES < source.files.len() {
            return Err(MalformedSource::TooManyFiles(source.files.len()));
        }
        let in_order = source.files.is_sorted_by(|(one, _), (next, _)| one < next);
        if in_order && source.to_bytes() == bytes {
            Ok(source)
        } else {
            Err(MalformedSource::NotCanonical)
        }
    }

    /// Those that hold policies.
    pub(crate) fn cedar(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|(name, _)| name.ends_with(".cedar"))
    }

    /// The SHA-256 over schema and the files that decide, each with its name and both with their
    /// lengths, so that no two sets of policies share a digest.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        let schema = ("schema.cedarschema", SCHEMA);
        let deciding = self.files.iter().filter(|(name, _)| decides(name));
        let files = deciding.map(|(file, text)| (file.as_str(), text.as_str()));
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
}

/// Whether a decision depends on the file with this name.
fn decides(name: &str) -> bool {
    name.ends_with(".cedar") || name == "identities.toml" || name == "tools.toml"
}

/// Bytes are not what policies are sent as.
#[derive(Debug, thiserror::Error)]
pub enum MalformedSource {
    /// There are too many.
    #[error("policies of {0} bytes are too large; at most {MAX_BYTES} are taken in")]
    TooLarge(usize),
    /// They are something else.
    #[error("these are no policies in JSON")]
    Json(#[source] serde_json::Error),
    /// There are more files than a folder may have.
    #[error("there are {0} policy files; at most {MAX_FILES} are taken in")]
    TooManyFiles(usize),
    /// Nobody who writes policies writes them so.
    #[error("the policies are not written as they have to be: files that decide, in order, once")]
    NotCanonical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_schema_names_and_texts() {
        let digest = |files: &[(&str, &str)]| {
            let owned = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            Source::new(owned.collect()).digest()
        };
        const PERMIT: &str = "permit (principal, action, resource);";
        let one = digest(&[("a.cedar", PERMIT), ("b.cedar", "")]);
        assert_eq!(one, digest(&[("b.cedar", ""), ("a.cedar", PERMIT)]), "order is no matter");
        assert_ne!(one, digest(&[("a.cedar", ""), ("b.cedar", PERMIT)]));
        assert_ne!(one, digest(&[("a.cedar", PERMIT)]));
        assert_ne!(one, digest(&[]));
    }

    #[test]
    fn what_is_expected_of_policies_decides_nothing_and_is_not_sent() {
        let files = |names: &[&str]| {
            Source::new(names.iter().map(|name| ((*name).to_owned(), String::new())).collect())
        };
        let deciding = files(&["a.cedar", "identities.toml", "tools.toml"]);
        let all =
            files(&["a.cedar", "a.test.toml", "identities.toml", "invariants.toml", "tools.toml"]);
        assert_eq!(all.digest(), deciding.digest());
        assert_eq!(all.to_bytes(), deciding.to_bytes());
        assert_eq!(Source::from_bytes(&all.to_bytes()).unwrap(), deciding);
    }

    #[test]
    fn policies_are_written_in_one_way() {
        let bytes = Source::built_in().to_bytes();
        assert_eq!(Source::from_bytes(&bytes).unwrap(), Source::built_in());
        assert!(bytes.starts_with(br#"{"files":[["default.cedar",""#));
        for bad in [
            r#"{"files":[]} "#,
            r#"{"files":[["b.cedar",""],["a.cedar",""]]}"#,
            r#"{"files":[["a.cedar",""],["a.cedar",""]]}"#,
            r#"{"files":[["a.cedar","\u0041"]]}"#,
            r#"{"files":[["invariants.toml",""]]}"#,
            r#"{"files":[["../a.cedar"]]}"#,
            r#"{"files":[],"files":[]}"#,
            r#"{"files":[],"more":1}"#,
            r#"[[]]"#,
            "",
        ] {
            Source::from_bytes(bad.as_bytes()).unwrap_err();
        }
        assert_eq!(Source::from_bytes(br#"{"files":[]}"#).unwrap().files().len(), 0);
        let large = Source::new(vec![("a.cedar".to_owned(), " ".repeat(MAX_BYTES))]).to_bytes();
        let error = Source::from_bytes(&large).unwrap_err();
        assert!(matches!(error, MalformedSource::TooLarge(_)), "{error}");
    }

    #[test]
    fn a_folder_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Source::read(dir.path()).unwrap().files().len(), 0);
        fs::write(dir.path().join("a.cedar"), DEFAULT).unwrap();
        fs::write(dir.path().join("README"), "not a policy").unwrap();
        assert_eq!(Source::read(dir.path()).unwrap().files().len(), 1);
        fs::write(dir.path().join(".#a.cedar"), "an editor's").unwrap();
        assert_eq!(Source::read(dir.path()).unwrap().files().len(), 1);
        fs::write(dir.path().join("b.cedar"), vec![b' '; 10_000_000]).unwrap();
        let error = Source::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("b.cedar") && error.contains("at most 4194304"), "{error}");
        fs::remove_file(dir.path().join("b.cedar")).unwrap();
        fs::create_dir(dir.path().join("c.cedar")).unwrap();
        let error = Source::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("c.cedar"), "{error}");
        Source::read(&dir.path().join("none")).unwrap_err();
    }
}
