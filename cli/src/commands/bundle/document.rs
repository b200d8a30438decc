//! Bundles as files: PEM, or the JWK Set that SPIFFE defines.

use bytes::Bytes;
use clap::ValueEnum;
use claviger_core::bundle::{Bundle, X509Authority, json};
use claviger_core::id::TrustDomain;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::failure::Failure;
use crate::pem;

/// How a bundle is written
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum BundleFormat {
    /// Certificates, one after the other
    Pem,
    /// A JWK Set (SPIFFE Trust Domain and Bundle)
    Spiffe,
}

/// The bundle of `trust_domain` in `document`.
pub(super) fn read(
    trust_domain: &TrustDomain,
    format: BundleFormat,
    document: &[u8],
) -> Result<Bundle, Failure> {
    match format {
        BundleFormat::Pem => read_pem(trust_domain, document),
        BundleFormat::Spiffe => read_spiffe(trust_domain, document),
    }
}

fn read_pem(trust_domain: &TrustDomain, document: &[u8]) -> Result<Bundle, Failure> {
    let mut x509_authorities = Vec::new();
    for (at, block) in ::pem::parse_many(document)
        .map_err(|error| Failure::usage(format_args!("it is not PEM: {error}")))?
        .into_iter()
        .enumerate()
    {
        let number = at.saturating_add(1);
        if block.tag() != "CERTIFICATE" {
            let what = block.tag();
            return Err(Failure::usage(format_args!("block {number} is a {what}"))
                .try_this("a bundle in PEM holds nothing but CERTIFICATE blocks"));
        }
        let der = block.into_contents();
        match X509Certificate::from_der(&der) {
            Ok(([], _)) => {}
            Ok(_) | Err(_) => {
                return Err(Failure::usage(format_args!(
                    "block {number} is not an X.509 certificate"
                )));
            }
        }
        x509_authorities.push(X509Authority { der: Bytes::from(der), tainted: false });
    }
    if x509_authorities.is_empty() {
        return Err(Failure::usage("it holds no certificate")
            .try_this("--format spiffe if it is a JWK Set"));
    }
    Ok(Bundle { x509_authorities, ..Bundle::empty(trust_domain.clone()) })
}

fn read_spiffe(trust_domain: &TrustDomain, document: &[u8]) -> Result<Bundle, Failure> {
    let bundle = json::read(trust_domain.clone(), document).map_err(|error| {
        let failure = Failure::usage(claviger_runtime::telemetry::Chain(&error));
        if document.starts_with(b"-----BEGIN") {
            failure.try_this("--format pem, as it seems to be PEM")
        } else {
            failure
        }
    })?;
    if is_empty(&bundle) && !says_empty(document) {
        return Err(Failure::usage(
            "none of its keys says that it is one of a SPIFFE trust domain",
        )
        .try_this("each key needs a \"use\" of x509-svid, jwt-svid or wit-svid"));
    }
    Ok(bundle)
}

fn is_empty(bundle: &Bundle) -> bool {
    bundle.x509_authorities.is_empty()
        && bundle.jwt_authorities.is_empty()
        && bundle.wit_authorities.is_empty()
}

/// A bundle without any key revokes every SVID of its trust domain (SPIFFE Trust Domain and Bundle
/// §4.1.3): to be believed if it is meant, and not if it merely comes of keys for something else.
fn says_empty(document: &[u8]) -> bool {
    let document: Option<serde_json::Value> = serde_json::from_slice(document).ok();
    let keys = document.as_ref().and_then(|document| document.get("keys"));
    keys.and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty)
}

/// One bundle.
pub(super) fn write(bundle: &Bundle, format: BundleFormat) -> Result<String, Failure> {
    match format {
        BundleFormat::Pem => Ok(as_pem(bundle).trim_end().to_owned()),
        BundleFormat::Spiffe => as_jwks(bundle),
    }
}

