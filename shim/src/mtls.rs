//! Tunnels by X.509-SVIDs: TLS 1.3, both ends authenticated, by the SVIDs and bundles of the moment.
//!
//! As with keys, each end judges before it goes on: whoever dials sends its last flight only to the peer
//! that has to be there, and only if the policies permit it; whoever answers tells a stranger nothing.
//! In TLS 1.3 a client is done before the server has seen its certificate, so one that is refused learns
//! of it when it first reads.

mod session;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_runtime::tls::{HandshakeError, Leaf, LeafError};
use rustls::pki_types::ServerName;
use rustls::{CommonState, ProtocolVersion};
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::backend::Io;
use crate::enforcer::{Admitted, Denied, Enforcer, transport};
use crate::io::Flights;
use crate::refusal;
use crate::svid::{NoSvid, Own, Svids};
use crate::tunnel::{Ends, Tunnel};
use crate::wanted::{Unwanted, Wanted};
use session::Open;

/// How long a stranger may take for a handshake.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a handshake may take; longer than whoever answers lets it.
const DIAL: Duration = Duration::from_secs(15);

/// One end of tunnels by SVIDs.
#[derive(Clone, Debug)]
pub(crate) struct Mtls {
    pub(crate) svids: Svids,
    pub(crate) enforcer: Option<Enforcer>,
}

impl Mtls {
    /// Shakes hands with `peer` and nobody else.
    pub(crate) async fn dial(
        &self,
        io: impl Io + 'static,
        peer: &SpiffeId,
        purpose: &Purpose,
    ) -> Result<Tunnel, MtlsError> {
        let own = self.svids.current().await?;
        let connector = TlsConnector::from(own.client_config(peer.clone())?);
        // SPIFFE names who, not where.
        let name = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let shaking = connector.connect(name, Flights::new(io));
        let shaken = timeout(DIAL, shaking).await.map_err(|_elapsed| MtlsError::TooSlow)?;
        let mut stream = TlsStream::from(shaken.map_err(HandshakeError::from)?);

        let found = other_end(&stream)?;
        if found != *peer {
            return Err(MtlsError::WrongPeer { found, expected: peer.clone() });
        }
        let (client, server) = (own.id().clone(), found);
        let ends = ends(&stream, client, server, purpose)?;
        let admitted = admitted(self.enforcer.as_ref(), &ends)?;
        stream.get_mut().0.finish().await.map_err(HandshakeError::from)?;
        Ok(Tunnel::new(Box::new(Open(stream)), ends, admitted))
    }

    /// Shakes hands with whoever is `wanted`.
    pub(crate) async fn answer(
        &self,
        mut io: impl Io + 'static,
        wanted: Wanted<'_>,
        purpose: &Purpose,
    ) -> Result<Tunnel, MtlsError> {
        let started = Instant::now();
        let own = match self.svids.current().await {
            Ok(own) => own,
            Err(why) => {
                refusal::refuse(&mut io, started).await;
                return Err(why.into());
            }
        };
        let shaking = TlsAcceptor::from(own.server_config()).accept(Flights::new(io));
        let shaken = timeout(ANSWER, shaking.into_fallible()).await;
        let stream = match shaken.map_err(|_elapsed| MtlsError::TooSlow)? {
            Ok(stream) => TlsStream::from(stream),
            Err((error, flights)) => {
                turn_away(flights, started).await;
                return Err(HandshakeError::from(error).into());
            }
        };
        match self.judge(&own, &stream, wanted, purpose) {
            Ok((ends, admitted)) => {
                let mut stream = stream;
                stream.get_mut().0.finish().await.map_err(HandshakeError::from)?;
                Ok(Tunnel::new(Box::new(Open(stream)), ends, admitted))
            }
            Err(error) => {
                turn_away(into_inner(stream), started).await;
                Err(error)
            }
        }
    }

    fn judge<S>(
        &self,
        own: &Own,
        stream: &TlsStream<S>,
        wanted: Wanted<'_>,
        purpose: &Purpose,
    ) -> Result<(Ends, Option<Admitted>), MtlsError> {
        let client = other_end(stream)?;
        wanted.admits_peer(&client)?;
        let ends = ends(stream, client, own.id().clone(), purpose)?;
        let admitted = admitted(self.enforcer.as_ref(), &ends)?;
        Ok((ends, admitted))
    }
}

/// Closes, and says no more than what a stranger's own first bytes deserve.
async fn turn_away(flights: Flights<impl Io>, started: Instant) {
    match flights.into_inner() {
        (mut io, false) => refusal::refuse(&mut io, started).await,
        (mut io, true) => refusal::hang_up(&mut io, started).await,
    }
}

/// Whom the other end's certificate names, which was verified in the handshake.
fn other_end<S>(stream: &TlsStream<S>) -> Result<SpiffeId, MtlsError> {
    let state = state(stream);
    if state.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(MtlsError::NotTls13);
    }
    let certificate = state.peer_certificates().and_then(<[_]>::first);
    Ok(Leaf::parse(certificate.ok_or(MtlsError::Nameless)?)?.id().clone())
}

fn ends<S>(
    stream: &TlsStream<S>,
    client: SpiffeId,
    server: SpiffeId,
    purpose: &Purpose,
) -> Result<Ends, MtlsError> {
    let (group, suite) = session::negotiated(state(stream)).ok_or(MtlsError::NotTls13)?;
    Ok(Ends { client, server, purpose: purpose.clone(), run: None, group, suite })
}

fn admitted(enforcer: Option<&Enforcer>, ends: &Ends) -> Result<Option<Admitted>, Denied> {
    let Ends { client, server, purpose, group, .. } = ends;
    let admit = |enforcer: &Enforcer| {
        let transport = Some(transport(group));
        enforcer.admit(client.clone(), server.clone(), purpose.clone(), transport)
    };
    enforcer.map(admit).transpose()
}

fn state<S>(stream: &TlsStream<S>) -> &CommonState {
    stream.get_ref().1
}

fn into_inner<S>(stream: TlsStream<S>) -> S {
    match stream {
        TlsStream::Client(stream) => stream.into_inner().0,
        TlsStream::Server(stream) => stream.into_inner().0,
    }
}

/// Why there is no tunnel by SVIDs.
#[derive(Debug, thiserror::Error)]
pub enum MtlsError {
    /// We are nobody.
    #[error(transparent)]
    NoSvid(#[from] NoSvid),
    /// The handshake did not complete in time.
    #[error("the peer did not complete the handshake in time")]
    TooSlow,
    /// It failed.
    #[error("the TLS handshake failed")]
    Handshake(#[from] HandshakeError),
    /// It completed, by something that is not TLS 1.3.
    #[error("the handshake was not one of TLS 1.3")]
    NotTls13,
    /// It completed without a certificate.
    #[error("the peer showed no certificate")]
    Nameless,
    /// It completed with a certificate that cannot be read.
    #[error("the peer's certificate is unusable")]
    Leaf(#[from] LeafError),
    /// It completed with somebody else.
    #[error("the peer is `{found}`, not `{expected}`")]
    WrongPeer {
        /// Who is there.
        found: SpiffeId,
        /// Who has to be there.
        expected: SpiffeId,
    },
    /// They are not meant to come in here.
    #[error(transparent)]
    Unwanted(#[from] Unwanted),
    /// The policies do not permit it, or one end is in quarantine.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    SetUp(#[from] rustls::Error),
}
