//! How a node or a process proves what it is.
//!
//! One folder per kind of evidence, with both ends of it: the collector, which gathers the evidence
//! on the node, and the verifier, which judges it in the server.
//!
//! | kind | proves | look in |
//! |---|---|---|
//! | `aws_iid` | AWS vouches for an EC2 instance | [`aws_iid`] |
//! | `aws_nitro` | what runs in an enclave of AWS Nitro | [`aws_nitro`] |
//! | `azure_imds` | Azure vouches for a virtual machine | [`azure_imds`] |
//! | `containerd` | the container of a local process, as containerd tells it | [`containerd`] |
//! | `docker` | the container of a local process, as Docker or Podman tells it | [`docker`] |
//! | `gcp_iit` | Google vouches for a virtual machine | [`gcp_iit`] |
//! | `http_challenge` | a node answers for the name of a host | [`http_challenge`] |
//! | `join_token` | a node was handed a token that works once | [`join_token`] |
//! | `k8s` | the pod of a local process, as Kubernetes tells it | [`k8s`] |
//! | `k8s_psat` | a node runs a pod of a Kubernetes cluster | [`k8s_psat`] |
//! | `model` | the weights that a local process has loaded, by signed manifests | [`model`] |
//! | `nitro_tpm` | what an EC2 instance with a NitroTPM has booted | [`nitro_tpm`] |
//! | `nvidia_gpu` | NVIDIA's GPUs and switches run what they have to | [`nvidia_gpu`] |
//! | `oidc` | an issuer such as GitHub vouches for a job, or for anything else | [`oidc`] |
//! | `sev_snp` | AMD's processor vouches for a confidential virtual machine | [`sev_snp`] |
//! | `sgx` | an enclave of Intel SGX runs software that is known | [`sgx`] |
//! | `sshpop` | a node has the key of an SSH host certificate | [`sshpop`] |
//! | `systemd` | the unit of a local process, as systemd tells it | [`systemd`] |
//! | `tdx` | a virtual machine of Intel TDX runs software that is known | [`tdx`] |
//! | `tpm` | what a machine booted, signed by its TPM 2.0 | [`tpm`] |
//! | `unix` | the user, groups and program of a local process | [`mod@unix`] |
//! | `x509pop` | a node has the key of an X.509 certificate | [`x509pop`] |
//!
//! What workload attestors share: [`workload`], what they are given and what they give; [`cgroup`],
//! which container a process is in.
//!
//! What verifiers share: [`checklist`], the rules that evidence has to keep; [`references`], what an
//! operator says about the software that may run; [`inspect`], evidence in a file, for people.
//!
//! What collectors share: [`tsm`], how a confidential virtual machine asks its kernel for a report.
//!
//! Attestors report facts, never decisions: what a fact entitles to is for entries and policies to
//! say. To add a kind: write its folder, and its page in `docs/attestors/`.

pub mod aws_iid;
pub mod aws_nitro;
pub mod azure_imds;
pub mod cgroup;
pub mod checklist;
pub mod cms;
pub mod composite;
pub mod containerd;
pub mod dcap;
pub mod docker;
pub mod dsse;
pub mod fetch;
pub mod gcp_iit;
pub mod http_challenge;
pub mod inspect;
pub mod join_token;
pub mod jwks;
pub mod k8s;
pub mod k8s_psat;
pub mod model;
pub mod nitro_tpm;
pub mod nvidia_gpu;
pub mod oidc;
pub mod references;
pub mod sev_snp;
pub mod sgx;
pub mod sshpop;
pub mod systemd;
pub mod tdx;
pub mod tpm;
pub mod tsm;
pub mod unix;
pub mod workload;
pub mod x509pop;

mod agent_path;
mod engines;
mod files;
mod http;
mod json;
mod nitro;
mod once;
mod possession;
mod proc;
mod signed;

#[cfg(test)]
mod fixture;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, Binding, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use zeroize::Zeroizing;

pub use once::{ConsumeError, ConsumeOnce, Once};
pub use possession::Nonce;

/// What a node presents to be admitted.
#[derive(Clone, Copy)]
pub struct NodeClaim<'a> {
    /// The evidence, in the format of its kind. May be a secret.
    pub evidence: &'a [u8],
    /// The key that the evidence is to earn a certificate for; its possession was proved.
    pub key: &'a KeyDigest,
    /// What the evidence should be bound to, if its kind can be: that key, among others.
    pub binding: &'a Binding,
    /// The trust domain that the node wants to join.
    pub trust_domain: &'a TrustDomain,
    /// The address that the node calls from, if it calls over the network.
    pub caller: Option<IpAddr>,
    /// The time at which the evidence is judged.
    pub now: UnixTime,
}

