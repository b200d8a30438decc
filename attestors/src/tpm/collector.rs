//! The node's side: asks the machine's TPM.
//!
//! | to find | look in |
//! |---|---|
//! | where the TPM is | `device` |
//! | its commands | `command`, `commands` |
//! | what keys are made from | `template` |

mod command;
mod commands;
mod device;
mod template;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_core::evidence::Binding;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use self::commands::Tpm;
use self::device::{Address, DeviceError};
use self::template::{EkTemplate, TEMPLATES, ak_template};
use super::KIND;
use super::certificate::EkCertificate;
use super::chain::{self, MAX_SENT, RootsError};
use super::structure::{Attest, Pcrs, Public, Selection};
use super::wire::{Answer, Challenge, Hello};
use crate::possession::{Base64, Nonce};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// `[attestor.tpm]`, in the settings of the agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// Where the TPM is: the path of its device, `unix:/path` or `tcp:host:port`.
    #[serde(default = "usual_device")]
    pub device: String,
    /// A file (PEM) with the EK's certificate, and those that lead to a root: for TPMs that have it
    /// not in themselves.
    pub ek_certificate_path: Option<PathBuf>,
}

fn usual_device() -> String {
    "/dev/tpmrm0".to_owned()
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self { device: usual_device(), ek_certificate_path: None }
    }
}

impl CollectorConfig {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if Address::parse(&self.device).is_none() {
            problems.push(ConfigProblem {
                key: "device".into(),
                value: Some(self.device.clone()),
                advice: "write `/dev/tpmrm0`, `unix:/path` or `tcp:host:port`".into(),
            });
        }
        if self.ek_certificate_path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            problems.push(ConfigProblem {
                key: "ek-certificate-path".into(),
                value: Some(String::new()),
                advice: "name a file in PEM, or leave the setting out".into(),
            });
        }
        problems
    }
}

/// Presents what a TPM says.
#[derive(Clone, Debug)]
pub struct Collector(Arc<Source>);

/// The TPM, and what it does not say itself.
#[derive(Debug)]
struct Source {
    address: Address,
    /// The EK's certificate and those that lead to a root, if they are in a file.
    certificates: Vec<CertificateDer<'static>>,
}

impl Collector {
    /// A collector with these settings. The TPM is not asked before there is something to ask.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if the file with the EK's certificate can't be used.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let address = Address::parse(&config.device);
        let address = address.ok_or_else(|| OpenCollectorError::Device(config.device.clone()))?;
        let certificates = match &config.ek_certificate_path {
            Some(path) => chain::read(path).map_err(OpenCollectorError::Certificate)?,
            None => Vec::new(),
        };
        Ok(Self(Arc::new(Source { address, certificates })))
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let source = Arc::clone(&self.0);
        let (keys, hello) = self.0.ask(move |tpm| source.hello(tpm)).await?;
        let hello = serde_json::to_vec(&hello).map_err(|error| self.0.failed(error.into()))?;
        let (source, binding) = (Arc::clone(&self.0), binding.clone());
        Ok(Box::new(Conversation { source, binding, keys, hello }))
    }
}

/// How to come by the same keys again. TPMs have room for few keys, so none is kept there while the
/// server thinks: a primary key is made from its template, and is the same each time.
#[derive(Clone, Copy)]
struct Keys {
    template: &'static EkTemplate,
    /// What makes this AK another one than all before.
    unique: Nonce,
}

/// The most often that PCRs are read again because they changed in between.
const ATTEMPTS: usize = 5;

