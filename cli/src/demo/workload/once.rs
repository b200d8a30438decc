//! One-time keys, both ends; and what somebody does who wants to use one twice.

use std::net::SocketAddr;

use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskTtl, Purpose};
use claviger_core::secret::Secret;
use claviger_core::time::UnixTime;
use claviger_runtime::telemetry::Chain;
use claviger_shim::backend::HandshakeError;
use claviger_shim::redeem::RedeemError;
use claviger_shim::{AcceptError, BrokerClient, ConnectError, Issued, PskAcceptor, PskConnector};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tap::Tap;
use super::{Workload, talk, text};
use crate::demo::orders::{Met, Report};

/// A key that was issued, kept longer than it is worth.
pub(super) struct Key {
    identity: WireIdentity,
    pub(super) psk: Secret<32>,
    client: SpiffeId,
    server: SpiffeId,
    purpose: Purpose,
    not_after: UnixTime,
}

impl Workload<'_> {
    pub(super) async fn issue(
        &mut self,
        peer: &SpiffeId,
        purpose: &Purpose,
    ) -> Result<Report, String> {
        let broker = self.broker()?;
        let issued = broker.issue(peer, purpose, PskTtl::default()).await;
        let Issued { identity, psk: Psk(psk), client, server, purpose, not_after, run: _ } =
            issued.map_err(|error| Chain(&error).to_string())?;
        self.key = Some(Key { identity, psk, client, server, purpose, not_after });
        Ok(Report::Issued(identity.to_string()))
    }

    pub(super) async fn accept_once(&mut self) -> Result<Report, String> {
        let stream = self.accept().await?;
        let acceptor = PskAcceptor::new(self.broker()?).map_err(text)?;
        match acceptor.accept(stream).await {
            Ok(mut stream) => {
                let heard = talk(&mut stream, &self.name).await?;
                let met = stream.ends();
                Ok(Report::Met(Met { peer: met.client.clone(), group: met.group.clone(), heard }))
            }
            Err(error @ AcceptError::Redeem(RedeemError::Refused)) => {
                Ok(Report::Refused(Chain(&error).to_string()))
            }
            Err(error) => Err(Chain(&error).to_string()),
        }
    }

    pub(super) async fn connect_once(&mut self, at: SocketAddr) -> Result<Report, String> {
        let key = self.key.as_ref().ok_or("it was not issued a key")?;
        let (tap, recording) = Tap::new(TcpStream::connect(at).await.map_err(text)?);
        let connector = PskConnector::new().map_err(text)?;
        let mut stream = match connector.connect(tap, key.presented()?).await {
            Ok(stream) => stream,
            Err(error @ ConnectError::Handshake(HandshakeError::Refused)) => {
                return Ok(Report::Refused(Chain(&error).to_string()));
            }
            Err(error) => return Err(Chain(&error).to_string()),
        };
        let heard = talk(&mut stream, &self.name).await?;
        let met = stream.ends();
        let report = Met { peer: met.server.clone(), group: met.group.clone(), heard };
        self.first_flight = recording.first_flight();
        Ok(Report::Met(report))
    }

    pub(super) async fn replay(&mut self, at: SocketAddr) -> Result<Report, String> {
        /// More than any refusal.
        const MAX: u64 = 1_024;

        if self.first_flight.is_empty() {
            return Err("it has recorded nothing".to_owned());
        }
        let mut stream = TcpStream::connect(at).await.map_err(text)?;
        stream.write_all(&self.first_flight).await.map_err(text)?;
        let mut answer = Vec::new();
        stream.take(MAX).read_to_end(&mut answer).await.map_err(text)?;
        Ok(Report::HungUp(hex::encode(answer)))
    }

    fn broker(&self) -> Result<BrokerClient, String> {
        BrokerClient::new(self.socket.to_owned()).map_err(text)
    }
}

impl Key {
    /// The key as if it had just been issued.
    fn presented(&self) -> Result<Issued, String> {
        let psk = Secret::copy_from(self.psk.expose()).ok_or("the key has lost its length")?;
        Ok(Issued {
            identity: self.identity,
            psk: Psk(psk),
            client: self.client.clone(),
            server: self.server.clone(),
            purpose: self.purpose.clone(),
            not_after: self.not_after,
            run: None,
        })
    }
}
