//! What the demo's node has to show for itself, and who vouches for it.
//!
//! | to find | look in |
//! |---|---|
//! | an issuer of tokens, as a CI system has one | `issuer` |
//! | a stand-in for the API server of a Kubernetes cluster; or a real cluster | `cluster` |
//! | a TPM in software | `tpm` |
//! | an enclave of AWS Nitro, and documents that real ones showed | `nitro` |
//! | what the first two need: signed tokens, and a small web server | `signer`, `web` |

mod cluster;
mod issuer;
mod nitro;
mod signer;
mod tpm;
mod web;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use claviger_attestors::{self as attestors, aws_nitro, join_token, k8s_psat, oidc};
use claviger_node_agent::config::Attestors;
use claviger_runtime::tasks::Tasks;
use claviger_server::config::AttestorsConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::stage::Stage;
use crate::failure::Failure;
pub(super) use nitro::judge as judge_recorded;

/// By what the node attests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Attestor {
    /// A token that the operator makes and that works once
    #[default]
    JoinToken,
    /// A token of an OpenID Connect issuer, which the demo plays itself
    Oidc,
    /// The token of a Kubernetes pod; the demo plays the API server, unless it is given a real one
    K8s,
    /// The document of a Nitro enclave; the demo plays the hypervisor that signs it
    Nitro,
    /// What a TPM says was booted; the demo starts one in software (swtpm)
    Tpm,
}

/// A cluster that is no stand-in.
#[derive(Clone, Debug)]
pub(crate) struct RealCluster {
    /// How the server reaches it.
    pub(crate) kubeconfig: PathBuf,
    /// A token of one of its pods.
    pub(crate) token: PathBuf,
}

/// Where the evidence comes from, on both sides.
#[derive(Debug, Default)]
pub(super) struct Platform {
    /// What the server believes, beside join tokens.
    pub(super) server: AttestorsConfig,
    /// What the agent shows; a join token if nothing.
    pub(super) agent: Option<Attestors>,
}

impl Attestor {
    /// The name of the kind in the audit log.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::JoinToken => join_token::KIND,
            Self::Oidc => oidc::KIND,
            Self::K8s => k8s_psat::KIND,
            Self::Nitro => aws_nitro::KIND,
            Self::Tpm => attestors::tpm::KIND,
        }
    }

    /// What the agent shows, in words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::JoinToken => "a join token",
            Self::Oidc => "an OpenID Connect token",
            Self::K8s => "the token of its pod",
            Self::Nitro => "the document of its enclave",
            Self::Tpm => "what its TPM says was booted",
        }
    }

    /// Starts who vouches for the node, if anybody has to be played.
    pub(super) async fn platform(
        self,
        stage: &mut Stage,
        folder: &Path,
        cluster: Option<&RealCluster>,
        tasks: &Tasks,
    ) -> Result<Platform, Failure> {
        match (self, cluster) {
            (Self::JoinToken, _) => Ok(Platform::default()),
            (Self::Oidc, _) => {
                stage.step("an issuer of tokens starts", issuer::start(folder, tasks)).await
            }
            (Self::K8s, None) => {
                let start = cluster::start(folder, tasks);
                stage.step("a stand-in for an API server starts", start).await
            }
            (Self::K8s, Some(real)) => {
                stage.step("the pod's token is read", cluster::real(real)).await
            }
            (Self::Nitro, _) => {
                stage.step("a Nitro hypervisor is played", async { nitro::start(folder) }).await
            }
            (Self::Tpm, _) => {
                stage.step("a TPM in software starts", tpm::start(folder, tasks)).await
            }
        }
    }
}

/// Settings of the server's, from JSON.
fn settings<C: DeserializeOwned>(json: Value) -> Result<C, Failure> {
    serde_json::from_value(json).map_err(|error| Failure::because(&error))
}

/// Settings of the agent's, from TOML.
fn tables(toml: &str) -> Result<Attestors, Failure> {
    Attestors::parse(toml).map_err(|problems| Failure::because(&problems))
}

/// A path as TOML writes it. JSON's strings are TOML's, too.
fn quoted(path: &Path) -> String {
    Value::from(path.display().to_string()).to_string()
}
