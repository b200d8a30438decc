//! Whatever answers in the place of a kubelet, it is a list of pods or an error.
#![no_main]

use claviger_attestors::k8s::read_pod_list;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| drop(read_pod_list(json)));
