//! The table of certificates that a host hands to its guest never makes the reader panic, and what is
//! found in it lies in it.
#![no_main]

use claviger_attestors::sev_snp::CertificateTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = CertificateTable::parse(bytes) {
        let found = [table.vcek(), table.vlek()];
        for certificate in found.into_iter().flatten() {
            assert!(bytes.as_ptr_range().contains(&certificate.as_ptr()));
            assert!(!certificate.is_empty() && certificate.len() < bytes.len());
        }
    }
});
