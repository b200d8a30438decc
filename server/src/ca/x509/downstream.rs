//! The authority of a server that signs below this one (X509-SVID §3.2, §4).

use claviger_core::evidence::KeyDigest;
use claviger_core::grant::IssueX509Ca;
use claviger_core::id::TrustDomain;
use claviger_core::svid::Validity;
use claviger_core::time::UnixTime;
use rcgen::{BasicConstraints, DnType, IsCa, KeyUsagePurpose, SanType};

use super::{Issuer, SERIAL_NUMBER, SubjectKey, fresh_serial, names, params, printable};
use crate::ca::{SignError, SignedSvid};

impl Issuer {
    /// Signs the authority that `act` describes. It may have authorities below it, as with SPIRE,
    /// and ends no later than this one.
    pub(in crate::ca) fn sign_ca(
        &self,
        act: &IssueX509Ca,
        trust_domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<SignedSvid, SignError> {
        if !self.validity.contains(now) {
            return Err(SignError::AuthorityExpired(self.validity.not_after));
        }
        let key = SubjectKey::parse(&act.public_key)?;
        let validity = Validity::of_svid(now, act.ttl, self.validity.not_after);
        let serial = *fresh_serial()?.as_bytes();

        let mut params = params(validity, &serial)?;
        params.subject_alt_names = vec![SanType::URI(trust_domain.id().to_string().try_into()?)];
        let mut subject = names(&self.names)?;
        // Authorities differ by name: some verifiers look them up by it.
        let mut number = KeyDigest::of_spki(&act.public_key).to_string();
        number.truncate(32);
        subject.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), printable(&number)?);
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(SignedSvid { chain: vec![certificate.into()], validity, serial })
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::svid::SvidTtl;
    use claviger_runtime::tls::{TrustBundle, verify_svid};
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData as _};
    use rustls_pki_types::CertificateDer;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer as _;

    use super::*;
    use crate::ca::keys::AuthorityKey;
    use crate::ca::x509::self_signed;
    use crate::config::CaConfig;
    use claviger_core::svid::Profile;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn root() -> (Issuer, CertificateDer<'static>) {
        let validity = Validity::of_authority(NOW, DAY);
        let (key, _pkcs8) = AuthorityKey::generate(Profile::X509).unwrap();
        let certificate = self_signed(&key, &domain(), validity, &CaConfig::default()).unwrap();
        (Issuer::new(key, &certificate, validity, CaConfig::default()).unwrap(), certificate)
    }

    fn act(key: &KeyPair, secs: u32) -> IssueX509Ca {
        IssueX509Ca {
            server: "spiffe://example.org/nested".parse().unwrap(),
            public_key: key.subject_public_key_info(),
            ttl: SvidTtl::try_from(secs).unwrap(),
            entry: "nested".parse().unwrap(),
        }
    }

    #[test]
    fn an_intermediate_is_what_the_standard_asks_for() {
        let (issuer, root) = root();
        let key = KeyPair::generate().unwrap();
        let signed = issuer.sign_ca(&act(&key, 3_600), &domain(), NOW).unwrap();
        let [der] = signed.chain.as_slice() else { panic!("one certificate") };
        let (_, ca) = X509Certificate::from_der(der).unwrap();
        let (_, above) = X509Certificate::from_der(&root).unwrap();
        ca.verify_signature(Some(above.public_key())).unwrap();
        assert_eq!(ca.issuer().as_raw(), above.subject().as_raw());
        assert_ne!(ca.subject().as_raw(), above.subject().as_raw());
        let san = ca.subject_alternative_name().unwrap().unwrap();
        let names: Vec<_> = san.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["URI(spiffe://example.org)"]);
        let usage = ca.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 0b110_0000, "keyCertSign and cRLSign, nothing else");
        let basic = ca.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, None);
        assert!(ca.extended_key_usage().unwrap().is_none());
        assert_eq!(signed.validity.not_after, NOW.after(DAY / 24));
    }

    #[test]
    fn it_ends_with_its_authority() {
        let (issuer, _) = root();
        let key = KeyPair::generate().unwrap();
        let signed = issuer.sign_ca(&act(&key, 2_592_000), &domain(), NOW).unwrap();
        assert_eq!(signed.validity.not_after, NOW.after(DAY));
        let late = issuer.sign_ca(&act(&key, 60), &domain(), NOW.after(DAY * 2)).unwrap_err();
        assert!(matches!(late, SignError::AuthorityExpired(_)), "{late}");
    }

    #[test]
    fn what_it_signs_is_believed_within_the_trust_domain() {
        let (issuer, root) = root();
        let key = KeyPair::generate().unwrap();
        let nested = issuer.sign_ca(&act(&key, 3_600), &domain(), NOW).unwrap().chain.remove(0);
        let below = rcgen::Issuer::from_ca_cert_der(&nested, key).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI("spiffe://example.org/web".try_into().unwrap())];
        leaf.not_before = super::super::date(NOW).unwrap();
        leaf.not_after = super::super::date(NOW.after(DAY / 24)).unwrap();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &below).unwrap();
        let trust = TrustBundle::new(domain(), &[root]).unwrap();
        let chain = [leaf.der().clone(), nested];
        assert_eq!(verify_svid(&chain, &trust, NOW).unwrap().path(), "/web");
        verify_svid(&chain[..1], &trust, NOW).unwrap_err();
    }
}
