//! The node's side: what its devices say.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::Binding;
use nvml_wrapper::error::NvmlError;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::KIND;
use super::nvml::{Driver, Library, Said};
use super::wire::{Challenge, Entry, Hello, MAX_DEVICES};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, json};

/// `[attestor.nvidia_gpu]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The library of NVIDIA's driver: a path, or a name that the system's loader finds.
    pub library: PathBuf,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self { library: "libnvidia-ml.so.1".into() }
    }
}

impl CollectorConfig {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.library.as_os_str().is_empty() {
            let advice = "name the library of NVIDIA's driver, or leave the setting out";
            problems.push(ConfigProblem::new("library", Some(""), advice));
        }
        problems
    }
}

/// Asks the devices of this machine.
#[derive(Clone, Debug)]
pub struct Collector(Arc<dyn Driver>);

impl Collector {
    /// A collector with these settings. The library is loaded when it is needed: a driver may come
    /// later than the agent.
    #[must_use]
    pub fn open(config: CollectorConfig) -> Self {
        Self(Arc::new(Library(config.library.into_os_string())))
    }

    #[cfg(test)]
    pub(super) fn of(driver: impl Driver) -> Self {
        Self(Arc::new(driver))
    }

    /// What the driver says, on a thread that may wait for it.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Driver) -> Result<T, NvmlError> + Send + 'static,
    ) -> Result<T, CollectError> {
        let driver = Arc::clone(&self.0);
        let answer = spawn_blocking(move || question(&*driver)).await;
        let unavailable = |source| CollectError::Unavailable { what: ADVICE.to_owned(), source };
        answer
            .map_err(|ended| unavailable(Some(ended.into())))?
            .map_err(|error| unavailable(Some(error.into())))
    }
}

const ADVICE: &str = "NVIDIA's driver gives no evidence; is it loaded (`nvidia-smi`), and is the \
                      confidential-computing mode of its devices on (`nvidia-smi conf-compute -f`)?";

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let devices = self.ask(|driver| driver.count()).await?;
        if !(1..=MAX_DEVICES).contains(&devices) {
            let what =
                format!("there are {devices} NVIDIA devices, and 1 to {MAX_DEVICES} can be shown");
            return Err(CollectError::Unavailable { what, source: None });
        }
        let hello = serde_json::to_vec(&Hello { devices }).map_err(unwritable)?;
        Ok(Box::new(Devices { collector: self.clone(), binding: binding.clone(), hello }))
    }
}

/// The devices of this machine, to be asked for one after the other.
#[derive(Debug)]
struct Devices {
    collector: Collector,
    binding: Binding,
    hello: Vec<u8>,
}

#[async_trait]
impl Presentation for Devices {
    fn evidence(&self) -> &[u8] {
        &self.hello
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let challenge: Challenge =
            json::read(challenge).map_err(|_other| CollectError::Unexpected)?;
        let nonce = challenge.nonce.nonce().ok_or(CollectError::Unexpected)?;
        let (device, bound) = (challenge.device, self.binding.digest(&nonce).short());
        let said = self.collector.ask(move |driver| driver.ask(device, bound)).await?;
        let entry = entry(&said, &bound);
        serde_json::to_vec(&[entry]).map(Zeroizing::new).map_err(unwritable)
    }
}

/// What a device says, as NVIDIA's SDKs write it.
pub(super) fn entry(said: &Said, nonce: &[u8; 32]) -> Entry {
    Entry {
        arch: said.architecture.clone(),
        certificate: STANDARD.encode(&said.certificates),
        evidence: STANDARD.encode(&said.report),
        nonce: hex::encode(nonce),
    }
}

fn unwritable(error: serde_json::Error) -> CollectError {
    let what = "the evidence of the devices cannot be written".to_owned();
    CollectError::Unavailable { what, source: Some(error.into()) }
}
