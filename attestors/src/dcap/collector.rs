//! The node's side: has a quote made that carries the verifier's nonce and the digest of the binding.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::collateral::Collateral;
use super::wire::{Hello, Presented, report_data};
use crate::{CollectError, ConfigProblem, MAX_EVIDENCE, Nonce, Presentation, files};

/// What makes quotes of the machine or the enclave that this runs in.
#[async_trait]
pub(crate) trait Quoter: fmt::Debug + Send + Sync + 'static {
    /// A quote that carries `report_data`.
    async fn quote(&self, report_data: [u8; 64]) -> Result<Vec<u8>, CollectError>;
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Conversation<Q> {
    quoter: Q,
    collateral: Option<PathBuf>,
    binding: Binding,
}

impl<Q: Quoter> Conversation<Q> {
    /// A conversation in which `quoter` answers. In `collateral` is what is sent along.
    pub(crate) fn new(quoter: Q, collateral: Option<PathBuf>, binding: &Binding) -> Self {
        Self { quoter, collateral, binding: binding.clone() }
    }
}

#[async_trait]
impl<Q: Quoter> Presentation for Conversation<Q> {
    fn evidence(&self) -> &[u8] {
        Hello::BYTES
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let nonce: Nonce = challenge.try_into().map_err(|_no_nonce| CollectError::Unexpected)?;
        let collateral = self.collateral.as_deref().map(read).transpose()?;
        let quote = self.quoter.quote(report_data(&self.binding.digest(&nonce))).await?;
        let answer = Presented::write(quote, collateral.as_deref());
        let answer = answer.map_err(|error| unavailable("the answer", error))?;
        if MAX_EVIDENCE < answer.len() {
            let what = format!("the quote and its collateral have {} bytes", answer.len());
            return Err(CollectError::Unavailable { what, source: None });
        }
        Ok(Zeroizing::new(answer))
    }
}

/// The collateral in the file at `path`, as it is written there.
fn read(path: &Path) -> Result<Box<RawValue>, CollectError> {
    let what = format!("the collateral in `{}`", path.display());
    let bytes = files::read(path, Collateral::MAX).map_err(|error| unavailable(&what, error))?;
    Collateral::parse(&bytes).map_err(|error| unavailable(&what, error))?;
    serde_json::from_slice(&bytes).map_err(|error| unavailable(&what, error))
}

fn unavailable(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> CollectError {
    let what = format!("{what} cannot be had");
    CollectError::Unavailable { what, source: Some(Box::new(source)) }
}

/// What is wrong with the setting of a file with collateral.
pub(crate) fn collateral_problem(path: Option<&Path>) -> Option<ConfigProblem> {
    let advice = "name the file, or leave the setting out";
    path.filter(|path| path.as_os_str().is_empty())
        .map(|_| ConfigProblem::new("collateral-path", Some(""), advice))
}
