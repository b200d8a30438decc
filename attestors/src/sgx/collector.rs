//! The node's side: the library OS that runs the enclave (Gramine, Occlum …) shows two files. What is
//! written to the one is in the quote that is read from the other.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::KIND;
use crate::dcap::Quote;
use crate::dcap::collector::{Conversation, Quoter, collateral_problem};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, files};

/// `[attestor.sgx]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// Where the files `user_report_data` and `quote` are.
    #[serde(default = "usual_folder")]
    pub attestation_path: PathBuf,
    /// A file with collateral that is sent along, for a server that has none of its own and believes
    /// what comes with evidence.
    #[serde(default)]
    pub collateral_path: Option<PathBuf>,
}

/// Where Gramine has them.
const USUAL: &str = "/dev/attestation";

fn usual_folder() -> PathBuf {
    PathBuf::from(USUAL)
}

impl CollectorConfig {
    /// Everything wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if !self.attestation_path.is_absolute() {
            let advice = format!("write the path of the folder with the files: `{USUAL}`");
            let value = self.attestation_path.display().to_string();
            problems.push(ConfigProblem::new("attestation-path", Some(&value), advice));
        }
        problems.extend(collateral_problem(self.collateral_path.as_deref()));
        problems
    }
}

/// Presents what the processor says of the enclave that this runs in.
#[derive(Debug)]
pub struct Collector {
    files: Files,
    collateral: Option<PathBuf>,
}

impl Collector {
    /// A collector that reads and writes the files that `config` names.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if they are not there.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let folder = &config.attestation_path;
        let missing = |name: &str| !folder.join(name).exists();
        if [REPORT_DATA, QUOTE].into_iter().any(missing) {
            return Err(OpenCollectorError { folder: folder.clone() });
        }
        let files = Files { folder: folder.clone(), turn: Arc::default() };
        Ok(Self { files, collateral: config.collateral_path.clone() })
    }
}

const REPORT_DATA: &str = "user_report_data";
const QUOTE: &str = "quote";

/// The files, of which there is one pair for everybody.
#[derive(Clone, Debug)]
struct Files {
    folder: PathBuf,
    /// Whose turn it is to write and read.
    turn: Arc<Mutex<()>>,
}

impl Files {
    fn quote(&self, report_data: &[u8; 64]) -> io::Result<Vec<u8>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // The file is there already, and is not made shorter.
        let mut file = OpenOptions::new().write(true).open(self.folder.join(REPORT_DATA))?;
        file.write_all(report_data)?;
        drop(file);
        files::read(&self.folder.join(QUOTE), Quote::MAX).map(|bytes| bytes.to_vec())
    }
}

#[async_trait]
impl Quoter for Files {
    async fn quote(&self, report_data: [u8; 64]) -> Result<Vec<u8>, CollectError> {
        let files = self.clone();
        let quote = spawn_blocking(move || Self::quote(&files, &report_data)).await;
        let quote = quote.map_err(|stopping| unavailable(&self.folder, stopping.into()))?;
        quote.map_err(|error| unavailable(&self.folder, error.into()))
    }
}

fn unavailable(folder: &Path, source: Box<dyn std::error::Error + Send + Sync>) -> CollectError {
    let what = format!("no quote can be had through the files in `{}`", folder.display());
    CollectError::Unavailable { what, source: Some(source) }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let (files, collateral) = (self.files.clone(), self.collateral.clone());
        Ok(Box::new(Conversation::new(files, collateral, binding)))
    }
}

/// The files are not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "there are no files `user_report_data` and `quote` in `{folder}`; the agent has to run in an \
     enclave, under Gramine with `sgx.remote_attestation = \"dcap\"`",
    folder = folder.display()
)]
pub struct OpenCollectorError {
    folder: PathBuf,
}
