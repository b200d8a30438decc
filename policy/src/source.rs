//! The files that policies are written in.

use std::fs;
use std::path::Path;

use claviger_core::grant::PolicyDigest;

use crate::load::LoadError;

/// The built-in policies.
pub const DEFAULT: &str = include_str!("../policies/default.cedar");

/// Policies for trying things out: [`DEFAULT`], and redemption by identity alone.
pub const DEV: &str = include_str!("../policies/dev.cedar");

/// What policies can speak of, but for the tools.
pub(crate) const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// The most files in a folder.
const MAX_FILES: usize = 256;

/// The largest file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The most bytes of all files together.
const MAX_TOTAL: u64 = 4 << 20;

/// A file's name, without its folder, and its text.
pub type File = (String, String);

/// The files of a policy folder: `*.cedar` and `*.toml`, sorted by name.
#[derive(Clone, Debug, Eq, PartialEq)]
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
            let known = path.extension().is_some_and(|kind| kind == "cedar" || kind == "toml");
            if !known {
                continue;
            }
            if files.len() == MAX_FILES {
                return Err(LoadError::TooManyFiles { dir: dir.to_owned(), most: MAX_FILES });
            }
            let size = fs::metadata(&path).map_err(failed(&path))?.len();
            total = total.saturating_add(size);
            if MAX_FILE < size || MAX_TOTAL < total {
                let most = if MAX_FILE < size { MAX_FILE } else { MAX_TOTAL };
                return Err(LoadError::TooLarge { path, size: size.max(total), most });
            }
            let text = fs::read_to_string(&path).map_err(failed(&path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, text));
        }
        Ok(Self::new(files))
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

    /// Those that hold policies.
    pub(crate) fn cedar(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|(name, _)| name.ends_with(".cedar"))
    }

    /// The SHA-256 over schema and files, each with its name and both with their lengths, so that no
    /// two sets of policies share a digest.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        let schema = ("schema.cedarschema", SCHEMA);
        let files = self.files.iter().map(|(file, text)| (file.as_str(), text.as_str()));
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
    fn a_folder_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Source::read(dir.path()).unwrap().files().len(), 0);
        fs::write(dir.path().join("a.cedar"), DEFAULT).unwrap();
        fs::write(dir.path().join("README"), "not a policy").unwrap();
        assert_eq!(Source::read(dir.path()).unwrap().files().len(), 1);
        fs::write(dir.path().join("b.cedar"), vec![b' '; (1 << 20) + 1]).unwrap();
        let error = Source::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("b.cedar") && error.contains("1048577"), "{error}");
        Source::read(&dir.path().join("none")).unwrap_err();
    }
}
