//! A stranger's first bytes never make the parser panic, and how the network cuts them does not
//! change what it makes of them.
//!
//! The parser's source is compiled in, so that the TLS stack need not be built to fuzz it.
#![no_main]

use claviger_shim::client_hello::{ClientHello, FirstFlight};
use libfuzzer_sys::fuzz_target;

#[path = "../../../shim/src"]
mod claviger_shim {
    #[allow(dead_code, unreachable_pub, reason = "only a part of the module is used here")]
    pub mod client_hello;
}

fuzz_target!(|bytes: &[u8]| {
    read_message(bytes);
    read_message(&with_extensions(bytes));
    read_flight(bytes);
});

/// A hello whose extensions are `list`, and in which all other lengths are right: it gets deeper.
fn with_extensions(list: &[u8]) -> Vec<u8> {
    let Ok(length) = u16::try_from(list.len()) else { return Vec::new() };
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.extend([0, 0, 2, 0x13, 1, 1, 0]); // no session, one suite, no compression
    body.extend(length.to_be_bytes());
    body.extend(list);
    let [_, length @ ..] =
        u32::try_from(body.len()).expect("a little more than 64 KiB").to_be_bytes();
    [&[1], &length[..], &body].concat()
}

fn read_message(message: &[u8]) {
    let Ok(hello) = ClientHello::parse(message) else { return };
    // The binder is last, and nothing that is proven depends on it.
    let (covered, binder) = message.split_at(message.len() - 32);
    assert_eq!(hello.binder, *binder);
    let other = [covered, &[!binder[0]; 32][..]].concat();
    let other = ClientHello::parse(&other).expect("only the binder differs");
    assert_eq!((other.identity, other.transcript), (hello.identity, hello.transcript));
}

/// In records, and cut in two by the network.
fn read_flight(bytes: &[u8]) {
    let mut flight = FirstFlight::default();
    let whole = flight.push(bytes);
    if bytes.len() <= FirstFlight::MAX_LEN {
        assert_eq!(flight.room(), FirstFlight::MAX_LEN - bytes.len());
        assert_eq!(flight.into_wire(), bytes);
        let cut = bytes.last().map_or(0, |last| usize::from(*last) * bytes.len() / 255);
        let (early, late) = bytes.split_at(cut);
        let mut flight = FirstFlight::default();
        let parts = match flight.push(early) {
            Ok(None) => flight.push(late),
            decided => decided,
        };
        assert_eq!(parts, whole);
    }
}
