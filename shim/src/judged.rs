//! A handshake by a one-time PSK, and whether it was the one that we wanted.

#[cfg(test)]
mod tests;

use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{Purpose, Run};

use crate::backend::{Backend, Handshake, HandshakeError, Io, Outcome, Role};
use crate::enforcer::{Admitted, Denied, Enforcer, transport};
use crate::io::Flights;
use crate::tunnel::{Ends, Tunnel};

/// Who talks to whom and why, as the broker said.
#[derive(Debug)]
pub(crate) struct Parties {
    pub(crate) client: SpiffeId,
    pub(crate) server: SpiffeId,
    pub(crate) purpose: Purpose,
    pub(crate) run: Option<Run>,
}

/// A handshake that was the one we wanted.
#[derive(Debug)]
pub(crate) struct Judged {
    handshake: Box<dyn Handshake>,
    group: String,
    suite: String,
}

impl Judged {
    /// Shakes hands, and requires that it is TLS 1.3 with a Diffie-Hellman exchange, authenticated
    /// by the key named `identity`. Otherwise what is left of our last flight is not sent.
    pub(crate) async fn shake_hands(
        backend: &dyn Backend,
        role: Role,
        (identity, psk): (WireIdentity, &Psk),
        io: &mut dyn Io,
    ) -> Result<Self, HandshakeError> {
        let mut flights = Flights::new(io);
        let handshake = backend.handshake(role, identity, psk, &mut flights).await?;
        let Outcome { tls13, identity: used, group, suite } = handshake.outcome()?;
        let group = group.ok_or(HandshakeError::Unauthenticated)?;
        if !tls13 || used != identity.to_string().as_bytes() {
            return Err(HandshakeError::Unauthenticated);
        }
        flights.finish().await.map_err(HandshakeError::Io)?;
        Ok(Self { handshake, group, suite })
    }

    /// Whether the two may be connected like this, if somebody is there to say so.
    pub(crate) fn admitted(
        &self,
        enforcer: Option<&Enforcer>,
        parties: &Parties,
    ) -> Result<Option<Admitted>, Denied> {
        let Parties { client, server, purpose, run: _ } = parties;
        let admit = |enforcer: &Enforcer| {
            let transport = Some(transport(&self.group));
            enforcer.admit(client.clone(), server.clone(), purpose.clone(), transport)
        };
        enforcer.map(admit).transpose()
    }

    /// Goes on to the data, over the connection that the handshake went over, for as long as it is
    /// `admitted`.
    pub(crate) fn open(
        self,
        parties: Parties,
        admitted: Option<Admitted>,
        io: impl Io + 'static,
    ) -> Tunnel {
        let Self { handshake, group, suite } = self;
        let Parties { client, server, purpose, run } = parties;
        let ends = Ends { client, server, purpose, run, group, suite };
        Tunnel::new(handshake.open(Box::new(io)), ends, admitted)
    }
}
