//! Why there is no token.

use claviger_runtime::slots::Full;
use tonic::{Code, Status};

use crate::attestation::NO_IDENTITY;
use crate::server::is_refusal;

/// Why there is no token. Several callers may hear of the same one; the details have been logged.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoToken {
    /// The server says that the caller has no such identity, or may not have a token for it.
    #[error("{NO_IDENTITY}")]
    Nobody,
    /// The server does not like something else.
    #[error("{message}")]
    Refused {
        /// Who must act.
        code: Code,
        /// Why.
        message: String,
    },
    /// The server does not answer.
    #[error("the server cannot be reached; try again")]
    Unreachable,
    /// The server's answer is of no use.
    #[error("the server's answer is of no use")]
    Useless,
    /// Too many wait already.
    #[error("too many calls are waiting for the server; try again")]
    Busy,
}

impl NoToken {
    /// What follows from what the server said.
    pub(super) fn said(status: &Status) -> Self {
        let code = status.code();
        if matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::NotFound) {
            Self::Nobody
        } else if is_refusal(status) {
            Self::Refused { code, message: status.message().to_owned() }
        } else {
            Self::Unreachable
        }
    }
}

impl From<Full> for NoToken {
    fn from(_full: Full) -> Self {
        Self::Busy
    }
}

impl From<NoToken> for Status {
    fn from(error: NoToken) -> Self {
        let code = match error {
            NoToken::Nobody => Code::PermissionDenied,
            NoToken::Refused { code, .. } => code,
            NoToken::Unreachable | NoToken::Useless | NoToken::Busy => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
