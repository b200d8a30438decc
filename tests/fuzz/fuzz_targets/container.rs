//! Whatever answers in the place of an engine, it tells of the container that was asked about, which
//! runs, or of none.
#![no_main]

use claviger_attestors::cgroup::ContainerId;
use claviger_attestors::docker::read_container;
use libfuzzer_sys::fuzz_target;

const ID: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";

fuzz_target!(|json: &[u8]| {
    let id = ContainerId::parse(ID).expect("an id");
    if let Some(container) = read_container(json, &id) {
        // The engine said so of this container: its id stands there, if with escapes.
        assert!(format!("{container:?}").contains("variables"));
        // What is passed over need not be what another reader takes for JSON: half a code point, say.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(json) else { return };
        assert_eq!(value["Id"], ID);
        assert_eq!(value["State"]["Running"], true);
    }
});
