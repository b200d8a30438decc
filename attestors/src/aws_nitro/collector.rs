//! The node's side: this program runs in the enclave.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;

use super::KIND;
use super::device::Device;
use crate::nitro::{Module, SecurityModule};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// `[attestor.aws_nitro]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The device of the Nitro security module.
    #[serde(default = "usual_device")]
    pub device: PathBuf,
}

fn usual_device() -> PathBuf {
    PathBuf::from("/dev/nsm")
}

impl CollectorConfig {
    /// Everything wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        if self.device.is_absolute() {
            return Vec::new();
        }
        let value = self.device.display().to_string();
        vec![ConfigProblem::new("device", Some(&value), "write the path of the device: `/dev/nsm`")]
    }
}

/// Presents what the security module says of the enclave that this runs in.
#[derive(Debug)]
pub struct Collector(Module);

impl Collector {
    /// A collector that asks the device that `config` names.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if it can't be opened.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let device = Device::open(&config.device);
        let device = device.map_err(|source| OpenCollectorError::new(&config.device, source))?;
        Ok(Self::new(Arc::new(device)))
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

/// There is no security module.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot open the Nitro security module `{path}`; the agent has to run in an enclave whose kernel \
     has the driver `nsm`",
    path = path.display()
)]
pub struct OpenCollectorError {
    path: PathBuf,
    source: io::Error,
}

impl OpenCollectorError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_the_usual_one_unless_it_is_named() {
        let config: CollectorConfig = toml::from_str("").unwrap();
        assert_eq!(config.device, Path::new("/dev/nsm"));
        assert!(config.problems().is_empty());
        let config: CollectorConfig = toml::from_str("device = 'nsm'").unwrap();
        assert_eq!(config.problems()[0].key, "device");
    }

    #[test]
    fn outside_of_an_enclave_the_operator_is_told() {
        let device = PathBuf::from("/nonexistent/nsm");
        let error = Collector::open(&CollectorConfig { device }).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/nsm"), "{error}");
    }
}
