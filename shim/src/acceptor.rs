//! The side that answers.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use crate::backend::{Backend, HandshakeError, Io, Role, S2n, SetUpError};
use crate::client_hello::{ClientHello, FirstFlight, HelloError};
use crate::enforcer::{Admitted, Denied, Enforcer};
use crate::io::Replay;
use crate::judged::{Judged, Parties};
use crate::redeem::{Offer, Redeem, RedeemError, Redeemed};
use crate::refusal;
use crate::tunnel::Tunnel;
use crate::wanted::{Unwanted, Wanted};

/// How long a stranger may take to send a ClientHello.
const FIRST_FLIGHT: Duration = Duration::from_secs(5);

/// How long everything may take, from the connection to the end of the handshake: the ClientHello,
/// the broker's answer and its repetition, and a round trip or two.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Turns connections into authenticated streams, with keys that a broker redeems.
#[derive(Clone, Debug)]
pub struct PskAcceptor {
    redeem: Arc<dyn Redeem>,
    backend: Arc<dyn Backend>,
    enforcer: Option<Enforcer>,
}

impl PskAcceptor {
    /// An acceptor whose keys come from `redeem`.
    ///
    /// # Errors
    ///
    /// [`SetUpError`] if the TLS stack lacks what we need.
    pub fn new(redeem: impl Redeem) -> Result<Self, SetUpError> {
        Ok(Self::with_backend(redeem, S2n::new()?))
    }

    /// The same with another TLS stack.
    #[must_use]
    pub fn with_backend(redeem: impl Redeem, backend: impl Backend) -> Self {
        Self { redeem: Arc::new(redeem), backend: Arc::new(backend), enforcer: None }
    }

    /// The same, which takes in only those whom `enforcer` admits, and lets them stay only as long.
    #[must_use]
    pub fn enforced_by(self, enforcer: Enforcer) -> Self {
        Self { enforcer: Some(enforcer), ..self }
    }

    /// Reads a ClientHello from `io`, redeems the key that it names, and shakes hands.
    ///
    /// A peer that is refused learns that it is, and nothing else; this returns after it was told.
    /// Run it in a task of its own, and bound how many there are.
    ///
    /// # Errors
    ///
    /// [`AcceptError`] says why there is no stream. It is for the log, never for the peer.
    pub async fn accept(&self, io: impl Io + 'static) -> Result<Tunnel, AcceptError> {
        self.accept_wanted(io, Wanted::default()).await
    }

    /// The same for those who are `wanted`; others are refused like everybody.
    ///
    /// # Errors
    ///
    /// [`AcceptError`], as above.
    pub async fn accept_wanted(
        &self,
        mut io: impl Io + 'static,
        wanted: Wanted<'_>,
    ) -> Result<Tunnel, AcceptError> {
        let started = Instant::now();
        match self.handshake(&mut io, wanted, started).await {
            Ok((judged, parties, admitted)) => Ok(judged.open(parties, admitted, io)),
            Err(error) => {
                refusal::refuse(&mut io, started).await;
                Err(error)
            }
        }
    }

    async fn handshake(
        &self,
        io: &mut dyn Io,
        wanted: Wanted<'_>,
        started: Instant,
    ) -> Result<(Judged, Parties, Option<Admitted>), AcceptError> {
        let first_flight = read_first_flight(io);
        let (hello, wire) = timeout_at(started + FIRST_FLIGHT, first_flight)
            .await
            .map_err(|_elapsed| AcceptError::TooSlow("ClientHello"))??;

        let rest = async {
            let offer = offer(&hello)?;
            let redeemed = self.redeem.redeem(&offer).await?;
            let Redeemed { psk, client, server, purpose, not_after: _, run } = redeemed;
            wanted.admits(&client, &purpose)?;
            let mut io = Replay::new(wire, io);
            let key = (hello.identity, &psk);
            let judged = Judged::shake_hands(&*self.backend, Role::Server, key, &mut io).await?;
            let parties = Parties { client, server, purpose, run };
            let admitted = judged.admitted(self.enforcer.as_ref(), &parties)?;
            Ok((judged, parties, admitted))
        };
        timeout_at(started + HANDSHAKE, rest)
            .await
            .map_err(|_elapsed| AcceptError::TooSlow("handshake"))?
    }
}

/// Reads until there is a ClientHello, and returns it with all bytes that were read.
async fn read_first_flight(io: &mut dyn Io) -> Result<(ClientHello, Vec<u8>), AcceptError> {
    let mut flight = FirstFlight::default();
    let mut buffer = vec![0; 2_048]; // Room for a post-quantum key share in one read.
    loop {
        let room = flight.room().min(buffer.len());
        let free = buffer.get_mut(..room).unwrap_or_default();
        let length = io.read(free).await.map_err(AcceptError::Read)?;
        let bytes = free.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Err(AcceptError::Silent);
        }
        if let Some(hello) = flight.push(bytes)? {
            return Ok((hello, flight.into_wire()));
        }
    }
}

fn offer(hello: &ClientHello) -> Result<Offer, AcceptError> {
    let mut attempt = [0; 16];
    rand::fill(&mut attempt).map_err(|_unspecified| AcceptError::NoRandomness)?;
    let ClientHello { identity, transcript, binder } = *hello;
    Ok(Offer { attempt, identity, transcript, binder })
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The peer did not keep up.
    #[error("the peer took too long for its {0}")]
    TooSlow(&'static str),
    /// The connection broke.
    #[error("cannot read the ClientHello")]
    Read(#[source] io::Error),
    /// The peer hung up before its ClientHello was complete.
    #[error("the peer hung up before its ClientHello was complete")]
    Silent,
    /// The first bytes are not the start of a handshake we serve.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// There is no key for this ClientHello.
    #[error("cannot redeem the key")]
    Redeem(#[from] RedeemError),
    /// The handshake failed after the key was redeemed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The policies do not permit it, or one end is in quarantine.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// They are not meant to come in here.
    #[error(transparent)]
    Unwanted(#[from] Unwanted),
    /// The operating system gave no random bytes.
    #[error("no random bytes to be had")]
    NoRandomness,
}
