//! Asking an HTTP server that an operator named for a small document: an issuer's keys, a token.
//!
//! | to find | look in |
//! |---|---|
//! | the one request that is made, and its bounds | here |
//! | which addresses may be asked | `endpoint` |
//! | who vouches for the server | `roots` |
//!
//! What answers may be hostile or broken: it gets one try, a deadline for all of it, and room for a
//! small answer. It can't send us elsewhere, and nothing in the environment can either.

mod endpoint;
mod roots;

#[cfg(test)]
pub(crate) mod fixture;

use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use rustls::crypto::aws_lc_rs;
use zeroize::Zeroizing;

pub(crate) use crate::files as file;
pub use endpoint::{Endpoint, EndpointError, Plain};
pub use roots::RootsError;

/// The most bytes of an answer.
pub const MAX_BODY: usize = 256 << 10;

/// How long a request may take, from looking up the name to the last byte of the answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The authorities in `ca_file` (PEM), or without a file those of this machine.
///
/// # Errors
///
/// [`RootsError`] if the file can't be used.
pub fn roots(ca_file: Option<&Path>) -> Result<rustls::RootCertStore, RootsError> {
    roots::read(ca_file)
}

/// Makes requests.
#[derive(Clone, Debug)]
pub struct Fetch {
    client: Client,
    deadline: Duration,
}

impl Fetch {
    /// Believes servers that an authority in `ca_file` (PEM) vouches for, and no others; without a
    /// file, those that an authority of this machine's vouches for.
    ///
    /// # Errors
    ///
    /// [`RootsError`] if the file can't be used, or if there can be no TLS.
    pub fn open(ca_file: Option<&Path>) -> Result<Self, RootsError> {
        Self::believing(roots::read(ca_file)?)
    }

    /// Believes no server but those that are asked without TLS: see [`Plain`].
    ///
    /// # Errors
    ///
    /// [`RootsError`] if there can be no TLS.
    pub fn plain() -> Result<Self, RootsError> {
        Self::believing(rustls::RootCertStore::empty())
    }

