//! The kinds of evidence that this server judges.
//!
//! Join tokens always; of the others, those that the operator has configured. To add a kind: its
//! folder in `attestors`, a line in [`crate::config::AttestorsConfig`], and one in
//! [`Verifiers::open`].

use std::error::Error;
use std::sync::Arc;

use claviger_attestors::x509pop::OwnAuthorities;
use claviger_attestors::{
    NodeVerifier, aws_iid, azure_imds, composite, gcp_iit, http_challenge, join_token, k8s_psat,
    oidc, sshpop, x509pop,
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
        let mut single: Vec<Box<dyn NodeVerifier>> =
            vec![Box::new(join_token::Verifier::new(ledger.clone()))];
        if let Some(config) = &config.x509pop {
            single.push(opened(
                x509pop::KIND,
                x509pop::Verifier::open(config, Arc::new(Own(bundle))),
            )?);
        }
        if let Some(config) = &config.sshpop {
            single.push(opened(sshpop::KIND, sshpop::Verifier::open(config))?);
        }
        if let Some(config) = &config.http_challenge {
            single.push(opened(http_challenge::KIND, http_challenge::Verifier::open(config))?);
        }
        if let Some(config) = &config.k8s_psat {
            single.push(opened(k8s_psat::KIND, k8s_psat::Verifier::open(config))?);
        }
        if let Some(config) = &config.aws_iid {
            single.push(opened(aws_iid::KIND, aws_iid::Verifier::open(config))?);
        }
        if let Some(config) = &config.gcp_iit {
            single.push(opened(gcp_iit::KIND, gcp_iit::Verifier::open(config.clone()))?);
        }
        if let Some(config) = &config.azure_imds {
            single.push(opened(azure_imds::KIND, azure_imds::Verifier::open(config))?);
        }
        if let Some(config) = &config.oidc {
            single.push(opened(
                oidc::KIND,
                oidc::Verifier::open(config.clone(), Arc::new(ledger.clone())),
            )?);
        }
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

fn opened<V, E>(
    kind: &'static str,
    opened: Result<V, E>,
) -> Result<Box<dyn NodeVerifier>, OpenVerifierError>
where
    V: NodeVerifier,
    E: Error + Send + Sync + 'static,
{
    match opened {
        Ok(verifier) => Ok(Box::new(verifier)),
        Err(source) => Err(OpenVerifierError { kind, source: Box::new(source) }),
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
