//! Reference values (RFC 9334 §4.5): what was measured of the software that an operator wants to run.
//!
//! An operator signs them (DSSE), with a date after which they are worth nothing: `claviger references
//! sign`. They are read again when their file changes. A file that can't be read, isn't signed or has
//! expired admits nobody. Whoever can write the file, and can't sign, can only put an older one in its
//! place that has not expired yet.
//!
//! ```json
//! {
//!   "kind": "aws_nitro",
//!   "expires": "2027-06-30T00:00:00Z",
//!   "images": [
//!     { "name": "signer", "version": "1.4.2", "registers": { "pcr0": "…", "pcr8": "…" } }
//!   ]
//! }
//! ```
//!
//! An image is recognised if every register that it names has just this value. The payload's type is
//! [`PAYLOAD_TYPE`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::checklist::{Broken, Checklist, Rule};
use crate::dsse::{Envelope, EnvelopeError, Key};
use crate::{ConfigProblem, files, json};

/// The type of the signed payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.claviger.reference-values+json";

/// The largest file of reference values, in bytes.
pub const MAX: usize = 1 << 20;

/// The longest name or version of an image, in bytes: it becomes a selector.
pub const MAX_NAME: usize = 128;

pub(crate) static RECOGNISED: Rule = Rule::new(
    "reference_values",
    "what was measured is what signed and unexpired reference values name",
);

/// What was measured, by the name of the register: raw bytes.
pub type Measured = BTreeMap<String, Vec<u8>>;

/// `reference-values` in the settings of a kind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The signed file.
    pub path: PathBuf,
    /// Files with the public keys, in PEM, of those who may sign it.
    pub keys: Vec<PathBuf>,
}

impl Config {
    /// Everything wrong with it, without reading the files.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let problem = |key: &str, advice: &str| {
            ConfigProblem::new(format!("reference-values.{key}"), None, advice)
        };
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push(problem("path", "name the file with the signed reference values"));
        }
        if self.keys.is_empty() {
            let advice = "nobody could sign them; name the public keys of those who may";
            problems.push(problem("keys", advice));
        }
        problems
    }
}

/// Which registers a kind of evidence has.
#[derive(Debug)]
pub struct Registers {
    /// The kind of evidence.
    pub kind: &'static str,
    /// The length of the value of a register in bytes; none if there is no such register.
    pub length: fn(&str) -> Option<usize>,
    /// Whether a register says what software runs, so that an image may be recognised by it. One that
    /// only says where it runs recognises no software.
    pub identifies: fn(&str) -> bool,
}

/// Software that an operator wants to run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What its registers hold, in hexadecimal digits.
    pub registers: BTreeMap<String, String>,
}

/// The signed payload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The kind of evidence that it is about.
    pub kind: String,
    /// When it ends to be worth anything, as RFC 3339 has it.
    pub expires: jiff::Timestamp,
    /// What may run.
    pub images: Vec<Image>,
}

impl Manifest {
    /// Reads a payload, which is about evidence with these `registers`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Content`] if it would admit nobody or anybody, or is about something else.
    pub fn parse(payload: &[u8], registers: &Registers) -> Result<Self, ReferenceError> {
        let manifest = Self::read(payload)?;
        manifest.check(registers)?;
        Ok(manifest)
    }

    /// Reads a payload of whichever kind it is about. What it says is not checked.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Content`] if it is not of the documented form.
    pub fn read(payload: &[u8]) -> Result<Self, ReferenceError> {
        json::read(payload).map_err(|_malformed| {
            let detail = serde_json::from_slice::<Self>(payload).map_or_else(
                |error| error.to_string(),
                |_read| "a member comes twice, or it is no object".to_owned(),
            );
            content(format!("it is no JSON of the documented form: {detail}"))
        })
    }

    /// Checks what it says about evidence with these `registers`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Content`] if it would admit nobody or anybody, or is about something else.
    pub fn check(&self, registers: &Registers) -> Result<(), ReferenceError> {
        if self.kind != registers.kind {
            return Err(content(format!(
                "it is about `{}` and not about `{}`",
                self.kind, registers.kind
            )));
        }
        if self.images.is_empty() {
            return Err(content("it names no image, so it admits nobody"));
        }
        let mut seen = BTreeSet::new();
        for image in &self.images {
            image.check(registers)?;
            if !seen.insert(&image.registers) {
                let name = &image.name;
                return Err(content(format!("image `{name}` has the registers of one before it")));
            }
        }
        Ok(())
    }

    /// The image that was `measured`.
    #[must_use]
    pub fn recognise(&self, measured: &Measured) -> Option<&Image> {
        self.images.iter().find(|image| {
            image.registers.iter().all(|(register, expected)| {
                measured.get(register).is_some_and(|value| hex::encode(value) == *expected)
            })
        })
    }

    /// Whether it is worth nothing any more at `now`.
    #[must_use]
    pub fn has_expired(&self, now: UnixTime) -> bool {
        u64::try_from(self.expires.as_second()).map_or(true, |expires| expires <= now.as_secs())
    }
}

