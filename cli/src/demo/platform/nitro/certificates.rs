//! A chain of certificates as AWS has it: root, region, zone, instance, and the signer's own.

use std::time::Duration;

use claviger_core::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

/// Certificates, as DER, and the key of the last.
pub(super) struct Chain {
    /// The root first.
    pub(super) authorities: Vec<Vec<u8>>,
    pub(super) signer: Vec<u8>,
    pub(super) key: KeyPair,
}

/// As long as AWS' last certificate is valid.
const LIFETIME: Duration = Duration::from_secs(3 * 60 * 60);

impl Chain {
    /// A new one, valid from `now` on, for the module with this name.
    pub(super) fn new(now: UnixTime, module: &str) -> Result<Self, rcgen::Error> {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);
        let (root, root_key) =
            (authority("demo root", BasicConstraints::Unconstrained, now), key()?);
        let mut authorities = vec![root.self_signed(&root_key)?.der().to_vec()];
        let mut issuer = Issuer::new(root, root_key);
        for (name, below) in [("demo region", 2), ("demo zone", 1), ("demo instance", 0)] {
            let (params, own) =
                (authority(name, BasicConstraints::Constrained(below), now), key()?);
            authorities.push(params.signed_by(&own, &issuer)?.der().to_vec());
            issuer = Issuer::new(params, own);
        }
        let mut params = named(module, now);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = key()?;
        let signer = params.signed_by(&key, &issuer)?.der().to_vec();
        Ok(Self { authorities, signer, key })
    }
}

fn authority(name: &str, constraints: BasicConstraints, now: UnixTime) -> CertificateParams {
    let mut params = named(name, now);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str, now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let begin = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs());
    (params.not_before, params.not_after) = (begin, begin + LIFETIME);
    params
}
