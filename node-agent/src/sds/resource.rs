//! A resource, and its form on the wire.

use std::sync::Arc;

use bytes::Bytes;
use claviger_core::der;
use claviger_core::id::TrustDomain;
use claviger_proto::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source};
use claviger_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Message;
use prost_types::Any;
use rustls_pki_types::CertificateDer;
use tonic::Status;

use super::validator::Validator;
use crate::credentials::{ServedBundle, WorkloadSvid};
use crate::pem;

/// What every resource here is.
pub(super) const TYPE_URL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

const SPIFFE_VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const SPIFFE_VALIDATOR_URL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// One resource, under the name by which it was asked for. It shares what it holds with all others;
/// the form on the wire is made when it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An X.509-SVID with its key.
    Svid(Arc<WorkloadSvid>),
    /// How to verify peers.
    Bundles(Validator, Vec<Authorities>),
}

/// The X.509 authorities of a trust domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Authorities {
    trust_domain: TrustDomain,
    certificates: Vec<Bytes>,
}

impl Eq for Content {}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // No two keys have the same certificate.
            (Self::Svid(a), Self::Svid(b)) => a.chain == b.chain,
            (Self::Bundles(v, a), Self::Bundles(w, b)) => (v, a) == (w, b),
            (Self::Svid(_), Self::Bundles(..)) | (Self::Bundles(..), Self::Svid(_)) => false,
        }
    }
}

impl From<&ServedBundle> for Authorities {
    fn from(served: &ServedBundle) -> Self {
        let authorities = served.bundle.x509_authorities.iter();
        Self {
            trust_domain: served.bundle.trust_domain.clone(),
            certificates: authorities.map(|authority| authority.der.clone()).collect(),
        }
    }
}

impl Authorities {
    /// Whether there are none. Then nobody from there is to be trusted, which an Envoy does by not
    /// knowing of the trust domain at all.
    pub(super) fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    fn pem(&self) -> DataSource {
        inline(pem::write(None, &borrowed(&self.certificates)))
    }
}

impl Resource {
    /// The resource as a response holds it.
    pub(super) fn to_any(&self) -> Result<Any, Status> {
        let content = match &self.content {
            Content::Svid(svid) => tls::secret::Type::TlsCertificate(certificate(svid)?),
            Content::Bundles(validator, bundles) => {
                tls::secret::Type::ValidationContext(context(*validator, bundles))
            }
        };
        let secret = tls::Secret { name: self.name.clone(), r#type: Some(content) };
        Ok(Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec() })
    }
}

fn certificate(svid: &WorkloadSvid) -> Result<tls::TlsCertificate, Status> {
    let chain = der::split(&svid.chain)
        .map_err(|error| Status::internal(format!("the SVID's certificate chain {error}")))?;
    Ok(tls::TlsCertificate {
        certificate_chain: Some(inline(pem::write(None, &borrowed(&chain)))),
        private_key: Some(inline(pem::write(Some(&svid.key), &[]))),
    })
}

fn context(validator: Validator, bundles: &[Authorities]) -> tls::CertificateValidationContext {
    match validator {
        Validator::Plain => tls::CertificateValidationContext {
            trusted_ca: bundles.first().map(Authorities::pem),
            custom_validator_config: None,
        },
        Validator::Spiffe => {
            let domain = |bundle: &Authorities| tls::spiffe_cert_validator_config::TrustDomain {
                name: bundle.trust_domain.as_str().to_owned(),
                trust_bundle: Some(bundle.pem()),
            };
            let trust_domains = bundles.iter().map(domain).collect();
            let config = tls::SpiffeCertValidatorConfig { trust_domains };
            let value = config.encode_to_vec();
            let config = Any { type_url: SPIFFE_VALIDATOR_URL.to_owned(), value };
            tls::CertificateValidationContext {
                trusted_ca: None,
                custom_validator_config: Some(TypedExtensionConfig {
                    name: SPIFFE_VALIDATOR.to_owned(),
                    typed_config: Some(config),
                }),
            }
        }
    }
}

fn borrowed(certificates: &[Bytes]) -> Vec<CertificateDer<'_>> {
    certificates.iter().map(|der| CertificateDer::from(der.as_ref())).collect()
}

/// The text itself, wiped when it has been sent.
fn inline(text: zeroize::Zeroizing<Vec<u8>>) -> DataSource {
    let bytes = Bytes::from_owner(text);
    DataSource { specifier: Some(data_source::Specifier::InlineBytes(bytes)) }
}
