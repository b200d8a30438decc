//! The node's side: the kernel makes the quote.

use std::path::PathBuf;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;

use super::KIND;
use crate::dcap::collector::{Conversation, Quoter, collateral_problem};
use crate::tsm::{ROOT, Tsm, TsmError};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// `[attestor.tdx]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// Where the kernel hands out quotes: configfs-tsm.
    #[serde(default = "usual_root")]
    pub tsm_path: PathBuf,
    /// A file with collateral that is sent along, for a server that has none of its own and believes
    /// what comes with evidence.
    #[serde(default)]
    pub collateral_path: Option<PathBuf>,
}

fn usual_root() -> PathBuf {
    PathBuf::from(ROOT)
}

impl CollectorConfig {
    /// Everything wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if !self.tsm_path.is_absolute() {
            let advice = format!("write the path of the kernel's interface: `{ROOT}`");
            let value = self.tsm_path.display().to_string();
            problems.push(ConfigProblem::new("tsm-path", Some(&value), advice));
        }
        problems.extend(collateral_problem(self.collateral_path.as_deref()));
        problems
    }
}

/// Presents what the processor says of the machine that this runs in.
#[derive(Debug)]
pub struct Collector {
    tsm: Tsm,
    collateral: Option<PathBuf>,
}

impl Collector {
    /// A collector that asks the kernel as `config` says.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if the kernel hands out no quotes there.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let tsm = Tsm::open(&config.tsm_path)?;
        Ok(Self { tsm, collateral: config.collateral_path.clone() })
    }

    #[cfg(test)]
    pub(crate) const fn of(tsm: Tsm, collateral: Option<PathBuf>) -> Self {
        Self { tsm, collateral }
    }
}

#[async_trait]
impl Quoter for Tsm {
    async fn quote(&self, report_data: [u8; 64]) -> Result<Vec<u8>, CollectError> {
        let report = self.report_of("tdx_guest", report_data).await;
        let report = report.map_err(|error| CollectError::Unavailable {
            what: "the kernel made no quote of this machine".to_owned(),
            source: Some(error.into()),
        })?;
        Ok(report.outblob)
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let (tsm, collateral) = (self.tsm.clone(), self.collateral.clone());
        Ok(Box::new(Conversation::new(tsm, collateral, binding)))
    }
}

/// The kernel hands out no quotes.
#[derive(Debug, thiserror::Error)]
#[error("cannot have quotes made of this machine")]
pub struct OpenCollectorError(#[from] TsmError);
