//! Signed manifests of models, as OpenSSF Model Signing v1.0 has them: a Sigstore bundle around a DSSE
//! envelope around an in-toto statement, which names each file of the model and its SHA-256.
//!
//! Of the ways to sign, it is the one by key (`model_signing sign key`) that counts here: it needs no
//! service to verify.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;

use crate::dsse::{Envelope, EnvelopeError, Key};
use crate::json;

/// The largest bundle, in bytes: that of 50,000 files.
pub(super) const MAX: usize = 16 << 20;

/// The most files of one model.
const MAX_RESOURCES: usize = 50_000;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// What somebody signed of a model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The model's name: that of the folder which was signed.
    pub name: String,
    /// The SHA-256 of the digests of its files, one after the other.
    pub digest: [u8; 32],
    /// Its files.
    pub resources: Vec<Resource>,
}

/// One file of a model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    /// Its path below the model's folder.
    pub name: String,
    /// The SHA-256 of its content.
    pub digest: [u8; 32],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: String,
}

/// Other members are to be ignored by who knows v1.0.
#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Listed>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    algorithm: String,
    digest: String,
}

impl Manifest {
    /// Reads `bundle`, which one of `keys` has to have signed.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] if nobody did, or if it does not list the files of one model.
    pub fn open(bundle: &[u8], keys: &[Key]) -> Result<Self, ManifestError> {
        let bundle: Bundle = json::read(bundle).map_err(|_other| ManifestError::Bundle)?;
        if !bundle.media_type.starts_with(BUNDLE) || bundle.dsse_envelope.signatures.len() != 1 {
            return Err(ManifestError::Bundle);
        }
        let payload = bundle.dsse_envelope.open(PAYLOAD, keys)?;
        Self::of(&payload)
    }

    fn of(payload: &[u8]) -> Result<Self, ManifestError> {
        let statement: Statement =
            json::read(payload).map_err(|_other| content("it is no in-toto statement"))?;
        if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
            return Err(content("it is no statement of Model Signing v1.0"));
        }
        let [subject] = statement.subject.as_slice() else {
            return Err(content("it is not about one model"));
        };
        let predicate = statement.predicate;
        if predicate.serialization.method != "files" {
            return Err(content("it lists pieces of files; sign without `--shard-size`"));
        }
        if !(1..=MAX_RESOURCES).contains(&predicate.resources.len()) {
            return Err(content("it lists no file, or more than 50000"));
        }
        let resources: Vec<_> =
            predicate.resources.iter().map(Resource::of).collect::<Result<_, _>>()?;
        let names: BTreeSet<_> = resources.iter().map(|resource| &resource.name).collect();
        if names.len() != resources.len() {
            return Err(content("it lists a file twice"));
        }
        let digest = digest(&subject.digest.sha256)?;
        if digest != root(&resources) {
            return Err(content("its digest is not that of its files"));
        }
        if subject.name.is_empty() {
            return Err(content("the model has no name"));
        }
        Ok(Self { name: subject.name.clone(), digest, resources })
    }
}

impl Resource {
    fn of(listed: &Listed) -> Result<Self, ManifestError> {
        if listed.algorithm != "sha256" {
            return Err(content("a file's digest is not a SHA-256; sign with the default hash"));
        }
        Ok(Self { name: listed.name.clone(), digest: digest(&listed.digest)? })
    }
}

/// The digest of a model: over those of its files, in their order.
fn root(resources: &[Resource]) -> Digest {
    let mut context = Context::new(&SHA256);
    resources.iter().for_each(|resource| context.update(&resource.digest));
    finished(context)
}

/// What was hashed, as an array.
pub(super) fn finished(context: Context) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn digest(text: &str) -> Result<Digest, ManifestError> {
    let mut digest = Digest::default();
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_other| content("a digest is not 64 hexadecimal digits"))?;
    Ok(digest)
}

const fn content(why: &'static str) -> ManifestError {
    ManifestError::Content(why)
}