impl Image {
    /// Checks what it says about evidence with these `registers`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Content`] if it would recognise anything or nothing.
    pub fn check(&self, registers: &Registers) -> Result<(), ReferenceError> {
        let name = &self.name;
        if name.is_empty() {
            return Err(content("an image has no name"));
        }
        let plain = |text: &str| {
            (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !plain(name) || !self.version.as_deref().is_none_or(plain) {
            return Err(content(format!(
                "image {name:?}: name and version are 1 to {MAX_NAME} printable ASCII characters \
                 without spaces; they become selectors"
            )));
        }
        for (register, value) in &self.registers {
            let length = (registers.length)(register).ok_or_else(|| {
                content(format!("image `{name}`: `{register}` is no register of this kind"))
            })?;
            let bytes = hex::decode(value).unwrap_or_default();
            if bytes.len() != length || *value != hex::encode(&bytes) {
                return Err(content(format!(
                    "image `{name}`: `{register}` has {length} bytes, in lower-case hexadecimal digits"
                )));
            }
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(content(format!(
                    "image `{name}`: `{register}` is all zero, which is what was never measured"
                )));
            }
        }
        if !self.registers.keys().any(|register| (registers.identifies)(register)) {
            return Err(content(format!(
                "image `{name}` names no register that says what software runs"
            )));
        }
        Ok(())
    }
}

/// Reference values in a file.
#[derive(Debug)]
pub struct References {
    path: PathBuf,
    keys: Vec<Key>,
    registers: &'static Registers,
    read: Mutex<Option<(Version, Arc<Manifest>)>>,
}

/// What changes with the contents of a file: which file it is, its size, and when it was last touched
/// in any way. Unlike the time of its last modification, nobody can set that.
#[derive(Debug, Eq, PartialEq)]
struct Version(u64, u64, i64, i64);

impl References {
    /// The reference values that `config` names, for evidence with these `registers`. They are read
    /// at once, so that a mistake shows at start.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] if a file can't be used.
    pub fn open(config: &Config, registers: &'static Registers) -> Result<Self, ReferenceError> {
        let key = |path: &PathBuf| {
            let pem = files::read(path, MAX).map_err(|source| unreadable(path, source))?;
            Key::from_pem(&pem)
                .map_err(|error| ReferenceError::Key { path: path.clone(), source: error })
        };
        let keys = config.keys.iter().map(key).collect::<Result<_, _>>()?;
        let path = config.path.clone();
        let references = Self { path, keys, registers, read: Mutex::new(None) };
        references.current()?;
        Ok(references)
    }

    /// What the file says now.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] if the file can't be used.
    pub fn current(&self) -> Result<Arc<Manifest>, ReferenceError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let found = std::fs::metadata(&self.path).map_err(|error| unreadable(&self.path, error))?;
        let version = Version(found.ino(), found.size(), found.ctime(), found.ctime_nsec());
        if let Some((known, manifest)) = read.as_ref()
            && *known == version
        {
            return Ok(Arc::clone(manifest));
        }
        *read = None;
        let bytes = files::read(&self.path, MAX).map_err(|error| unreadable(&self.path, error))?;
        let payload = Envelope::parse(&bytes)
            .and_then(|envelope| envelope.open(PAYLOAD_TYPE, &self.keys))
            .map_err(|source| ReferenceError::Envelope { path: self.path.clone(), source })?;
        let manifest = Arc::new(Manifest::parse(&payload, self.registers)?);
        *read = Some((version, Arc::clone(&manifest)));
        Ok(manifest)
    }

    /// The image that was `measured`, if it is known at `now`. What became of that is entered in
    /// `checks`.
    ///
    /// # Errors
    ///
    /// [`Broken`] if it is not, and the checks are for admission.
    pub fn recognise(
        &self,
        measured: &Measured,
        now: UnixTime,
        checks: &mut Checklist,
    ) -> Result<Option<Image>, Broken> {
        let recognised = self.current().map_err(|error| error.to_string()).and_then(|manifest| {
            if manifest.has_expired(now) {
                return Err(format!("the reference values expired at {}", manifest.expires));
            }
            let image = manifest.recognise(measured).cloned();
            image.ok_or_else(|| "no image has what was measured".to_owned())
        });
        checks.take(&RECOGNISED, recognised)
    }
}

fn content(why: impl Into<String>) -> ReferenceError {
    ReferenceError::Content(why.into())
}

fn unreadable(path: &Path, source: io::Error) -> ReferenceError {
    ReferenceError::Unreadable { path: path.to_owned(), source }
}

