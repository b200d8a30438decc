//! The manifests that an operator registered.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use claviger_core::selector::Selectors;

use super::loaded::Patterns;
use super::manifest::{self, Digest, Manifest, ManifestError};
use super::{Config, KIND};
use crate::dsse::{EnvelopeError, Key};
use crate::files;
use crate::workload::{FactsError, fact};

/// Manifests in files. They are read again when their files change; while one can't be used, nothing
/// is said of any model.
#[derive(Debug)]
pub(super) struct Registry {
    paths: Vec<PathBuf>,
    keys: Vec<Key>,
    read: Mutex<Option<Read>>,
}

/// What was read, and which states of the files that was.
#[derive(Debug)]
struct Read {
    versions: Vec<Version>,
    models: Arc<Models>,
}

/// What changes with the contents of a file.
#[derive(Debug, Eq, PartialEq)]
struct Version(u64, u64, i64, i64);

/// The most bytes of a file of a key.
const MAX_KEY: usize = 64 << 10;

impl Registry {
    /// Reads the manifests that `config` names, so that a mistake shows at start.
    pub(super) fn open(config: &Config) -> Result<Self, RegistryError> {
        let key = |path: &PathBuf| {
            let pem = files::read(path, MAX_KEY).map_err(|error| unreadable(path, error))?;
            Key::from_pem(&pem).map_err(|source| RegistryError::Key { path: path.clone(), source })
        };
        let keys = config.keys.iter().map(key).collect::<Result<_, _>>()?;
        let registry = Self { paths: config.manifests.clone(), keys, read: Mutex::new(None) };
        registry.current()?;
        Ok(registry)
    }

    fn current(&self) -> Result<Arc<Models>, RegistryError> {
        let versions: Vec<_> = self.paths.iter().map(version).collect::<Result<_, _>>()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.as_ref()
            && read.versions == versions
        {
            return Ok(Arc::clone(&read.models));
        }
        *read = None;
        let open = |path: &PathBuf| {
            let bytes =
                files::read(path, manifest::MAX).map_err(|error| unreadable(path, error))?;
            Manifest::open(&bytes, &self.keys)
                .map_err(|source| RegistryError::Manifest { path: path.clone(), source })
        };
        let manifests = self.paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let models = Arc::new(Models::of(manifests));
        *read = Some(Read { versions, models: Arc::clone(&models) });
        Ok(models)
    }

    /// What the manifests say of a process that has loaded `files`: where each was found, and its
    /// digest.
    pub(super) fn recognise(
        &self,
        files: &[(String, Digest)],
        patterns: &Patterns,
    ) -> Result<Selectors, FactsError> {
        let models = self.current().map_err(|error| {
            FactsError::unavailable("the manifests of models cannot be used", error)
        })?;
        models.recognise(files, patterns)
    }
}

fn version(path: &PathBuf) -> Result<Version, RegistryError> {
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    Ok(Version(found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// Manifests, and which of them have a file.
#[derive(Debug)]
struct Models {
    manifests: Vec<Manifest>,
    /// By the digest of a file: the places of manifests that list it.
    listed: BTreeMap<Digest, BTreeSet<usize>>,
}

impl Models {
    fn of(manifests: Vec<Manifest>) -> Self {
        let mut listed: BTreeMap<Digest, BTreeSet<usize>> = BTreeMap::new();
        for (place, manifest) in manifests.iter().enumerate() {
            for resource in &manifest.resources {
                listed.entry(resource.digest).or_default().insert(place);
            }
        }
        Self { manifests, listed }
    }

    fn recognise(
        &self,
        files: &[(String, Digest)],
        patterns: &Patterns,
    ) -> Result<Selectors, FactsError> {
        let digests: BTreeSet<_> = files.iter().map(|(_, digest)| *digest).collect();
        let listing = |(path, digest): &(String, Digest)| {
            self.listed.get(digest).ok_or_else(|| {
                let digest = hex::encode(digest);
                FactsError::unknown(format!("`{path}` ({digest}) is in no manifest of a model"))
            })
        };
        let listings = files.iter().map(listing).collect::<Result<Vec<_>, _>>()?;
        let named = named(&listings);
        if !listings.iter().all(|listing| listing.iter().any(|place| named.contains(place))) {
            return Err(FactsError::unknown(
                "a loaded file is in several manifests, and nothing says of which model it is",
            ));
        }
        let manifests = named.iter().filter_map(|place| self.manifests.get(*place));
        Ok(manifests.flat_map(|manifest| facts(manifest, &digests, patterns)).collect())
    }
}

/// Which models these files are of, each with the manifests that list it: those that list all of
/// them, or else each that alone lists one of them. A file that is the same in two models makes
/// nobody the other one.
fn named(listings: &[&BTreeSet<usize>]) -> BTreeSet<usize> {
    let (Some(first), rest) = (listings.first(), listings.get(1..).unwrap_or_default()) else {
        return BTreeSet::new();
    };
    let common = rest.iter().fold((*first).clone(), |common, listing| &common & *listing);
    if !common.is_empty() {
        return common;
    }
    let alone = listings.iter().filter(|listing| listing.len() == 1);
    alone.flat_map(|listing| listing.iter().copied()).collect()
}

/// What is said of a model of which files with these `digests` are loaded.
fn facts(manifest: &Manifest, digests: &BTreeSet<Digest>, patterns: &Patterns) -> Selectors {
    let digest = hex::encode(manifest.digest);
    let loaded = manifest.resources.iter().filter(|file| digests.contains(&file.digest));
    let mut facts: Selectors = loaded
        .filter_map(|file| {
            let value = format!("{}:{}", file.name, hex::encode(file.digest));
            fact(KIND, "file", value)
        })
        .collect();
    // What is not loaded as weights, such as a tokenizer, does not make a model incomplete.
    let mut weights = manifest.resources.iter().filter(|file| patterns.names(&file.name));
    if weights.all(|file| digests.contains(&file.digest)) {
        facts.extend(fact(KIND, "complete", &digest));
    }
    facts.extend(fact(KIND, "name", &manifest.name));
    facts.extend(fact(KIND, "digest", digest));
    facts
}

fn unreadable(path: &Path, source: io::Error) -> RegistryError {
    RegistryError::Unreadable { path: path.to_owned(), source }
}

/// Why manifests can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file can't be read.
    #[error("cannot read `{path}`", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A public key can't be used.
    #[error("`{path}` holds no key that can sign manifests", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// It is no signed manifest.
    #[error("`{path}` holds no signed manifest of a model", path = path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
}
