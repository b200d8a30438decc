//! Whatever comes to the key door is a request that is whole, or is refused, and nobody reads it in two ways.
//!
//! The input is a request line's target, a line break, and a body. The server's source is compiled in, so
//! that the rest of it need not be built to fuzz it.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;

#[path = "../../../server/src/keys/etsi.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod etsi;
#[path = "../../../server/src/keys/id.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod id;
#[path = "../../../server/src/keys/skip.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod skip;
#[path = "../../../server/src/keys/wanted.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod wanted;

use wanted::{Asked, Wanted};

fuzz_target!(|input: &[u8]| {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (target, body) = input.split_at(line);
    let body = body.get(1..).unwrap_or_default();
    let Ok(target) = std::str::from_utf8(target) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let Some(wanted) = Wanted::at(path) else { return };
    for method in wanted.methods() {
        match wanted.clone().with(method, query, body) {
            Ok(asked) => sound(asked),
            Err(malformed) => assert!(!malformed.0.is_empty()),
        }
    }
    assert!(wanted.is_skip() <= !wanted.methods().contains(&Method::POST));
});

fn sound(asked: Asked) {
    match asked {
        Asked::Etsi(etsi::Asked::Status { slave: end }) => assert!(!end.is_empty()),
        Asked::Etsi(etsi::Asked::Encrypt { slave, request }) => {
            assert!(!slave.is_empty() && (1..=etsi::MAX_KEYS).contains(&request.number));
            let bits = request.bits.get();
            assert!((64..=1_024).contains(&bits) && bits % 8 == 0);
            assert_eq!(usize::from(bits), 8 * request.bits.bytes());
        }
        Asked::Etsi(etsi::Asked::Decrypt { master, ids }) => {
            assert!(!master.is_empty() && (1..=etsi::MAX_KEYS).contains(&ids.len()));
            for id in ids {
                assert_eq!(id::KeyId::from_uuid(&id.uuid()), Some(id));
                assert_eq!(id::KeyId::from_hex(&id.hex()), Some(id));
            }
        }
        Asked::Skip(skip::Asked::Capabilities) => {}
        Asked::Skip(skip::Asked::Key { remote, bits }) => {
            assert!(!remote.is_empty() && bits.bytes() <= 128);
        }
        Asked::Skip(skip::Asked::KeyOf { remote, id }) => {
            assert!(!remote.is_empty() && id.hex().len() == 32);
        }
        Asked::Skip(skip::Asked::Entropy { bytes }) => assert!((1..=1_024).contains(&bytes)),
    }
}
