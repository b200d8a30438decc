//! Asking the services of this machine over HTTP, for answers that are no longer than expected.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, redirect};
use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// TLS to servers that `roots` vouch for.
pub(crate) fn tls(
    roots: impl Into<Arc<RootCertStore>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

/// A client that goes where it is told and nowhere else, and gives up after `deadline`.
pub(crate) fn client(tls: ClientConfig, deadline: Duration) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(deadline)
}

/// A client of the service that listens on the socket at `path`.
pub(crate) fn unix_client(path: &Path, deadline: Duration) -> Result<Client, ClientError> {
    let tls = tls(RootCertStore::empty())?.with_no_client_auth();
    Ok(client(tls, deadline).unix_socket(path).pool_max_idle_per_host(0).build()?)
}

/// There can be no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Of TLS.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// Of HTTP.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// All of an answer's body, if it has at most `limit` bytes.
pub(crate) async fn read_body(mut answer: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| BodyError::Broken(e.without_url()))? {
        if limit < body.len().saturating_add(chunk.len()) {
            return Err(BodyError::TooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than it may be.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    /// It did not come to its end.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
}
