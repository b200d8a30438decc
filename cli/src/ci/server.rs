//! The server that is asked, and how it is known to be the right one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::SystemClock;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{TrustBundle, own_web_client_config};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::problem::Problem;
use crate::failure::Failure;
use crate::files;

/// The largest bundle that is read, in bytes.
const MAX_BUNDLE: u64 = 1 << 20;

/// The most bytes of an answer: a chain and a bundle.
const MAX_ANSWER: usize = 1 << 20;

/// How long one request may take: the server has ten seconds for it.
const DEADLINE: Duration = Duration::from_secs(12);

/// Which server, and who vouches for it.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Where the server answers programs without an agent, `https://HOST[:PORT]`
    #[arg(long, env = "CLAVIGER_SERVER", value_name = "URL", value_parser = base_url)]
    server: Url,

    /// The trust domain's bundle, in PEM, for a server that shows its own SVID; `claviger bundle show
    /// --format pem` prints it. Without it, the server's certificate has to be one of the Web's
    #[arg(long, env = "CLAVIGER_BUNDLE", value_name = "FILE")]
    bundle: Option<PathBuf>,

    /// The server's trust domain; the bundle's own if not given
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
}

/// A server to ask.
#[derive(Debug)]
pub(crate) struct Server {
    url: Url,
    client: Client,
    trust_domain: Option<TrustDomain>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server said so.
    Said(Problem),
    /// It could not be asked, or what it said is no answer.
    Lost(String),
}

impl ServerArgs {
    /// Gets ready to ask the server.
    pub(crate) fn open(&self) -> Result<Server, Failure> {
        let (tls, trust_domain) = match &self.bundle {
            Some(path) => {
                let (tls, trust_domain) = self.by_bundle(path)?;
                (tls, Some(trust_domain))
            }
            None => (of_the_web()?, self.trust_domain.clone()),
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .https_only(true)
            .timeout(DEADLINE)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::because(&error))?;
        Ok(Server { url: self.server.clone(), client, trust_domain })
    }

    fn by_bundle(&self, path: &Path) -> Result<(ClientConfig, TrustDomain), Failure> {
        let pem = files::read(path, MAX_BUNDLE)?;
        let usage = |problem: String| Failure::usage(problem).within(path.display());
        let ders: Vec<_> = Pem::iter_from_buffer(&pem)
            .map(|pem| pem.map(|pem| CertificateDer::from(pem.contents)))
            .collect::<Result<_, _>>()
            .map_err(|error| usage(format!("is not PEM: {error}")))?;
        let trust_domain = match &self.trust_domain {
            Some(named) => named.clone(),
            None => trust_domain(&ders).ok_or_else(|| {
                usage("its certificates do not name one trust domain".to_owned())
                    .try_this("name it with `--trust-domain`")
            })?,
        };
        let bundle = TrustBundle::new(trust_domain.clone(), &ders)
            .map_err(|error| usage(Chain(&error).to_string()))?;
        let server =
            trust_domain.join("/spire/server").map_err(|error| Failure::because(&error))?;
        let tls = own_web_client_config(&bundle, server, Arc::new(SystemClock));
        Ok((ClientConfig::clone(&tls), trust_domain))
    }
}

impl Server {
    /// The server's trust domain, if it is known.
    pub(crate) fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }

    /// Presents `token`, and asks for what `body` says: the answer, which may hold a secret.
    pub(crate) async fn post(
        &self,
        path: &str,
        token: &str,
        body: &str,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let mut url = self.url.clone();
        url.set_path(path);
        let token = Zeroizing::new(format!("Bearer {token}"));
        let mut authorization = HeaderValue::from_str(&token)
            .map_err(|_control| CallError::Lost("the token is not printable".to_owned()))?;
        authorization.set_sensitive(true);
        let request = self
            .client
            .post(url)
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned());
        let lost = |error: reqwest::Error| CallError::Lost(Chain(&error.without_url()).to_string());
        let mut answer = request.send().await.map_err(lost)?;
        let body = read(&mut answer).await?;
        if answer.status() == StatusCode::OK {
            return Ok(body);
        }
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
        Err(CallError::Said(Problem::read(answer.status(), &body, after)))
    }
}

async fn read(answer: &mut Response) -> Result<Zeroizing<Vec<u8>>, CallError> {
    // What the server says about the length is a hint. Room for it keeps a secret in one place.
    let announced = answer.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(0).min(MAX_ANSWER)));
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if chunk.len() <= MAX_ANSWER.saturating_sub(body.len()) => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_more)) => return Err(CallError::Lost("its answer has no end".to_owned())),
            Ok(None) => return Ok(body),
            Err(error) => {
                return Err(CallError::Lost(Chain(&error.without_url()).to_string()));
            }
        }
    }
}

/// For servers that an authority of this machine's vouches for.
fn of_the_web() -> Result<ClientConfig, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(Failure::failed("this machine knows no authorities of the Web").try_this(
            "install the package `ca-certificates`, or name the bundle with `--bundle`",
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::because(&error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The trust domain that all authorities name, if they name one (X509-SVID §3.1).
fn trust_domain(authorities: &[CertificateDer<'_>]) -> Option<TrustDomain> {
    let mut names = authorities.iter().map(|der| {
        let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let uri = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::DNSName(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => None,
        })?;
        Some(uri.parse::<SpiffeId>().ok()?.trust_domain().clone())
    });
    let first = names.next()??;
    names.all(|name| name.as_ref() == Some(&first)).then_some(first)
}

fn base_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}; write `https://HOST[:PORT]`"))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none();
    if url.scheme() == "https" && url.has_host() && bare && nobody {
        Ok(url)
    } else {
        Err("write `https://HOST[:PORT]`, and nothing behind it".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn authority(id: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_bundle_names_its_trust_domain() {
        let (ours, other) = (authority("spiffe://a.org"), authority("spiffe://b.org"));
        let named = |ders: &[_]| trust_domain(ders).map(|name| name.to_string());
        assert_eq!(named(&[ours.clone(), ours.clone()]).as_deref(), Some("a.org"));
        assert_eq!(named(&[ours.clone(), other]), None);
        assert_eq!(named(&[]), None);
        let web = CertificateParams::default();
        let web = web.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        assert_eq!(named(&[ours, web]), None);
    }

    #[test]
    fn a_server_is_named_by_a_bare_url() {
        assert_eq!(base_url("https://a.org:8443").unwrap().port(), Some(8443));
        for bad in
            ["http://a.org", "a.org", "https://a.org/x", "https://u@a.org", "https://a.org?x"]
        {
            assert!(base_url(bad).unwrap_err().contains("https://HOST"), "{bad}");
        }
    }
}
