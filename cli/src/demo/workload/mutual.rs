//! Mutual TLS, both ends.

use claviger_core::id::SpiffeId;
use claviger_runtime::tls::{Leaf, client_config, server_config};
use rustls::pki_types::ServerName;
use rustls::{CommonState, NamedGroup};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::identity::{Me, clock};
use super::{Workload, talk, text};
use crate::demo::orders::{Call, Met, Report};

impl Workload<'_> {
    pub(super) async fn accept_mutual(&mut self, client: &SpiffeId) -> Result<Report, String> {
        let stream = self.accept().await?;
        let Me { identity, bundle, .. } = self.me.as_ref().ok_or("it has no identity")?;
        let acceptor = TlsAcceptor::from(server_config(identity, bundle, clock()));
        let mut stream = acceptor.accept(stream).await.map_err(text)?;
        let (peer, group) = met(stream.get_ref().1)?;
        // The handshake proved that the certificate is valid; who may call is for us to say.
        if peer != *client {
            return Err(format!("{peer} called, not {client}"));
        }
        let heard = talk(&mut stream, &self.name).await?;
        Ok(Report::Met(Met { peer, group, heard }))
    }

    pub(super) async fn connect_mutual(&mut self, call: Call) -> Result<Report, String> {
        let Me { identity, bundle, .. } = self.me.as_ref().ok_or("it has no identity")?;
        let config = client_config(Some(identity), bundle, call.server, clock());
        let stream = TcpStream::connect(call.at).await.map_err(text)?;
        // SPIFFE IDs are what is verified; the name only fills a field.
        let name = ServerName::from(call.at.ip());
        let mut stream = TlsConnector::from(config).connect(name, stream).await.map_err(text)?;
        let (peer, group) = met(stream.get_ref().1)?;
        let heard = talk(&mut stream, &self.name).await?;
        Ok(Report::Met(Met { peer, group, heard }))
    }
}

/// Who is at the other end, and by which key exchange.
fn met(connection: &CommonState) -> Result<(SpiffeId, String), String> {
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or("the other end showed no certificate")?;
    let peer = Leaf::parse(leaf).map_err(text)?.id().clone();
    let group = connection.negotiated_key_exchange_group().map(|group| group.name());
    Ok((peer, group.map(name).unwrap_or_default()))
}

fn name(group: NamedGroup) -> String {
    group.as_str().map_or_else(|| format!("0x{:04x}", u16::from(group)), str::to_owned)
}