/// Why reference values are worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A file can't be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A public key can't be used.
    #[error("`{path}` holds no key that can sign reference values")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// They aren't signed as they have to be.
    #[error("`{path}` holds no signed reference values")]
    Envelope {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// What is signed would admit nobody or anybody.
    #[error("the reference values can't be used: {0}")]
    Content(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsse::fixture::sealed;

    static REGISTERS: Registers = Registers {
        kind: "test",
        length: |name| matches!(name, "app" | "place").then_some(2),
        identifies: |name| name == "app",
    };

    fn payload(images: &str) -> Vec<u8> {
        format!(r#"{{"kind":"test","expires":"2026-06-30T00:00:00Z","images":{images}}}"#).into()
    }

    fn refusal(images: &str) -> String {
        Manifest::parse(&payload(images), &REGISTERS).unwrap_err().to_string()
    }

    #[test]
    fn what_would_admit_anybody_or_nobody_is_refused() {
        assert!(refusal("[]").contains("admits nobody"));
        for (registers, why) in [
            ("{}", "names no register that says"),
            (r#"{"place":"0001"}"#, "names no register that says"),
            (r#"{"app":"0000"}"#, "all zero"),
            (r#"{"app":"01"}"#, "has 2 bytes"),
            (r#"{"app":"00AB"}"#, "lower-case"),
            (r#"{"app":""}"#, "has 2 bytes"),
            (r#"{"app":"0001","other":"0001"}"#, "`other` is no register"),
        ] {
            let error = refusal(&format!(r#"[{{"name":"a","registers":{registers}}}]"#));
            assert!(error.contains(why), "{registers}: {error}");
        }
        assert!(refusal(r#"[{"name":"","registers":{"app":"0001"}}]"#).contains("no name"));
        let long = "a".repeat(MAX_NAME + 1);
        for odd in ["a b", "a\\nb", "ä", &long] {
            let named = refusal(&format!(r#"[{{"name":"{odd}","registers":{{"app":"0001"}}}}]"#));
            assert!(named.contains("printable"), "{named}");
            let version =
                format!(r#"[{{"name":"a","version":"{odd}","registers":{{"app":"0001"}}}}]"#);
            assert!(refusal(&version).contains("printable"), "{odd}");
        }
        let same =
            r#"[{"name":"a","registers":{"app":"0001"}},{"name":"b","registers":{"app":"0001"}}]"#;
        assert!(refusal(same).contains("`b` has the registers of one before"));
        let more = r#"[{"name":"a","registers":{"app":"0001"},"debug":true}]"#;
        assert!(refusal(more).contains("unknown field `debug`"));
        let twice = r#"[{"name":"a","registers":{"app":"0001","app":"0002"}}]"#;
        assert!(refusal(twice).contains("comes twice"));
        let other = Manifest::parse(
            br#"{"kind":"x","expires":"2026-06-30T00:00:00Z","images":[]}"#,
            &REGISTERS,
        );
        assert!(other.unwrap_err().to_string().contains("about `x` and not about `test`"));
        let timeless = Manifest::read(br#"{"kind":"test","images":[]}"#).unwrap_err().to_string();
        assert!(timeless.contains("missing field `expires`"), "{timeless}");
    }

    fn opened(images: &str) -> (References, tempfile::TempDir) {
        let (envelope, key) = sealed(PAYLOAD_TYPE, &payload(images));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("references.json");
        std::fs::write(&path, envelope).unwrap();
        let (keys, read) = (vec![key], Mutex::new(None));
        (References { path, keys, registers: &REGISTERS, read }, dir)
    }

    fn recognised(references: &References, app: u8, now: &str) -> Result<String, String> {
        let now: jiff::Timestamp = now.parse().unwrap();
        let now = UnixTime::from_secs(now.as_second().try_into().unwrap());
        let measured = Measured::from([("app".to_owned(), vec![0, app])]);
        let image = references.recognise(&measured, now, &mut Checklist::strict());
        image.map(|image| image.unwrap().name).map_err(|broken| broken.why.into_owned())
    }

    #[test]
    fn an_image_is_recognised_until_the_values_expire() {
        let (references, _dir) = opened(
            r#"[{"name":"a","registers":{"app":"0001"}},
                {"name":"b","registers":{"app":"0002","place":"0003"}}]"#,
        );
        let name = recognised(&references, 1, "2026-06-29T23:59:59Z");
        assert_eq!(name.unwrap(), "a");
        let late = recognised(&references, 1, "2026-06-30T00:00:00Z").unwrap_err();
        assert!(late.contains("expired"), "{late}");
        // Every register that an image names has to be there.
        let partly = recognised(&references, 2, "2026-01-01T00:00:00Z").unwrap_err();
        assert!(partly.contains("no image"), "{partly}");
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_admits_nobody_when_it_is_bad() {
        let (references, _dir) = opened(r#"[{"name":"a","registers":{"app":"0001"}}]"#);
        recognised(&references, 1, "2026-01-01T00:00:00Z").unwrap();
        let other = sealed(PAYLOAD_TYPE, &payload(r#"[{"name":"c","registers":{"app":"0004"}}]"#));
        std::fs::write(&references.path, other.0).unwrap();
        let error = recognised(&references, 1, "2026-01-01T00:00:00Z").unwrap_err();
        assert!(error.contains("no signed reference values"), "{error}");
        std::fs::remove_file(&references.path).unwrap();
        recognised(&references, 1, "2026-01-01T00:00:00Z").unwrap_err();
    }
}
