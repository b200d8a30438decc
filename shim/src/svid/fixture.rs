//! An agent's words about X.509-SVIDs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::workload::{X509svid, X509svidResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::Svids;
use super::follow::Follower;
use crate::route::Profile;

/// When the tests take place: in the year that certificates of tests are valid in.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

#[derive(Debug)]
struct At(UnixTime);

impl Clock for At {
    fn now(&self) -> UnixTime {
        self.0
    }
}

/// A clock that stands still.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(At(NOW))
}

/// What signs SVIDs.
pub(crate) struct Authority {
    domain: &'static str,
    algorithm: &'static SignatureAlgorithm,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(domain: &'static str) -> Self {
        Self::with(domain, &PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn with(domain: &'static str, algorithm: &'static SignatureAlgorithm) -> Self {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, domain);
        ca.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into().unwrap())];
        ca.not_before = date_time_ymd(2026, 1, 1);
        ca.not_after = date_time_ymd(2028, 1, 1);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(algorithm).unwrap();
        let issuer = CertifiedIssuer::self_signed(ca, key).unwrap();
        Self { domain, algorithm, issuer }
    }

    pub(crate) fn bundle(&self) -> Bytes {
        self.issuer.der().to_vec().into()
    }

    /// What an agent says to whoever is `id`, with the SVID number `serial`.
    pub(crate) fn says(&self, id: &str, serial: u64) -> X509svidResponse {
        let mut svid = CertificateParams::default();
        svid.distinguished_name.push(DnType::OrganizationName, "test");
        svid.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        svid.serial_number = Some(SerialNumber::from(serial));
        svid.not_before = date_time_ymd(2026, 1, 1);
        svid.not_after = date_time_ymd(2028, 1, 1);
        svid.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        svid.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let certificate = svid.signed_by(&key, &self.issuer).unwrap();
        let svid = X509svid {
            spiffe_id: id.to_owned(),
            x509_svid: certificate.der().to_vec().into(),
            x509_svid_key: key.serialize_der().into(),
            bundle: self.bundle(),
            hint: String::new(),
        };
        X509svidResponse { svids: vec![svid], ..X509svidResponse::default() }
    }

    /// The list of what it has revoked: the number `serial`.
    pub(crate) fn revokes(&self, serial: u64) -> Bytes {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().der().to_vec().into()
    }

    /// The same words, with the bundle of another trust domain.
    pub(crate) fn federated(&self, mut says: X509svidResponse) -> X509svidResponse {
        let domain = format!("spiffe://{}", self.domain);
        says.federated_bundles = BTreeMap::from([(domain, self.bundle())]).into_iter().collect();
        says
    }
}

/// An agent that says what a test has it say.
pub(crate) struct Agent {
    pub(super) follower: Follower,
    pub(crate) svids: Svids,
}

impl Agent {
    pub(crate) fn silent(identity: Option<&str>, profile: Profile, clock: Arc<dyn Clock>) -> Self {
        let identity = identity.map(|id| id.parse::<SpiffeId>().unwrap());
        let nowhere = "/nonexistent/agent.sock".into();
        let (follower, svids) = Follower::new(nowhere, identity, profile, clock).unwrap();
        Self { follower, svids }
    }

    pub(crate) fn new(says: X509svidResponse) -> Self {
        Self::within(Profile::default(), says)
    }

    pub(crate) fn within(profile: Profile, says: X509svidResponse) -> Self {
        let agent = Self::silent(None, profile, clock());
        agent.say(says);
        agent
    }

    pub(crate) fn say(&self, says: X509svidResponse) {
        self.follower.take_in(says);
    }

    /// It knows nobody here any more.
    pub(crate) fn withdraw(&self) {
        self.follower.ended(Err(tonic::Status::permission_denied("nobody")));
    }
}

/// A clock that stands later than any SVID is valid.
pub(crate) fn late() -> Arc<dyn Clock> {
    Arc::new(At(NOW.after(Duration::from_secs(2 * 365 * 86_400))))
}
