//! The node's side: this program runs on the instance.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;

use super::KIND;
use super::program::Program;
use crate::nitro::{Module, SecurityModule};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// `[attestor.nitro_tpm]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// AWS' program that has the NitroTPM make a document.
    #[serde(default = "usual_program")]
    pub program: PathBuf,
}

fn usual_program() -> PathBuf {
    PathBuf::from("/usr/bin/nitro-tpm-attest")
}

impl CollectorConfig {
    /// Everything wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        if self.program.is_absolute() {
            return Vec::new();
        }
        let value = self.program.display().to_string();
        let advice = "write the absolute path of `nitro-tpm-attest`";
        vec![ConfigProblem::new("program", Some(&value), advice)]
    }
}

/// Presents what the NitroTPM says of the instance that this runs on.
#[derive(Debug)]
pub struct Collector(Module);

impl Collector {
    /// A collector that runs the program that `config` names, each time it is asked.
    #[must_use]
    pub fn open(config: &CollectorConfig) -> Self {
        Self::new(Arc::new(Program::new(config.program.clone())))
    }

    /// A collector that asks `module`.
    #[must_use]
    pub fn new(module: Arc<dyn SecurityModule>) -> Self {
        Self(Module::new(KIND, module))
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        self.0.present(binding).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_usual_one_unless_it_is_named() {
        let config: CollectorConfig = toml::from_str("").unwrap();
        assert_eq!(config.program.to_str(), Some("/usr/bin/nitro-tpm-attest"));
        assert!(config.problems().is_empty());
        let config: CollectorConfig = toml::from_str("program = 'nitro-tpm-attest'").unwrap();
        assert_eq!(config.problems()[0].key, "program");
    }
}
