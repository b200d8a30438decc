//! The node's side: asks the kernel for a report, and finds the certificate that belongs to it.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::KIND;
use super::kds::{self, Kds};
use super::report::{Report, SigningKey};
use super::table::CertificateTable;
use super::wire::{Answer, Hello};
use crate::fetch::RootsError;
use crate::possession::Base64;
use crate::tsm::{self, Tsm, TsmError};
use crate::{CollectError, ConfigProblem, NodeCollector, Nonce, Presentation, files};

/// `[attestor.sev_snp]` on the node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CollectorConfig {
    /// Where the kernel hands out reports.
    #[serde(default = "well_known")]
    pub tsm_path: PathBuf,
    /// The privilege level to ask for; the kernel chooses, if this is left out.
    pub vmpl: Option<u8>,
    /// The certificate of the VCEK or VLEK (DER or PEM), for hosts that do not hand it to their guests.
    pub certificate_path: Option<PathBuf>,
    /// AMD's key distribution service, `https://kdsintf.amd.com`, to be asked for the certificate of the
    /// VCEK if the host does not hand it out and no file is named.
    pub kds: Option<String>,
}

fn well_known() -> PathBuf {
    tsm::ROOT.into()
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self { tsm_path: well_known(), vmpl: None, certificate_path: None, kds: None }
    }
}

impl CollectorConfig {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: Option<&str>, advice: String| {
            problems.push(ConfigProblem::new(key, value, advice));
        };
        for (key, path) in [
            ("tsm-path", Some(&self.tsm_path)),
            ("certificate-path", self.certificate_path.as_ref()),
        ] {
            if path.is_some_and(|path| path.as_os_str().is_empty()) {
                problem(key, Some(""), "write a path, or leave it out".to_owned());
            }
        }
        if let Some(vmpl) = self.vmpl.filter(|vmpl| 3 < *vmpl) {
            problem("vmpl", Some(&vmpl.to_string()), "write a level from 0 to 3".to_owned());
        }
        if let Some(url) = &self.kds
            && let Err(error) = kds::endpoint(url)
        {
            problem("kds", Some(url), error.to_string());
        }
        problems
    }
}

/// The largest file with a certificate, in bytes.
const MAX_CERTIFICATE: usize = 16 << 10;

/// Presents reports about this guest.
#[derive(Clone, Debug)]
pub struct Collector {
    tsm: Tsm,
    certificate: Option<PathBuf>,
    kds: Option<std::sync::Arc<Kds>>,
}

impl Collector {
    /// Presents what the kernel hands out where `config` says.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if it hands out nothing, or if a named certificate can't be read.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        Self::asking(Tsm::open(&config.tsm_path)?, config)
    }

    pub(super) fn asking(tsm: Tsm, config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let tsm = tsm.at_privilege_level(config.vmpl);
        if let Some(path) = &config.certificate_path {
            read(path)
                .map_err(|source| OpenCollectorError::Certificate { path: path.clone(), source })?;
        }
        let kds = config.kds.as_deref().map(Kds::open).transpose()?.map(std::sync::Arc::new);
        Ok(Self { tsm, certificate: config.certificate_path.clone(), kds })
    }

    /// What proves the key and the server that `binding` names, to the one that sent `nonce`.
    async fn answer(&self, binding: &Binding, nonce: &Nonce) -> Result<Answer, CollectError> {
        let made = self.tsm.report_of("sev_guest", report_data(binding, nonce)).await;
        let made = made.map_err(|source| CollectError::Unavailable {
            what: "the kernel made no SEV-SNP report".to_owned(),
            source: Some(source.into()),
        })?;
        let report = Report::parse(&made.outblob).map_err(|source| CollectError::Unavailable {
            what: "the kernel's SEV-SNP report has another form than is known".to_owned(),
            source: Some(source.into()),
        })?;
        let endorsement = self.endorsement(&report, &made.auxblob).await?;
        Ok(Answer { report: Base64(made.outblob), endorsement: Base64(endorsement) })
    }

    /// The certificate of the key that signed `report`: of those that the host handed out, of a file,
    /// or of AMD.
    async fn endorsement(
        &self,
        report: &Report<'_>,
        auxblob: &[u8],
    ) -> Result<Vec<u8>, CollectError> {
        let table = CertificateTable::parse(auxblob);
        let table = table.map_err(|source| CollectError::Unavailable {
            what: "the certificates that the host handed out make no sense".to_owned(),
            source: Some(source.into()),
        })?;
        let key = report.signing_key();
        let found = match key {
            SigningKey::Vcek => table.vcek(),
            SigningKey::Vlek => table.vlek(),
            SigningKey::Other => None,
        };
        match (found, &self.certificate, &self.kds) {
            (Some(found), _, _) => Ok(found.to_vec()),
            (None, Some(path), _) => read_aside(path.clone()).await,
            (None, None, Some(kds)) if key == SigningKey::Vcek => kds.vcek(report).await,
            (None, None, _) => Err(CollectError::Unavailable {
                what: format!(
                    "the host did not hand out the certificate of the key that signed the report \
                     ({}); name its file in `certificate-path`, or AMD's service in `kds`",
                    key.name()
                ),
                source: None,
            }),
        }
    }
}

async fn read_aside(path: PathBuf) -> Result<Vec<u8>, CollectError> {
    let what = format!("cannot read the certificate in `{}`", path.display());
    let unavailable = |source: Box<dyn std::error::Error + Send + Sync>| {
        CollectError::Unavailable { what, source: Some(source) }
    };
    match spawn_blocking(move || read(&path)).await {
        Ok(Ok(certificate)) => Ok(certificate),
        Ok(Err(error)) => Err(unavailable(error.into())),
        Err(stopping) => Err(unavailable(stopping.into())),
    }
}

/// What the report is to carry: the digest of the binding, and zeros.
fn report_data(binding: &Binding, nonce: &[u8]) -> [u8; 64] {
    let mut data = [0; 64];
    for (byte, of_digest) in data.iter_mut().zip(binding.digest(nonce).as_bytes()) {
        *byte = *of_digest;
    }
    data
}

/// The certificate in a file, in DER or in PEM.
fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    let bytes = files::read(path, MAX_CERTIFICATE)?;
    if !bytes.starts_with(b"-----") {
        return Ok(bytes.to_vec());
    }
    let block =
        pem::parse(&*bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(block.into_contents())
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(Guest { collector: self.clone(), binding: binding.clone() }))
    }
}

/// This guest, before a server.
#[derive(Debug)]
struct Guest {
    collector: Collector,
    binding: Binding,
}

#[async_trait]
impl Presentation for Guest {
    fn evidence(&self) -> &[u8] {
        Hello::JSON
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let nonce: &Nonce = challenge.try_into().map_err(|_other| CollectError::Unexpected)?;
        let answer = self.collector.answer(&self.binding, nonce).await?;
        serde_json::to_vec(&answer).map(Zeroizing::new).map_err(|source| {
            let what = "cannot write down the report".to_owned();
            CollectError::Unavailable { what, source: Some(source.into()) }
        })
    }
}

/// Why nothing can be collected.
#[derive(Debug, thiserror::Error)]
pub enum OpenCollectorError {
    /// The kernel hands out no reports.
    #[error("cannot ask the kernel for SEV-SNP reports")]
    Tsm(#[from] TsmError),
    /// The file of a certificate can't be read.
    #[error("cannot read the certificate in `{path}`")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no HTTP client.
    #[error("cannot ask AMD's key distribution service")]
    Client(#[from] RootsError),
}
