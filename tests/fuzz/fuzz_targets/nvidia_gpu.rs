//! What a GPU's node sends, and what an OCSP responder is said to say, never makes the readers panic.
#![no_main]

use claviger_attestors::nvidia_gpu::{Evidence, MAX_DEVICES, OcspResponse, Report, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = Report::parse(bytes) {
        let values = report.measurements().values();
        assert!(values.map(|measurement| measurement.value.len()).sum::<usize>() < bytes.len());
    }
    if let Ok(devices) = Evidence::parse(bytes, MAX_DEVICES) {
        assert!((1..=MAX_DEVICES).contains(&devices.len()));
    }
    let _response = OcspResponse::parse(bytes);
    let given = claviger_attestors::inspect::Given::NOTHING;
    if let Some(shown) = inspect(bytes, &given) {
        assert!(shown.checks.kept().is_err(), "nobody signed that");
    }
});
