//! The node's side: has a document made with the verifier's nonce and the digest of the binding.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use zeroize::Zeroizing;

use super::MAX_DOCUMENT;
use crate::{CollectError, NodeCollector, Nonce, Presentation};

/// What makes documents: the security module of an enclave, the NitroTPM of an instance, or who plays
/// them.
#[async_trait]
pub trait SecurityModule: fmt::Debug + Send + Sync + 'static {
    /// A document that carries what is asked for.
    ///
    /// # Errors
    ///
    /// [`CollectError`] if there is none to be had.
    async fn document(&self, questions: Questions) -> Result<Vec<u8>, CollectError>;
}

/// What a document is to carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Questions {
    /// `nonce`: the verifier's.
    pub nonce: Vec<u8>,
    /// `user_data`: what the document is bound to.
    pub user_data: Vec<u8>,
}

/// Presents documents of one kind.
#[derive(Debug)]
pub(crate) struct Module {
    kind: &'static str,
    module: Arc<dyn SecurityModule>,
}

impl Module {
    pub(crate) fn new(kind: &'static str, module: Arc<dyn SecurityModule>) -> Self {
        Self { kind, module }
    }
}

#[async_trait]
impl NodeCollector for Module {
    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(Conversation { module: Arc::clone(&self.module), binding: binding.clone() }))
    }
}

#[derive(Debug)]
struct Conversation {
    module: Arc<dyn SecurityModule>,
    binding: Binding,
}

#[async_trait]
impl Presentation for Conversation {
    fn evidence(&self) -> &[u8] {
        b"{}"
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let nonce: Nonce = challenge.try_into().map_err(|_no_nonce| CollectError::Unexpected)?;
        let user_data = self.binding.digest(&nonce).as_bytes().to_vec();
        let document = self.module.document(Questions { nonce: nonce.to_vec(), user_data }).await?;
        if MAX_DOCUMENT < document.len() {
            return Err(unavailable(format!("the document has {} bytes", document.len()), None));
        }
        Ok(Zeroizing::new(document))
    }
}

/// There is no document, because of `what`.
pub(crate) fn unavailable(
    what: impl Into<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
) -> CollectError {
    CollectError::Unavailable { what: what.into(), source }
}
