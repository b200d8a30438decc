//! Whose signature counts: that of a server which an authority vouches for by its name.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_core::time::UnixTime;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::config::Config;
use crate::VerifyError;
use crate::fetch::file;

/// The authorities that Azure uses.
const ROOTS: &[u8] = include_bytes!("roots.pem");

/// The largest file of an operator's: some hundred certificates.
const MAX_FILE: usize = 256 << 10;

/// Tells whether a certificate is that of a metadata service.
#[derive(Debug)]
pub(super) struct Signers {
    roots: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    domains: Vec<String>,
}

impl Signers {
    /// Reads the files that `config` names.
    pub(super) fn open(config: &Config) -> Result<Self, OpenError> {
        let roots = match &config.trust_bundle_path {
            Some(path) => read(path)?,
            None => certificates(ROOTS, || OpenError::BuiltIn)?,
        };
        let anchors = roots.iter().map(|root| anchor_from_trusted_cert(root).map(|a| a.to_owned()));
        let roots = anchors.collect::<Result<_, _>>().map_err(|source| {
            let path = config.trust_bundle_path.clone().unwrap_or_default();
            OpenError::Root { path, source }
        })?;
        let intermediates = config.intermediates_path.as_deref().map(read).transpose()?;
        let domains = config.allowed_metadata_domains.clone();
        Ok(Self { roots, intermediates: intermediates.unwrap_or_default(), domains })
    }

    /// Refuses a `certificate` that is not a metadata service's, or that no path leads to from an
    /// authority, through the operator's intermediates and those that came `along` with it.
    pub(super) fn check(
        &self,
        certificate: &[u8],
        along: &[&[u8]],
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        let der = CertificateDer::from(certificate);
        let server = EndEntityCert::try_from(&der).map_err(|_detail| VerifyError::Malformed)?;
        if !server.valid_dns_names().any(|name| self.is_metadata_service(name)) {
            return Err(VerifyError::not_genuine(
                "its signer's certificate has no name below `allowed-metadata-domains`",
            ));
        }
        let along = along.iter().map(|der| CertificateDer::from(*der));
        let intermediates: Vec<_> = self.intermediates.iter().cloned().chain(along).collect();
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let path = server.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.roots,
            &intermediates,
            now,
            KeyUsage::server_auth(),
            None,
            None,
        );
        path.map(drop).map_err(|error| untrusted(certificate, &error))
    }

    fn is_metadata_service(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.domains.iter().any(|domain| {
            let label = name.strip_suffix(domain.as_str());
            label.is_some_and(|label| label.is_empty() || label.ends_with('.'))
        })
    }
}

/// What the operator needs to know: mostly, which certificate is missing.
fn untrusted(certificate: &[u8], error: &webpki::Error) -> VerifyError {
    if !matches!(error, webpki::Error::UnknownIssuer) {
        return VerifyError::not_genuine(format!("its signer's certificate is not good: {error}"));
    }
    let issuer = X509Certificate::from_der(certificate)
        .map_or(Cow::Borrowed("an unreadable name"), |(_, leaf)| leaf.issuer().to_string().into());
    // A stranger wrote this name, and it goes to a log.
    let issuer: String = issuer.chars().filter(|c| !c.is_control()).take(200).collect();
    VerifyError::not_genuine(format!(
        "no path leads from a root to its signer's certificate, which `{issuer}` issued; if that is \
         Microsoft's, add its certificate to `intermediates-path`"
    ))
}

/// The certificates in a file; at least one.
fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let bytes = file::read(path, MAX_FILE)
        .map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
    certificates(&bytes, || OpenError::Certificates { path: path.to_owned() })
}

fn certificates(
    pem: &[u8],
    damaged: impl Fn() -> OpenError,
) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_detail| damaged())?;
    let is_certificate = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
    };
    if certificates.is_empty() || !certificates.iter().all(is_certificate) {
        return Err(damaged());
    }
    Ok(certificates)
}

/// Why it is not known whose signature counts.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This program was built wrong.
    #[error("the authorities that this program was built with are damaged")]
    BuiltIn,
    /// A file can't be read.
    #[error("cannot read the certificates in `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{path}` does not hold certificates in PEM", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
    /// A certificate can't be an authority's.
    #[error("a certificate in `{path}` cannot be used as a root", path = path.display())]
    Root {
        /// The file; empty for those that this program was built with.
        path: PathBuf,
        /// Why.
        source: webpki::Error,
    },
}
