//! `[attestor]`: what this machine has to show for itself.
//!
//! One table for each kind of evidence. With several, or with one and a join token, all of it is
//! shown together, as evidence of kind `composite`.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use claviger_attestors::join_token::{Collector, JoinToken};
use claviger_attestors::{NodeCollector, composite, join_token};

use super::Config;

/// One kind of evidence, as it is configured.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Its name.
    fn kind(&self) -> &'static str;

    /// Gathers it from what there is at this moment: files are read anew each time, so that they
    /// may change.
    fn open(&self) -> Result<Box<dyn NodeCollector>, Box<dyn Error + Send + Sync>>;
}

/// What a machine has to show for itself, beside a join token.
#[derive(Debug, Default)]
pub struct Attestors(pub(crate) Vec<Box<dyn Source>>);

/// Where the join token is.
#[derive(Debug)]
pub enum TokenSource {
    /// In the configuration.
    Inline(JoinToken),
    /// In a file of its own, which is read when the token is needed.
    File(PathBuf),
}

impl Source for TokenSource {
    fn kind(&self) -> &'static str {
        join_token::KIND
    }

    fn open(&self) -> Result<Box<dyn NodeCollector>, Box<dyn Error + Send + Sync>> {
        match self {
            Self::Inline(token) => Ok(Box::new(Collector::new(token.duplicate()))),
            Self::File(path) => Ok(Box::new(Collector::from_file(path)?)),
        }
    }
}

impl Config {
    /// What gathers all the evidence that is configured, if any is.
    pub(crate) fn evidence(&self) -> Result<Option<Box<dyn NodeCollector>>, OpenEvidenceError> {
        let open = |source: &dyn Source| {
            let kind = source.kind();
            source.open().map_err(|source| OpenEvidenceError { kind, source })
        };
        let others = self.attestors.0.iter().map(|source| open(&**source));
        let members = self.join_token.iter().map(|token| open(token)).chain(others);
        let mut members = members.collect::<Result<Vec<_>, _>>()?;
        Ok(match members.len() {
            0 | 1 => members.pop(),
            _ => Some(Box::new(composite::Collector::new(members))),
        })
    }
}

/// The evidence that is configured can't be had on this machine.
#[derive(Debug, thiserror::Error)]
#[error("there is no evidence of kind `{kind}` to attest with")]
pub struct OpenEvidenceError {
    kind: &'static str,
    source: Box<dyn Error + Send + Sync>,
}