/// Several bundles: PEM under each one's name, or the map of SPIFFE Trust Domain and Bundle §5.1.1.
pub(super) fn write_all(bundles: &[Bundle], format: BundleFormat) -> Result<String, Failure> {
    match format {
        BundleFormat::Pem => {
            // Readers of PEM skip what is outside of blocks (RFC 7468 §2).
            let named =
                bundles.iter().map(|one| format!("# {}\n{}", one.trust_domain, as_pem(one)));
            Ok(named.collect::<String>().trim_end().to_owned())
        }
        BundleFormat::Spiffe => {
            let member =
                |bundle: &Bundle| Ok(format!("\"{}\":{}", bundle.trust_domain, as_jwks(bundle)?));
            let members = bundles.iter().map(member).collect::<Result<Vec<_>, Failure>>()?;
            Ok(format!("{{\"trust_domains\":{{{}}}}}", members.join(",")))
        }
    }
}

fn as_pem(bundle: &Bundle) -> String {
    bundle.x509_authorities.iter().map(|authority| pem::certificate(&authority.der)).collect()
}

fn as_jwks(bundle: &Bundle) -> Result<String, Failure> {
    json::write(bundle).map_err(|error| {
        Failure::failed(format_args!(
            "cannot write the bundle of `{}` as a JWK Set: {error}",
            bundle.trust_domain
        ))
        .try_this("--format pem")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let der = include_str!("testdata/p256.txt").lines().next().unwrap();
        pem::certificate(&hex::decode(der).unwrap())
    }

    fn domain() -> TrustDomain {
        "other.org".parse().unwrap()
    }

    #[track_caller]
    fn refused(format: BundleFormat, document: &str, why: &str) {
        let told = read(&domain(), format, document.as_bytes()).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bundle = read(&domain(), BundleFormat::Pem, certificate().as_bytes()).unwrap();
        assert_eq!((bundle.x509_authorities.len(), bundle.jwt_authorities.len()), (1, 0));
        for format in [BundleFormat::Pem, BundleFormat::Spiffe] {
            let written = write(&bundle, format).unwrap();
            assert_eq!(read(&domain(), format, written.as_bytes()).unwrap(), bundle);
        }
        assert_eq!(write(&bundle, BundleFormat::Pem).unwrap(), certificate().trim_end());
    }

    #[test]
    fn several_are_told_apart() {
        let one = read(&domain(), BundleFormat::Pem, certificate().as_bytes()).unwrap();
        let two = Bundle { trust_domain: "third.org".parse().unwrap(), ..one.clone() };
        let pem = write_all(&[one.clone(), two.clone()], BundleFormat::Pem).unwrap();
        assert!(pem.starts_with("# other.org\n-----BEGIN"), "{pem}");
        assert_eq!(::pem::parse_many(&pem).unwrap().len(), 2);
        let spiffe = write_all(&[one, two], BundleFormat::Spiffe).unwrap();
        let map: serde_json::Value = serde_json::from_str(&spiffe).unwrap();
        let names: Vec<_> = map["trust_domains"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["other.org", "third.org"]);
        assert_eq!(map["trust_domains"]["third.org"]["keys"][0]["use"], "x509-svid");
        assert_eq!(write_all(&[], BundleFormat::Spiffe).unwrap(), r#"{"trust_domains":{}}"#);
    }

    #[test]
    fn the_wrong_block_is_named() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        refused(BundleFormat::Pem, &(certificate() + key), "block 2 is a PRIVATE KEY");
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        refused(BundleFormat::Pem, junk, "block 1 is not an X.509 certificate");
        refused(BundleFormat::Pem, "{\"keys\":[]}", "--format spiffe");
    }

    #[test]
    fn the_wrong_key_is_named() {
        let keys = |keys: &str| format!(r#"{{"keys":[{keys}]}}"#);
        let bad = r#"{"kty":"EC","use":"x509-svid","x5c":["!"]}"#;
        refused(BundleFormat::Spiffe, &keys(bad), "keys[0] is not usable: x5c is not base64");
        let foreign = r#"{"kty":"EC","use":"sig","kid":"a","crv":"P-256","x":"","y":""}"#;
        refused(BundleFormat::Spiffe, &keys(foreign), "none of its keys");
        refused(BundleFormat::Spiffe, &certificate(), "--format pem");
        let empty = read(&domain(), BundleFormat::Spiffe, keys("").as_bytes()).unwrap();
        assert_eq!(empty, Bundle::empty(domain()), "all revoked, and meant so");
    }
}
