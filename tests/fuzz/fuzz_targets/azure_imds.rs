//! What an Azure machine answers never makes the reader panic, be it signed or not.
#![no_main]

use claviger_attestors::azure_imds::{Answer, Attested};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = Answer::parse(bytes).and_then(|answer| answer.signed()) {
        assert!(signed.len() < bytes.len());
    }
    if let (Ok(one), Ok(again)) = (Attested::parse(bytes), Attested::parse(bytes)) {
        assert_eq!((one.machine(), one.subscription()), (again.machine(), again.subscription()));
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        assert!(text.contains(&one.machine().to_string()) || text.contains("\\u"));
    }
});
