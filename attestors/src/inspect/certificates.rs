//! Chains of X.509 certificates, such as those that come beside other evidence.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{Given, Inspection, Unused};
use crate::checklist::{Broken, Checklist, Rule};

/// The name of the kind.
pub(super) const KIND: &str = "x509";

/// The longest chain.
const MAX: usize = 16;

static SIGNED: Rule = Rule::new("x509.signed", "each certificate is signed by the one after it");
static VALIDITY: Rule = Rule::new("x509.validity", "each certificate is valid at the time");
static AUTHORITY: Rule = Rule::new("x509.authority", "each that signs another may do so");
static ROOT: Rule = Rule::new("x509.root", "the last is a trusted root, or signed by one");

/// Looks at a chain, in PEM or in DER one behind the other; none if `document` is none.
pub(super) fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    let ders = certificates(document)?;
    let chain = parse(&ders)?;
    let roots = parse(&given.roots);
    let mut checks = Checklist::exhaustive();
    // Nothing ends an exhaustive list.
    judge(&chain, roots.as_deref(), given, &mut checks).ok()?;
    let fields = chain.iter().enumerate().flat_map(|(at, one)| fields(at, one)).collect();
    Some(Inspection { kind: KIND, fields, checks })
}

/// The certificates in `document`, as DER.
pub(super) fn certificates(document: &[u8]) -> Option<Vec<Vec<u8>>> {
    let ders: Vec<_> = if document.starts_with(b"-----") {
        let blocks = pem::parse_many(document).ok()?;
        let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        certificates.map(pem::Pem::into_contents).collect()
    } else {
        split(document)?
    };
    (!ders.is_empty() && ders.len() <= MAX).then_some(ders)
}

fn split(mut rest: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut ders = Vec::new();
    while !rest.is_empty() && ders.len() <= MAX {
        let (after, certificate) = X509Certificate::from_der(rest).ok()?;
        ders.push(certificate.as_ref().to_vec());
        rest = after;
    }
    Some(ders)
}

fn parse<'a>(ders: &'a [Vec<u8>]) -> Option<Vec<X509Certificate<'a>>> {
    let one = |der: &'a Vec<u8>| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    };
    ders.iter().map(one).collect()
}