impl fmt::Debug for NodeClaim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClaim")
            .field("evidence", &format_args!("({} bytes)", self.evidence.len()))
            .field("key", self.key)
            .field("binding", self.binding)
            .field("trust_domain", self.trust_domain)
            .field("caller", &self.caller)
            .field("now", &self.now)
            .finish()
    }
}

/// Judges one kind of evidence.
///
/// An implementation treats the evidence as hostile: it bounds every length and never panics. It
/// reads time from [`NodeClaim::now`] only, and vouches for what it verified itself and for nothing
/// that it was merely told.
#[async_trait]
pub trait NodeVerifier: fmt::Debug + Send + Sync + 'static {
    /// The name that selects this verifier on the wire, such as `join_token`.
    fn kind(&self) -> &'static str;

    /// Judges the evidence of `claim`. The `node` can be asked, if the kind of evidence needs a
    /// conversation.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it proves nothing, or if that can't be told right now.
    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError>;
}

/// The node that presents evidence, as its verifier sees it: it answers challenges.
#[async_trait]
pub trait Challenged: Send {
    /// A nonce that nobody has used before and that only this node can have been given: for evidence
    /// that carries the verifier's nonce. To be put into a challenge, and compared with what comes
    /// back.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Unavailable`] if there is no randomness.
    fn nonce(&mut self) -> Result<Nonce, VerifyError> {
        possession::fresh_nonce().map_err(|error| VerifyError::Unavailable(error.into()))
    }

    /// The node's answer to `challenge`: at most [`MAX_EVIDENCE`] bytes of a stranger's.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Silent`] if there is none in time.
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError>;
}

/// A node that has one message to send, and can't be asked.
#[derive(Clone, Copy, Debug)]
pub struct NoConversation;

#[async_trait]
impl Challenged for NoConversation {
    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        Err(VerifyError::Silent)
    }
}

/// The most bytes of evidence of any kind, and of any answer to a challenge.
pub const MAX_EVIDENCE: usize = 64 << 10;

/// Why evidence proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The bytes are not evidence of this kind.
    #[error("the evidence is malformed")]
    Malformed,
    /// The evidence is well formed and wrong: the node is not what it says. The operator reads why;
    /// the node does not.
    #[error("the evidence is not genuine: {0}")]
    NotGenuine(Cow<'static, str>),
    /// A challenge was not answered.
    #[error("the node did not answer a challenge")]
    Silent,
    /// Something that the verifier depends on did not answer. The node may try again.
    #[error("the evidence cannot be judged now")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl VerifyError {
    /// The evidence is not genuine, for a reason that the operator reads.
    pub fn not_genuine(why: impl Into<Cow<'static, str>>) -> Self {
        Self::NotGenuine(why.into())
    }
}

/// Gathers one kind of evidence on a node.
#[async_trait]
pub trait NodeCollector: fmt::Debug + Send + Sync + 'static {
    /// The name of the kind on the wire.
    fn kind(&self) -> &'static str;

    /// Begins to present evidence, for the key and the server that `binding` names.
    ///
    /// # Errors
    ///
    /// [`CollectError`] if there is none to be had.
    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError>;
}

/// One presentation of evidence: dropped when the server has judged.
#[async_trait]
pub trait Presentation: fmt::Debug + Send {
    /// The evidence to send first. May be a secret.
    fn evidence(&self) -> &[u8];

    /// The answer to a challenge of the server's. What the server sends is not trusted.
    ///
    /// # Errors
    ///
    /// [`CollectError`] if it can't be answered.
    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError>;
}

/// Evidence that needs no conversation.
pub struct Statement(Zeroizing<Vec<u8>>);

impl Statement {
    /// A presentation of these bytes and nothing more.
    #[must_use]
    pub const fn new(evidence: Zeroizing<Vec<u8>>) -> Self {
        Self(evidence)
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({} bytes)", self.0.len())
    }
}

#[async_trait]
impl Presentation for Statement {
    fn evidence(&self) -> &[u8] {
        &self.0
    }

    async fn answer(&mut self, _challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        Err(CollectError::Unexpected)
    }
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// What it is made from can't be had. `what` says what was tried and what to do.
    #[error("{what}")]
    Unavailable {
        /// What is missing, and what to do about it.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The server sent a challenge that this kind of evidence does not know.
    #[error("the server sent a challenge that this kind of evidence does not know")]
    Unexpected,
}

/// Something in a setting of an attestor's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigProblem {
    /// The setting, below the attestor's own table.
    pub key: String,
    /// What is written there, unless it is a secret.
    pub value: Option<String>,
    /// What is wrong with it, and what to write.
    pub advice: String,
}

impl ConfigProblem {
    /// What to write at `key`, below the attestor's own table, instead of `value`.
    pub(crate) fn new(
        key: impl Into<String>,
        value: Option<&str>,
        advice: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), value: value.map(ToOwned::to_owned), advice: advice.into() }
    }
}
