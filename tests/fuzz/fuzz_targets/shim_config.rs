//! Whatever an operator writes is a configuration of a shim or a list of problems, each of which says
//! what to do; and what comes out lets nobody in by mistake.
//!
//! The shim's source is compiled in, so that the TLS stacks need not be built to fuzz it.
#![no_main]

use claviger_shim::{config, route};
use libfuzzer_sys::fuzz_target;

#[path = "../../../shim/src"]
mod claviger_shim {
    #[allow(dead_code, unused_imports, unreachable_pub, reason = "only a part is used here")]
    pub mod config;
    #[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
    pub mod route;
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let config = match config::Config::parse(text) {
        Ok(config) => config,
        Err(problems) => return assert!(!problems.to_string().is_empty()),
    };
    assert!(!config.outbound.is_empty() || !config.inbound.is_empty());
    assert!(0 < config.limits.connections && 0 < config.limits.handshakes_per_address);
    for route::Outbound { name, door, callers, mode, .. } in &config.outbound {
        let anybody = *callers == route::Callers::Anybody;
        let here = door.address().is_none_or(|address| address.ip().is_loopback());
        assert!(here || anybody, "other machines cannot be told apart");
        let warned = config.warnings.iter().any(|warning| warning.key.contains(name));
        assert!(warned || !anybody && *mode != route::Mode::Observe);
        assert_eq!(&door.to_string().parse::<route::Door>().expect("one spelling"), door);
    }
});
