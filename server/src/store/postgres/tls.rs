//! TLS to the database: what rustls does, as tokio-postgres asks for it.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use claviger_attestors::fetch::{self, RootsError};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

/// There can be no TLS to the database.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nobody vouches for it.
    #[error("cannot tell who vouches for the database in `store.postgres`")]
    Roots(#[from] RootsError),
    /// The library refuses.
    #[error("there can be no TLS to the database")]
    Library(#[from] rustls::Error),
}

/// Makes connections with TLS, to whoever has the name that the URL says.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Believes whom an authority in `ca_file` (PEM) vouches for; without one, an authority of this
    /// machine's.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(fetch::roots(ca_file)?)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Session;
    type TlsConnect = Opening;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Opening> {
        Ok(Opening { connector: self.0.clone(), name: domain.to_owned() })
    }
}

/// A connection that is about to be made.
pub(super) struct Opening {
    connector: TlsConnector,
    name: String,
}

impl TlsConnect<Socket> for Opening {
    type Stream = Session;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Session>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.name).map_err(io::Error::other)?;
            self.connector.connect(name, stream).await.map(Session)
        })
    }
}

/// A connection with TLS.
#[derive(Debug)]
pub(super) struct Session(client::TlsStream<Socket>);

impl TlsStream for Session {
    /// None: the certificate says whom we talk to.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
