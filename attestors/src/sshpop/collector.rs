//! The node's side: the host's certificate and its key, where `sshd` has them.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::Binding;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KIND;
use super::certificate::HostCertificate;
use super::signer::{Signer, SignerError};
use super::wire::{Challenge, Evidence, Response, to_sign};
use crate::possession::{Base64, Nonce, bound_nonce};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, files};

/// The settings of the collector. Their names and defaults are SPIRE's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The host's private key, in OpenSSH's format.
    pub host_key_path: PathBuf,
    /// The host's certificate, as `ssh-keygen -s` writes it.
    pub host_cert_path: PathBuf,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            host_key_path: "/etc/ssh/ssh_host_rsa_key".into(),
            host_cert_path: "/etc/ssh/ssh_host_rsa_key-cert.pub".into(),
        }
    }
}

impl CollectorConfig {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let paths =
            [("host-key-path", &self.host_key_path), ("host-cert-path", &self.host_cert_path)];
        let empty = paths.into_iter().filter(|(_, path)| path.as_os_str().is_empty());
        let advice = "name a file, or leave it out";
        empty.map(|(key, _)| ConfigProblem::new(key, Some(""), advice)).collect()
    }
}

/// Presents a host certificate and shows possession of its key. The files are read each time, so
/// that they can be replaced.
#[derive(Debug)]
pub struct Collector(CollectorConfig);

impl Collector {
    /// A collector with these settings.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if the files are unusable now, or do not belong together.
    pub fn open(config: CollectorConfig) -> Result<Self, OpenCollectorError> {
        Identity::read(&config)?;
        Ok(Self(config))
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let identity = Identity::read(&self.0).map_err(|error| CollectError::Unavailable {
            what: "the SSH certificate of this host is unusable".into(),
            source: Some(error.into()),
        })?;
        Ok(Box::new(Possession { identity, binding: binding.clone() }))
    }
}

/// What the files hold.
#[derive(Debug)]
struct Identity {
    evidence: Vec<u8>,
    signer: Signer,
}

impl Identity {
    fn read(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let path = config.host_cert_path.clone();
        let line = match files::read(&path, MAX_FILE) {
            Ok(line) => line,
            Err(source) => return Err(OpenCollectorError::Read { path, source }),
        };
        let blob = blob_of(&line);
        let parsed = blob.and_then(|blob| Some((HostCertificate::parse(&blob).ok()?, blob)));
        let (certificate, blob) = parsed.ok_or(OpenCollectorError::Certificate { path })?;

        let path = config.host_key_path.clone();
        let text = match files::read_secret(&path, MAX_FILE) {
            Ok(text) => text,
            Err(source) => return Err(OpenCollectorError::Read { path, source }),
        };
        let signer = match Signer::parse(&text) {
            Ok(signer) => signer,
            Err(source) => return Err(OpenCollectorError::Key { path, source }),
        };
        // Signs for nobody, to see whether a server that reads the certificate would believe it.
        let nobody = Nonce::default();
        let response = respond(&signer, &nobody, &nobody).ok();
        let believed = response.and_then(|it| it.signed_nonce(&nobody, &certificate.key));
        if believed.is_none() {
            let certificate = config.host_cert_path.clone();
            return Err(OpenCollectorError::Apart { key: path, certificate });
        }
        let evidence = serde_json::to_vec(&Evidence { certificate: Base64(blob) })
            .map_err(OpenCollectorError::Write)?;
        Ok(Self { evidence, signer })
    }
}

/// The largest file, in bytes.
const MAX_FILE: usize = 64 << 10;

/// The certificate in `line`: the second of its words.
fn blob_of(line: &[u8]) -> Option<Vec<u8>> {
    let word = str::from_utf8(line).ok()?.split_whitespace().nth(1)?;
    STANDARD.decode(word).ok()
}

fn respond(
    signer: &Signer,
    server: &Nonce,
    node: &Nonce,
) -> Result<Response, aws_lc_rs::error::Unspecified> {
    let signature = signer.sign(&to_sign(server, node))?;
    Ok(Response { nonce: Base64(node.to_vec()), signature })
}

#[derive(Debug)]
struct Possession {
    identity: Identity,
    binding: Binding,
}

#[async_trait]
impl Presentation for Possession {
    fn evidence(&self) -> &[u8] {
        &self.identity.evidence
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let challenge: Challenge =
            serde_json::from_slice(challenge).map_err(|_not_ours| CollectError::Unexpected)?;
        let server = challenge.nonce.nonce().ok_or(CollectError::Unexpected)?;
        let node = bound_nonce(&self.binding, &server);
        let failed = |source| CollectError::Unavailable {
            what: "cannot sign with the SSH key of this host".into(),
            source: Some(source),
        };
        let response =
            respond(&self.identity.signer, &server, &node).map_err(|error| failed(error.into()))?;
        let response = serde_json::to_vec(&response).map_err(|error| failed(error.into()))?;
        Ok(Zeroizing::new(response))
    }
}

/// Why a host certificate can't be presented.
#[derive(Debug, thiserror::Error)]
pub enum OpenCollectorError {
    /// A file can't be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in the file.
    #[error(
        "`{path}` does not hold a host certificate for an Ed25519, ECDSA or RSA key; \
         `ssh-keygen -s AUTHORITY -h -I ID -n HOST KEY.pub` makes one",
        path = path.display()
    )]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The private key can't be used.
    #[error("the private key in `{path}` is unusable", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignerError,
    },
    /// The key is not the certificate's.
    #[error(
        "the key in `{key}` is not that of the certificate in `{certificate}`",
        key = key.display(), certificate = certificate.display()
    )]
    Apart {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// The evidence can't be written down.
    #[error("cannot write the evidence down")]
    Write(#[source] serde_json::Error),
}
