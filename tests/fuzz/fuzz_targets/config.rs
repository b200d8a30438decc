//! Whatever an operator writes is a configuration or a list of problems, each of which says what to
//! do.
//!
//! The server's source is compiled in, so that the rest of it need not be built to fuzz it.
#![no_main]

use claviger_server::config::Config;
use libfuzzer_sys::fuzz_target;

#[path = "../../../server/src"]
mod claviger_server {
    #[allow(dead_code, unused_imports, unreachable_pub, reason = "only a part is used here")]
    pub mod config;
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.limits.entries > 0);
            assert!(config.data_dir.is_absolute());
            assert!(config.warnings.iter().all(|problem| !problem.to_string().is_empty()));
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
