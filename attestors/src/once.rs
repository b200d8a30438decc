//! What may be used once, whatever the kind of evidence: the `jti` of a token, a document.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use claviger_core::evidence::KeyDigest;
use claviger_core::time::UnixTime;

/// One thing that works once.
#[derive(Clone, Copy, Debug)]
pub struct Once<'a> {
    /// The kind of evidence that it is part of.
    pub kind: &'static str,
    /// Who made it, such as the issuer of a token.
    pub issuer: &'a str,
    /// Its name among all that the issuer makes, such as a `jti`.
    pub id: &'a str,
    /// When it was made, by its issuer's clock.
    pub issued_at: UnixTime,
    /// The last second at which anybody would believe it.
    pub expires_at: UnixTime,
    /// The key that it earns something for. The same key may present it again, so that an answer
    /// lost on the way does not lock anybody out; none if it earns something that is no certificate.
    pub key: Option<&'a KeyDigest>,
}

/// Remembers what was used.
#[async_trait]
pub trait ConsumeOnce: fmt::Debug + Send + Sync + 'static {
    /// Uses up `once`, durably before it returns.
    ///
    /// # Errors
    ///
    /// [`ConsumeError`] if it can't be used.
    async fn consume(&self, once: Once<'_>) -> Result<(), ConsumeError>;
}

/// Why something can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// It was used before.
    #[error("it was used before")]
    Replayed,
    /// It is older than what the ledger is known to remember, so that nobody can tell.
    #[error("it was made before the ledger's memory begins")]
    TooOld,
    /// It would have to be remembered for too long.
    #[error("it lasts longer than the ledger remembers")]
    TooLong,
    /// The ledger did not answer.
    #[error("the ledger does not answer")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}