impl Source {
    /// Lets `work` talk with the TPM, where blocking is no harm. What it leaves there is removed.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tpm) -> Result<T, TalkError> + Send + 'static,
    ) -> Result<T, CollectError> {
        let address = self.address.clone();
        let done = spawn_blocking(move || Tpm::visit(&address, work)).await;
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(error.into())),
            Err(stopping) => Err(self.failed(stopping.into())),
        }
    }

    fn failed(&self, source: Box<dyn std::error::Error + Send + Sync>) -> CollectError {
        CollectError::Unavailable {
            what: format!("the TPM at `{}` does not attest for this machine", self.address),
            source: Some(source),
        }
    }

    /// Makes an AK, and says who the TPM is.
    fn hello(&self, tpm: &mut Tpm) -> Result<(Keys, Hello), TalkError> {
        let (template, certificates) = self.endorsement(tpm)?;
        let (_, ek) = tpm.endorsement_key(template)?;
        let leaf = certificates.first().and_then(|leaf| EkCertificate::parse(leaf));
        if leaf.is_none_or(|leaf| !leaf.is_for(&ek.key)) {
            return Err(TalkError::OtherKey(template.name));
        }
        let mut unique = Nonce::default();
        rand::fill(&mut unique).map_err(|_unspecified| TalkError::Randomness)?;
        let (_, ak) = tpm.create_primary(&ak_template(&unique))?;
        let hello = Hello {
            ek_certificates: certificates.into_iter().map(Base64).collect(),
            ek: Base64(ek.to_bytes()),
            ak: Base64(ak.to_bytes()),
        };
        Ok((Keys { template, unique }, hello))
    }

    /// The EK's certificate and those beside it, and what the EK is made from.
    fn endorsement(&self, tpm: &mut Tpm) -> Result<(&'static EkTemplate, Vec<Vec<u8>>), TalkError> {
        if let Some(leaf) = self.certificates.first() {
            let key = EkCertificate::parse(leaf);
            let key = key.as_ref().and_then(EkCertificate::key);
            let template = key.and_then(|key| TEMPLATES.iter().find(|it| it.makes(key)));
            let template = template.ok_or(TalkError::NoTemplate)?;
            let certificates = self.certificates.iter().take(MAX_SENT.saturating_add(1));
            return Ok((template, certificates.map(|der| der.to_vec()).collect()));
        }
        for template in &TEMPLATES {
            if let Some(certificate) = tpm.certificate(template.certificate)? {
                return Ok((template, vec![certificate]));
            }
        }
        Err(TalkError::NoCertificate)
    }
}

/// Reads what only this TPM can, and lets it quote, with `extra` in it.
fn answer(
    tpm: &mut Tpm,
    keys: Keys,
    challenge: &Challenge,
    extra: &[u8],
) -> Result<Answer, TalkError> {
    let (ak, public) = tpm.create_primary(&ak_template(&keys.unique))?;
    let (ek, _) = tpm.endorsement_key(keys.template)?;
    let secret =
        tpm.activate(ak, ek, keys.template, (&challenge.credential.0, &challenge.seed.0))?;
    let selection = challenge.selection();
    for _ in 0..ATTEMPTS {
        let pcrs = tpm.read_pcrs(&selection)?;
        let (quote, signature) = tpm.quote(ak, extra, &selection)?;
        if are_quoted(&pcrs, &public, &selection, &quote) {
            let values = pcrs.values.into_iter().map(|(pcr, value)| (pcr, Base64(value)));
            return Ok(Answer {
                secret: Base64(secret.to_vec()),
                quote: Base64(quote),
                signature: Base64(signature),
                pcrs: values.collect(),
            });
        }
    }
    Err(TalkError::Unsteady)
}

/// Whether a quote is of these very values: something may have been measured between two commands.
fn are_quoted(pcrs: &Pcrs, ak: &Public, selection: &Selection, quote: &[u8]) -> bool {
    let quote = Attest::parse(quote).ok().and_then(|attest| attest.quote);
    let (Some(quote), Some((_, hash))) = (quote, ak.scheme) else { return false };
    quote.selection == *selection && quote.digest == pcrs.digest(hash)
}

struct Conversation {
    source: Arc<Source>,
    binding: Binding,
    keys: Keys,
    hello: Vec<u8>,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("source", &self.source).finish_non_exhaustive()
    }
}

#[async_trait]
impl Presentation for Conversation {
    fn evidence(&self) -> &[u8] {
        &self.hello
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let challenge = Challenge::parse(challenge).map_err(|_other| CollectError::Unexpected)?;
        let extra = self.binding.digest(&challenge.nonce.0).short();
        let keys = self.keys;
        let answer = self.source.ask(move |tpm| answer(tpm, keys, &challenge, &extra)).await?;
        let answer = serde_json::to_vec(&answer);
        answer.map(Zeroizing::new).map_err(|error| self.source.failed(error.into()))
    }
}

/// Why there is no collector.
#[derive(Debug, thiserror::Error)]
pub enum OpenCollectorError {
    /// The setting is no address.
    #[error("`device` is `{0}`; write `/dev/tpmrm0`, `unix:/path` or `tcp:host:port`")]
    Device(String),
    /// The file with the EK's certificate can't be used.
    #[error("the certificate of the EK cannot be used")]
    Certificate(#[source] RootsError),
}

/// Why a TPM says nothing that is of use.
#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "it holds no certificate of its EK; get one from its maker and set `ek-certificate-path`"
    )]
    NoCertificate,
    #[error("the certificate in `ek-certificate-path` is for no key that a TPM makes by itself")]
    NoTemplate,
    #[error("the EK's certificate is for another key than the TPM's {0} EK")]
    OtherKey(&'static str),
    #[error("the PCRs change too fast to be quoted")]
    Unsteady,
    #[error("there is no randomness")]
    Randomness,
}