fn judge(
    chain: &[X509Certificate<'_>],
    roots: Option<&[X509Certificate<'_>]>,
    given: &Given,
    checks: &mut Checklist,
) -> Result<(), Broken> {
    let unused = [Unused::Nonce, Unused::Binding, Unused::Collateral, Unused::References];
    given.refuse("a chain of certificates", &unused, checks)?;
    let links = || chain.iter().zip(chain.iter().skip(1));
    let loose = links().position(|(one, next)| !is_signed(one, next));
    checks.require(&SIGNED, loose.is_none(), || {
        format!("number {} is not signed by the one after it", loose.unwrap_or_default())
    })?;
    let lay = links().position(|(_, next)| !next.is_ca());
    checks.require(&AUTHORITY, lay.is_none(), || {
        format!("number {} is for no authority", lay.unwrap_or_default().saturating_add(1))
    })?;
    match given.at {
        Some(now) => {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let ended = chain.iter().position(|one| {
                let validity = one.validity();
                now < validity.not_before.timestamp() || validity.not_after.timestamp() < now
            });
            checks.require(&VALIDITY, ended.is_none(), || {
                format!("number {} has ended, or not begun", ended.unwrap_or_default())
            })?;
        }
        None => checks.leave_open(&VALIDITY, "certificates have no time of their own")?,
    }
    match (roots, chain.last()) {
        (Some([]), _) | (_, None) => checks.leave_open(&ROOT, "give the root that is trusted"),
        (None, Some(_)) => checks.require(&ROOT, false, || "a given root is no certificate"),
        (Some(roots), Some(last)) => {
            let trusted =
                roots.iter().any(|root| root.as_ref() == last.as_ref() || is_signed(last, root));
            checks.require(&ROOT, trusted, || "none of the given roots signed the last")
        }
    }
}

fn is_signed(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

fn fields(at: usize, certificate: &X509Certificate<'_>) -> Vec<(String, String)> {
    let time = |seconds| {
        let time = jiff::Timestamp::from_second(seconds);
        time.map_or_else(|_no_time| seconds.to_string(), |time| time.to_string())
    };
    let validity = certificate.validity();
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let mut fields = vec![
        ("subject", certificate.subject().to_string()),
        ("issuer", certificate.issuer().to_string()),
        ("serial", hex::encode(certificate.raw_serial())),
        ("begins", time(validity.not_before.timestamp())),
        ("ends", time(validity.not_after.timestamp())),
    ];
    fields.extend(names.map(|name| ("name", name.to_string())));
    fields.into_iter().map(|(name, value)| (format!("{at} {name}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checklist::Outcome;
    use claviger_core::time::UnixTime;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    fn authority(name: &str, is_ca: IsCa) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = is_ca;
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(issuer: &CertifiedIssuer<'_, KeyPair>) -> Vec<u8> {
        let params = CertificateParams::new(["web.example.org".to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().to_vec()
    }

    /// The rules that a chain does not keep, and whether for being broken.
    fn not_kept(document: &[u8], given: &Given) -> Vec<(&'static str, bool)> {
        let inspection = inspect(document, given).unwrap();
        let checks = inspection.checks.checks().filter(|(_, outcome)| **outcome != Outcome::Kept);
        checks.map(|(rule, outcome)| (rule.id, matches!(outcome, Outcome::Broken(_)))).collect()
    }

    fn given(root: &CertifiedIssuer<'_, KeyPair>) -> Given {
        let at = Some(UnixTime::from_secs(1_800_000_000));
        Given { at, roots: vec![root.der().to_vec()], ..Given::NOTHING }
    }

    #[test]
    fn a_chain_is_judged_link_by_link() {
        let any = IsCa::Ca(BasicConstraints::Unconstrained);
        let (root, other) = (authority("root", any), authority("root", any));
        let leaf = leaf(&root);
        let chain = [&leaf[..], root.der()].concat();
        assert_eq!(not_kept(&chain, &given(&root)), []);
        assert_eq!(not_kept(&leaf, &given(&root)), []);
        assert_eq!(not_kept(&chain, &given(&other)), [("x509.root", true)]);
        let wrong = [&leaf[..], other.der()].concat();
        assert_eq!(not_kept(&wrong, &given(&other)), [("x509.signed", true)]);
        let late = Given { at: Some(UnixTime::from_secs(1 << 40)), ..given(&root) };
        assert_eq!(not_kept(&chain, &late), [("x509.validity", true)]);
        assert_eq!(
            not_kept(&chain, &Given::NOTHING),
            [("x509.validity", false), ("x509.root", false)]
        );
        let nonce = Given { nonce: Some(vec![1]), ..given(&root) };
        assert_eq!(not_kept(&chain, &nonce), [("given.applies", false)]);
        let lay = authority("lay", IsCa::ExplicitNoCa);
        let chain = [self::leaf(&lay), lay.der().to_vec()].concat();
        assert_eq!(not_kept(&chain, &given(&lay)), [("x509.authority", true)]);
    }

    #[test]
    fn pem_is_read_and_too_long_a_chain_is_not() {
        let root = authority("root", IsCa::Ca(BasicConstraints::Unconstrained));
        assert_eq!(not_kept(root.pem().as_bytes(), &given(&root)), []);
        let fields = inspect(&leaf(&root), &Given::NOTHING).unwrap().fields;
        assert!(fields.iter().any(|(name, value)| name == "0 issuer" && value.contains("root")));
        assert!(fields.iter().any(|(name, value)| name == "0 name" && value.contains("web.")));
        assert!(inspect(root.pem().repeat(MAX).as_bytes(), &Given::NOTHING).is_some());
        assert!(inspect(root.pem().repeat(MAX + 1).as_bytes(), &Given::NOTHING).is_none());
        assert!(
            inspect(b"", &Given::NOTHING).is_none()
                && inspect(b"\x30\x00", &Given::NOTHING).is_none()
        );
    }
}