/// Why a manifest says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// It is no bundle.
    #[error("it is no Sigstore bundle with one signature, as `model_signing sign key` writes it")]
    Bundle,
    /// Nobody who is trusted signed it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// What is signed is no list of files.
    #[error("{0}")]
    Content(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{Publisher, statement};

    const FILES: [(&str, &[u8]); 2] = [("a.safetensors", b"abc"), ("sub/b.gguf", b"def")];

    #[test]
    fn a_signed_list_of_files_is_a_manifest() {
        let publisher = Publisher::new();
        let manifest = Manifest::open(&publisher.sign(&FILES, "tiny"), &[publisher.key()]);
        let manifest = manifest.unwrap();
        assert_eq!(manifest.name, "tiny");
        let names: Vec<_> = manifest.resources.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["a.safetensors", "sub/b.gguf"]);
        assert_eq!(
            hex::encode(manifest.resources[0].digest),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    /// Made by `model_signing sign key` of the PyPI package `model-signing` 1.1.1, for a folder with two
    /// files of a line each.
    #[test]
    fn what_the_real_tool_signs_is_a_manifest() {
        let key = Key::from_pem(include_bytes!("vectors/publisher.pem")).unwrap();
        let manifest = Manifest::open(include_bytes!("vectors/tiny.sig"), &[key]).unwrap();
        let files = [("a.safetensors", &b"abc\n"[..]), ("sub/b.gguf", b"def\n")];
        let ours = Publisher::new();
        let expected = Manifest::open(&ours.sign(&files, "tiny"), &[ours.key()]).unwrap();
        assert_eq!(manifest, expected);
    }

    #[test]
    fn only_a_key_that_is_trusted_counts() {
        let (publisher, stranger) = (Publisher::new(), Publisher::new());
        let bundle = publisher.sign(&FILES, "tiny");
        let unsigned = ManifestError::Envelope(EnvelopeError::Unsigned);
        assert_eq!(Manifest::open(&bundle, &[stranger.key()]).unwrap_err(), unsigned);
        assert_eq!(Manifest::open(&bundle, &[]).unwrap_err(), unsigned);
    }

    #[test]
    fn what_is_signed_has_to_be_the_files_of_one_model() {
        let publisher = Publisher::new();
        let edits: [fn(&mut serde_json::Value); 11] = [
            |it| it["_type"] = "https://in-toto.io/Statement/v0.1".into(),
            |it| it["predicateType"] = "https://model_signing/Digests/v0.1".into(),
            |it| it["subject"] = serde_json::json!([]),
            |it| {
                let twice = it["subject"][0].clone();
                it["subject"].as_array_mut().unwrap().push(twice);
            },
            |it| it["subject"][0]["name"] = "".into(),
            |it| it["subject"][0]["digest"]["sha256"] = "00".repeat(32).into(),
            |it| it["predicate"]["serialization"]["method"] = "shards".into(),
            |it| it["predicate"]["resources"] = serde_json::json!([]),
            |it| it["predicate"]["resources"][0]["algorithm"] = "blake3".into(),
            |it| it["predicate"]["resources"][0]["digest"] = "ba78".into(),
            |it| it["predicate"]["resources"][1]["name"] = "a.safetensors".into(),
        ];
        for (index, edit) in edits.into_iter().enumerate() {
            let mut statement = statement(&FILES, "tiny");
            edit(&mut statement);
            let bundle = publisher.sign_statement(&statement);
            let error = Manifest::open(&bundle, &[publisher.key()]).unwrap_err();
            assert!(matches!(error, ManifestError::Content(_)), "{index}: {error}");
        }
        // What later versions may add.
        let mut more = statement(&FILES, "tiny");
        more["predicate"]["licence"] = "MIT".into();
        Manifest::open(&publisher.sign_statement(&more), &[publisher.key()]).unwrap();
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let publisher = Publisher::new();
        let bundle = publisher.sign(&FILES, "tiny");
        let mut edited: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
        let envelope = edited["dsseEnvelope"].to_string();
        let signature = edited["dsseEnvelope"]["signatures"][0].clone();
        edited["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(signature);
        for bad in ["", "{}", "[]", &envelope, &edited.to_string()] {
            let error = Manifest::open(bad.as_bytes(), &[publisher.key()]).unwrap_err();
            assert_eq!(error, ManifestError::Bundle, "{bad}");
        }
    }
}
