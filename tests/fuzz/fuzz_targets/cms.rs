//! A signed document from a stranger never makes the reader panic, and nothing comes out of it but what
//! was signed: what the seeds hold, whose signer's key is gone.
#![no_main]

use claviger_attestors::cms::SignedData;
use claviger_core::time::UnixTime;
use libfuzzer_sys::fuzz_target;

const CERTIFICATE: &[u8] = include_bytes!("../seeds/cms/certificate");
const CONTENT: &[u8] = br#"{"accountId":"1"}"#;

/// In 2027, when the certificate is valid.
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fuzz_target!(|document: &[u8]| {
    let Ok(signed) = SignedData::parse(document) else { return };
    assert!(document.len() <= SignedData::MAX);
    assert!(signed.certificates().len() <= SignedData::MAX_CERTIFICATES);
    if let Ok(certificate) = signed.signing_certificate() {
        assert!(signed.certificates().contains(&certificate));
    }
    if let Ok(content) = signed.verify(CERTIFICATE, NOW) {
        assert_eq!(content, CONTENT);
    }
});
