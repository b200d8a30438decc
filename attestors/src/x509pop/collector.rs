//! The node's side: a certificate and its private key, in files.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{EcdsaKeyPair, RSA_PSS_SHA256};
use claviger_core::evidence::Binding;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KIND;
use super::certificate::Leaf;
use super::roots::{self, RootsError};
use super::wire::{Challenge, EcdsaSignature, Evidence, Response, RsaSignature};
use crate::possession::ecdsa::Curve;
use crate::possession::rsa::MAX_BITS;
use crate::possession::{Base64, Nonce, both, bound_nonce};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, VerifyError, files};

/// The settings of the collector. Their names are SPIRE's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The node's private key, in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub private_key_path: PathBuf,
    /// The node's certificate, in PEM, and perhaps those that lead to a root.
    pub certificate_path: PathBuf,
    /// More of those that lead to a root.
    #[serde(default)]
    pub intermediates_path: Option<PathBuf>,
}

impl CollectorConfig {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let paths = [
            ("private-key-path", Some(&self.private_key_path)),
            ("certificate-path", Some(&self.certificate_path)),
            ("intermediates-path", self.intermediates_path.as_ref()),
        ];
        let empty = paths
            .into_iter()
            .filter(|(_, path)| path.is_some_and(|path| path.as_os_str().is_empty()));
        empty.map(|(key, _)| ConfigProblem::new(key, Some(""), "name a file in PEM")).collect()
    }
}

/// Presents a certificate and shows possession of its key. The files are read each time, so that
/// they can be replaced.
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
            what: "the X.509 certificate of this node is unusable".into(),
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
        let mut chain = roots::read(&config.certificate_path)?;
        if let Some(path) = &config.intermediates_path {
            chain.extend(roots::read(path)?);
        }
        let path = config.private_key_path.clone();
        let text = match files::read_secret(&path, MAX_KEY_FILE) {
            Ok(text) => text,
            Err(source) => return Err(OpenCollectorError::Read { path, source }),
        };
        let key = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) => key,
            Err(source) => return Err(OpenCollectorError::Pem { path, source }),
        };
        let signer = match Signer::of(&key) {
            Ok(signer) => signer,
            Err(source) => return Err(OpenCollectorError::Key { path, source }),
        };
        signer.check_belongs_to(chain.first(), config)?;
        let evidence = Evidence::write(&chain).map_err(OpenCollectorError::Write)?;
        Ok(Self { evidence, signer })
    }
}

/// The largest file of a private key, in bytes; one of 8,192 bits takes seven thousand.
const MAX_KEY_FILE: usize = 64 << 10;

#[derive(Debug)]
enum Signer {
    Rsa(RsaKeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
}

impl Signer {
    fn of(key: &PrivateKeyDer<'_>) -> Result<Self, KeyRejected> {
        if let PrivateKeyDer::Pkcs1(key) = key {
            return RsaKeyPair::from_der(key.secret_pkcs1_der()).map(Self::Rsa);
        }
        let rsa = RsaKeyPair::from_pkcs8(key.secret_der()).map(Self::Rsa);
        let ecdsa = |curve: Curve| {
            let key = EcdsaKeyPair::from_private_key_der(curve.signing(), key.secret_der()).ok()?;
            Some(Self::Ecdsa(curve, key))
        };
        rsa.or_else(|error| Curve::ALL.into_iter().find_map(ecdsa).ok_or(error))
    }

    /// Signs both nonces.
    fn sign(&self, server: &Nonce, node: &Nonce) -> Result<Response, Unspecified> {
        let (signed, nonce) = (both(server, node), Base64(node.to_vec()));
        let mut response = Response::default();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), &signed, &mut signature)?;
                let signature = Base64(signature);
                response.rsa_signature = Some(RsaSignature { nonce, signature });
            }
            Self::Ecdsa(curve, key) => {
                let signature = key.sign_digest(&curve.sha256(&signed)?)?;
                let (r, s) = curve.numbers(signature.as_ref()).ok_or(Unspecified)?;
                let (r, s) = (Base64(r.to_vec()), Base64(s.to_vec()));
                response.ecdsa_signature = Some(EcdsaSignature { nonce, r, s });
            }
        }
        Ok(response)
    }

    /// Signs for nobody, to see whether a server that reads the certificate would believe it.
    fn check_belongs_to(
        &self,
        leaf: Option<&CertificateDer<'_>>,
        config: &CollectorConfig,
    ) -> Result<(), OpenCollectorError> {
        let unfit =
            |source| OpenCollectorError::Unfit { path: config.certificate_path.clone(), source };
        let leaf = leaf.ok_or(VerifyError::Malformed).map_err(unfit)?;
        let leaf = Leaf::parse(leaf, MAX_BITS).map_err(unfit)?;
        let nobody = Nonce::default();
        let response = self.sign(&nobody, &nobody).ok();
        let believed = response.and_then(|response| leaf.key.signed_nonce(&nobody, &response));
        believed.map(drop).ok_or_else(|| OpenCollectorError::Apart {
            key: config.private_key_path.clone(),
            certificate: config.certificate_path.clone(),
        })
    }
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
        let question = match self.identity.signer {
            Signer::Rsa(_) => challenge.rsa_signature,
            Signer::Ecdsa(..) => challenge.ecdsa_signature,
        };
        let server = question.and_then(|question| question.nonce.nonce());
        let server = server.ok_or(CollectError::Unexpected)?;
        let node = bound_nonce(&self.binding, &server);
        let failed = |source| CollectError::Unavailable {
            what: "cannot sign with the key of this node's X.509 certificate".into(),
            source: Some(source),
        };
        let response =
            self.identity.signer.sign(&server, &node).map_err(|error| failed(error.into()))?;
        let response = serde_json::to_vec(&response).map_err(|error| failed(error.into()))?;
        Ok(Zeroizing::new(response))
    }
}

/// Why a certificate can't be presented.
#[derive(Debug, thiserror::Error)]
pub enum OpenCollectorError {
    /// The private key can't be read.
    #[error("cannot read the private key from `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The private key is not in PEM.
    #[error("`{path}` does not hold a private key in PEM", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// It is a key that can't be used.
    #[error(
        "the key in `{path}` is neither RSA of 2048 to 8192 bits nor ECDSA on P-256, P-384 or P-521",
        path = path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyRejected,
    },
    /// The certificates can't be read.
    #[error(transparent)]
    Certificates(#[from] RootsError),
    /// No server would take the certificate.
    #[error("no server would take the certificate in `{path}`", path = path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifyError,
    },
    /// The key is not the certificate's.
    #[error(
        "the key in `{key}` is not that of the first certificate in `{certificate}`",
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
