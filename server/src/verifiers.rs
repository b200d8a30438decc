//! The kinds of evidence that this server judges.
//!
//! Join tokens always; of the others, those that the operator has configured. To add a kind: its
//! folder in `attestors`, a line in [`crate::config::AttestorsConfig`], and one in
//! [`Verifiers::open`].

use std::error::Error;
use std::sync::Arc;

use claviger_attestors::x509pop::OwnAuthorities;
use claviger_attestors::{
    NodeVerifier, aws_iid, aws_nitro, azure_imds, composite, gcp_iit, http_challenge, join_token,
    k8s_psat, nitro_tpm, nvidia_gpu, oidc, sev_snp, sgx, sshpop, tdx, tpm, x509pop,
};
use claviger_core::bundle::Bundle;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::config::AttestorsConfig;
use crate::ledger::Ledger;

/// The verifiers. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Verifiers {
    single: Arc<Vec<Box<dyn NodeVerifier>>>,
    composite: Option<Arc<composite::Verifier>>,
}

impl Verifiers {
    /// The verifiers that `config` asks for. What is used up is entered in `ledger`; the trust
    /// domain's own authorities are those of `bundle`. To be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenVerifierError`] if one of them can't work: a file is missing, say.
    pub fn open(
        config: &AttestorsConfig,
        ledger: &Ledger,
        bundle: watch::Receiver<Arc<Bundle>>,
    ) -> Result<Self, OpenVerifierError> {
        let own = Arc::new(Own(bundle));
        let mut kinds = Kinds(vec![Box::new(join_token::Verifier::new(ledger.clone()))]);
        kinds.open(aws_iid::KIND, &config.aws_iid, aws_iid::Verifier::open)?;
        kinds.open(aws_nitro::KIND, &config.aws_nitro, aws_nitro::Verifier::open)?;
        kinds.open(azure_imds::KIND, &config.azure_imds, azure_imds::Verifier::open)?;
        kinds.open(gcp_iit::KIND, &config.gcp_iit, |c| gcp_iit::Verifier::open(c.clone()))?;
        kinds.open(http_challenge::KIND, &config.http_challenge, http_challenge::Verifier::open)?;
        kinds.open(k8s_psat::KIND, &config.k8s_psat, k8s_psat::Verifier::open)?;
        kinds.open(nitro_tpm::KIND, &config.nitro_tpm, nitro_tpm::Verifier::open)?;
        kinds.open(nvidia_gpu::KIND, &config.nvidia_gpu, nvidia_gpu::Verifier::open)?;
        kinds.open(oidc::KIND, &config.oidc, |c| {
            oidc::Verifier::open(c.clone(), Arc::new(ledger.clone()))
        })?;
        kinds.open(sev_snp::KIND, &config.sev_snp, sev_snp::Verifier::open)?;
        kinds.open(sgx::KIND, &config.sgx, sgx::Verifier::open)?;
        kinds.open(sshpop::KIND, &config.sshpop, sshpop::Verifier::open)?;
        kinds.open(tdx::KIND, &config.tdx, tdx::Verifier::open)?;
        kinds.open(tpm::KIND, &config.tpm, tpm::Verifier::open)?;
        kinds.open(x509pop::KIND, &config.x509pop, |c| x509pop::Verifier::open(c, own))?;
        let single = kinds.0;
        let single = Arc::new(single);
        let composite = config.composite.clone();
        let composite =
            composite.map(|config| Arc::new(composite::Verifier::new(config, Arc::clone(&single))));
        Ok(Self { single, composite })
    }

    /// These verifiers, and no others.
    #[cfg(test)]
    pub(crate) fn of(single: Vec<Box<dyn NodeVerifier>>) -> Self {
        Self { single: Arc::new(single), composite: None }
    }

    /// The verifier of evidence of `kind`; none if nobody here judges it.
    #[must_use]
    pub fn find(&self, kind: &str) -> Option<&dyn NodeVerifier> {
        if kind == composite::KIND {
            let composite: &dyn NodeVerifier = &**self.composite.as_ref()?;
            return Some(composite);
        }
        self.single.iter().find(|verifier| verifier.kind() == kind).map(|verifier| &**verifier)
    }

    /// Every kind that is judged.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let composite = self.composite.as_ref().map(|composite| composite.kind());
        self.single.iter().map(|verifier| verifier.kind()).chain(composite)
    }
}

/// The authorities of this server's own trust domain.
#[derive(Debug)]
struct Own(watch::Receiver<Arc<Bundle>>);

impl OwnAuthorities for Own {
    fn current(&self) -> Vec<CertificateDer<'static>> {
        let bundle = self.0.borrow();
        bundle.x509_authorities.iter().map(|a| CertificateDer::from(a.der.to_vec())).collect()
    }
}

/// The verifiers so far.
struct Kinds(Vec<Box<dyn NodeVerifier>>);

impl Kinds {
    /// Adds the verifier of one kind, if it is configured.
    fn open<C, V, E>(
        &mut self,
        kind: &'static str,
        config: &Option<C>,
        open: impl FnOnce(&C) -> Result<V, E>,
    ) -> Result<(), OpenVerifierError>
    where
        V: NodeVerifier,
        E: Error + Send + Sync + 'static,
    {
        let Some(config) = config else { return Ok(()) };
        let failed = |source: E| OpenVerifierError { kind, source: Box::new(source) };
        self.0.push(Box::new(open(config).map_err(failed)?));
        Ok(())
    }
}

/// A verifier can't work.
#[derive(Debug, thiserror::Error)]
#[error("`attestors.{kind}` cannot work")]
pub struct OpenVerifierError {
    /// The kind of evidence.
    kind: &'static str,
    /// Why.
    source: Box<dyn Error + Send + Sync>,
}
