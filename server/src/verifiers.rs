//! The kinds of evidence that this server judges.
//!
//! Join tokens always; of the others, those that the operator has configured. To add a kind: its
//! folder in `attestors`, a line in [`crate::config::AttestorsConfig`], and one in
//! [`Verifiers::open`].

use std::error::Error;
use std::sync::Arc;

use claviger_attestors::{NodeVerifier, composite, join_token};

use crate::config::AttestorsConfig;
use crate::ledger::Ledger;

/// The verifiers. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Verifiers {
    single: Arc<Vec<Box<dyn NodeVerifier>>>,
    composite: Option<Arc<composite::Verifier>>,
}

impl Verifiers {
    /// The verifiers that `config` asks for.
    ///
    /// # Errors
    ///
    /// [`OpenVerifierError`] if one of them can't work: a file is missing, say.
    pub fn open(config: &AttestorsConfig, ledger: &Ledger) -> Result<Self, OpenVerifierError> {
        let single: Vec<Box<dyn NodeVerifier>> =
            vec![Box::new(join_token::Verifier::new(ledger.clone()))];
        let single = Arc::new(single);
        let composite = config.composite.clone().map(|composite| {
            Arc::new(composite::Verifier::new(composite, Arc::clone(&single)))
        });
        Ok(Self { single, composite })
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

/// A verifier can't work.
#[derive(Debug, thiserror::Error)]
#[error("`attestors.{kind}` cannot work")]
pub struct OpenVerifierError {
    /// The kind of evidence.
    kind: &'static str,
    /// Why.
    source: Box<dyn Error + Send + Sync>,
}
