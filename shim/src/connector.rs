//! The side that dials.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{Purpose, Run};
use claviger_core::time::UnixTime;
use tokio::time::timeout;

use crate::backend::{Backend, HandshakeError, Io, Role, S2n, SetUpError};
use crate::enforcer::{Denied, Enforcer};
use crate::judged::{Judged, Parties};
use crate::tunnel::Tunnel;

/// How long a handshake may take; longer than an acceptor lets it.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A key for one connection, as the broker issued it.
#[derive(Debug)]
pub struct Issued {
    /// What to send as the PSK identity.
    pub identity: WireIdentity,
    /// The key.
    pub psk: Psk,
    /// Who dials.
    pub client: SpiffeId,
    /// Who is to answer.
    pub server: SpiffeId,
    /// What for.
    pub purpose: Purpose,
    /// The last second at which it can be redeemed.
    pub not_after: UnixTime,
    /// Which run of the client it is for, if for one only.
    pub run: Option<Run>,
}

/// Opens authenticated streams with issued keys.
#[derive(Clone, Debug)]
pub struct PskConnector {
    backend: Arc<dyn Backend>,
    enforcer: Option<Enforcer>,
}

impl PskConnector {
    /// A connector.
    ///
    /// # Errors
    ///
    /// [`SetUpError`] if the TLS stack lacks what we need.
    pub fn new() -> Result<Self, SetUpError> {
        Ok(Self::with_backend(S2n::new()?))
    }

    /// The same with another TLS stack.
    #[must_use]
    pub fn with_backend(backend: impl Backend) -> Self {
        Self { backend: Arc::new(backend), enforcer: None }
    }

    /// The same, which connects only to those whom `enforcer` admits, and only for as long.
    #[must_use]
    pub fn enforced_by(self, enforcer: Enforcer) -> Self {
        Self { enforcer: Some(enforcer), ..self }
    }

    /// Shakes hands over `io` with the one server that can redeem `issued`. Nothing else
    /// authenticates a server: not a certificate, whoever signed it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; the key may be spent then, so try again with another.
    pub async fn connect(
        &self,
        mut io: impl Io + 'static,
        issued: Issued,
    ) -> Result<Tunnel, ConnectError> {
        let Issued { identity, psk, client, server, purpose, not_after: _, run } = issued;
        let handshake =
            Judged::shake_hands(&*self.backend, Role::Client, (identity, &psk), &mut io);
        let judged =
            timeout(HANDSHAKE, handshake).await.map_err(|_elapsed| ConnectError::TooSlow)??;
        let parties = Parties { client, server, purpose, run };
        let admitted = judged.admitted(self.enforcer.as_ref(), &parties)?;
        Ok(judged.open(parties, admitted, io))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The handshake did not complete in time.
    #[error("the server did not complete the handshake within {secs} s", secs = HANDSHAKE.as_secs())]
    TooSlow,
    /// The server refused, or did not prove that it holds the key.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The policies do not permit it, or one end is in quarantine.
    #[error(transparent)]
    Denied(#[from] Denied),
}