    fn believing(roots: rustls::RootCertStore) -> Result<Self, RootsError> {
        let tls = rustls::ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|source| RootsError::Tls(source.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent("claviger")
            .build()
            .map_err(|source| RootsError::Tls(source.into()))?;
        Ok(Self { client, deadline: DEADLINE })
    }

    /// The same, with another deadline.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What a GET of `endpoint` with `headers` is answered: the body of a 200. It may be a secret, and
    /// so may be the headers' values.
    ///
    /// # Errors
    ///
    /// [`FetchError`] if there is no such answer in time, or if it is too long.
    pub async fn get(
        &self,
        endpoint: &Endpoint,
        headers: &[(&'static str, &str)],
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        self.request(Method::GET, endpoint, headers).await.map(|answer| answer.body)
    }

    /// What a GET of `endpoint` is answered, and what the answer's `header` says, if it has it.
    ///
    /// # Errors
    ///
    /// [`FetchError`] as for [`get`](Self::get).
    pub async fn get_with_header(
        &self,
        endpoint: &Endpoint,
        header: &'static str,
    ) -> Result<(Zeroizing<Vec<u8>>, Option<String>), FetchError> {
        let Answer { headers, body, .. } = self.request(Method::GET, endpoint, &[]).await?;
        let value = headers.get(header).and_then(|value| value.to_str().ok());
        Ok((body, value.map(ToOwned::to_owned)))
    }

    /// The same, of a PUT without a body.
    ///
    /// # Errors
    ///
    /// [`FetchError`] as for [`get`](Self::get).
    pub async fn put(
        &self,
        endpoint: &Endpoint,
        headers: &[(&'static str, &str)],
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        self.request(Method::PUT, endpoint, headers).await.map(|answer| answer.body)
    }

    /// The same, of a POST of JSON.
    ///
    /// # Errors
    ///
    /// [`FetchError`] as for [`get`](Self::get).
    pub async fn post_json(
        &self,
        endpoint: &Endpoint,
        json: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let request = self.client.request(Method::POST, endpoint.url().clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(json);
        self.send(endpoint, answer(request)).await.map(|answer| answer.body)
    }

    /// What a POST of `text` is answered: the status and the body, whatever the status is.
    ///
    /// # Errors
    ///
    /// [`FetchError`] if there is no complete answer in time, or if it is too long.
    pub async fn post_text(
        &self,
        endpoint: &Endpoint,
        text: String,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), FetchError> {
        let request = self.client.request(Method::POST, endpoint.url().clone());
        let request = request.header(CONTENT_TYPE, "text/plain; charset=utf-8").body(text);
        self.send(endpoint, any_answer(request)).await.map(|answer| (answer.status, answer.body))
    }

    async fn request(
        &self,
        method: Method,
        endpoint: &Endpoint,
        headers: &[(&'static str, &str)],
    ) -> Result<Answer, FetchError> {
        self.send(endpoint, self.ask(method, endpoint, headers)).await
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        answer: impl Future<Output = Result<Answer, Problem>>,
    ) -> Result<Answer, FetchError> {
        let failed = |problem| FetchError { endpoint: endpoint.to_string(), problem };
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(answer) => answer.map_err(failed),
            Err(_elapsed) => Err(failed(Problem::Late(self.deadline))),
        }
    }

    async fn ask(
        &self,
        method: Method,
        endpoint: &Endpoint,
        headers: &[(&'static str, &str)],
    ) -> Result<Answer, Problem> {
        let mut request = self.client.request(method, endpoint.url().clone());
        for (name, value) in headers {
            let mut value =
                HeaderValue::from_str(value).map_err(|_control| Problem::Header(name))?;
            value.set_sensitive(true);
            request = request.header(HeaderName::from_static(name), value);
        }
        answer(request).await
    }
}

/// What `request` is answered, if that is a 200.
async fn answer(request: RequestBuilder) -> Result<Answer, Problem> {
    let answer = request.send().await?;
    if answer.status() != StatusCode::OK {
        return Err(Problem::Status(answer.status()));
    }
    read(answer).await
}

/// What `request` is answered.
async fn any_answer(request: RequestBuilder) -> Result<Answer, Problem> {
    read(request.send().await?).await
}

async fn read(mut answer: Response) -> Result<Answer, Problem> {
    // What the server says about the length is a hint. Room for it keeps a secret in one place.
    let announced = answer.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(0).min(MAX_BODY)));
    while let Some(chunk) = answer.chunk().await? {
        if MAX_BODY.saturating_sub(body.len()) < chunk.len() {
            return Err(Problem::Length);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: answer.status(), headers: std::mem::take(answer.headers_mut()), body })
}

/// An answer that is complete.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// A server did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` did not answer as it should")]
pub struct FetchError {
    /// Who was asked.
    endpoint: String,
    /// What was wrong.
    #[source]
    problem: Problem,
}

impl FetchError {
    /// Whether the server understood, and does not want it: to send the same again is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        const AGAIN: [StatusCode; 2] = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        match &self.problem {
            Problem::Status(status) => status.is_client_error() && !AGAIN.contains(status),
            Problem::Late(_) | Problem::Length | Problem::Header(_) | Problem::Http(_) => false,
        }
    }
}

/// What was wrong with an answer.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("no complete answer within {0:?}")]
    Late(Duration),
    #[error("it answered {0}; only 200 is believed, and redirects are not followed")]
    Status(StatusCode),
    #[error("its answer is longer than {MAX_BODY} bytes")]
    Length,
    #[error("the value of the header `{0}` is not printable ASCII")]
    Header(&'static str),
    #[error(transparent)]
    Http(reqwest::Error),
}

impl From<reqwest::Error> for Problem {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

#[cfg(test)]
mod tests;
