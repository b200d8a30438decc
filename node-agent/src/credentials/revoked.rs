//! Which X.509-SVIDs the server has revoked.

use std::collections::BTreeSet;

use bytes::Bytes;
use claviger_core::der;
use tracing::error;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::WorkloadSvid;

/// The most lists, and the largest, in bytes. There is one for each authority that has revoked
/// something, and ten thousand lines are less than half of that.
const MAX_LISTS: usize = 256;
const MAX_LIST: usize = 1 << 20;

/// The server's lists. They are from our own server, over a connection that it proved to be its end
/// of; whoever is given one checks its signature.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    lists: Vec<Bytes>,
    /// Each by the name of its authority and its number, as they stand in the certificate.
    svids: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

impl Revoked {
    /// What `lists` say. One that is none is left out.
    pub(super) fn new(lists: Vec<Bytes>) -> Self {
        let mut revoked = Self::default();
        for list in lists.into_iter().take(MAX_LISTS) {
            match CertificateRevocationList::from_der(&list) {
                Ok(([], parsed)) if list.len() <= MAX_LIST => {
                    let issuer = parsed.issuer().as_raw();
                    let serials = parsed.iter_revoked_certificates();
                    let svids = serials.map(|one| (issuer.to_vec(), one.raw_serial().to_vec()));
                    revoked.svids.extend(svids);
                    revoked.lists.push(list);
                }
                Ok(_) | Err(_) => error!("the server sent a revocation list that is none"),
            }
        }
        revoked
    }

    /// The lists, as the Workload API has them.
    pub(super) fn lists(&self) -> &[Bytes] {
        &self.lists
    }

    /// Whether `svid` is on one.
    pub(super) fn has(&self, svid: &WorkloadSvid) -> bool {
        if self.svids.is_empty() {
            return false;
        }
        let chain = der::split(&svid.chain).unwrap_or_default();
        let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        leaf.is_some_and(|(_, leaf)| {
            self.svids.contains(&(leaf.issuer().as_raw().to_vec(), leaf.raw_serial().to_vec()))
        })
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::svid::Validity;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;
    use crate::world::NOW;

    fn authority(name: &str) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Issuer::new(params, KeyPair::generate().unwrap())
    }

    fn svid(authority: &Issuer<'_, KeyPair>, serial: u64) -> WorkloadSvid {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap();
        let validity = Validity { not_before: NOW, not_after: NOW };
        WorkloadSvid { chain: leaf.der().to_vec().into(), key: Bytes::new(), validity }
    }

    fn list(authority: &Issuer<'_, KeyPair>, serial: u64) -> Bytes {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(authority).unwrap().der().to_vec().into()
    }

    #[test]
    fn a_number_counts_for_the_authority_that_gave_it() {
        let (ours, other) = (authority("ours"), authority("other"));
        let revoked = Revoked::new(vec![list(&ours, 200)]);
        assert!(revoked.has(&svid(&ours, 200)));
        assert!(!revoked.has(&svid(&ours, 7)));
        assert!(!revoked.has(&svid(&other, 200)));
        assert!(!Revoked::default().has(&svid(&ours, 200)));
    }

    #[test]
    fn what_is_no_list_is_left_out() {
        let good = list(&authority("ours"), 1);
        let mut longer = good.to_vec();
        longer.push(0);
        let revoked =
            Revoked::new(vec![Bytes::from_static(b"\x30\x00"), longer.into(), good.clone()]);
        assert_eq!(revoked.lists(), [good]);
    }
}
