//! Why a handshake failed, in words for an operator.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

/// A handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// We refused the certificate of the other end, for a reason of our own.
    #[error("certificate refused")]
    Certificate(#[source] Arc<dyn Error + Send + Sync>),
    /// The connection broke, TLS went wrong, or the other end refused.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    /// Digs out our own reason: rustls shows it for debugging only, and not as a source.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
                Self::Certificate(Arc::clone(why))
            }
            _ => Self::Io(error),
        }
    }
}
