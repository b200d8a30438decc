//! What a program says to a SOCKS5 door never makes the parser panic, names at most one place, and
//! that in one way; what follows it is left alone.
//!
//! The parser's source is compiled in, so that the TLS stack need not be built to fuzz it.
#![no_main]

use std::sync::LazyLock;

use claviger_shim::proxies::{Answer, Protocol, read_request};
use libfuzzer_sys::fuzz_target;
use tokio::io::join;
use tokio::runtime::{Builder, Runtime};

#[path = "../../../shim/src"]
mod claviger_shim {
    #[allow(dead_code, reason = "only a part of the module is used here")]
    pub mod proxies;
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    // One that gets deeper.
    RUNTIME.block_on(read(&[&[5, 1, 0, 5, 1, 0], bytes].concat()));
    RUNTIME.block_on(read(bytes));
});

async fn read(bytes: &[u8]) {
    let mut stream = join(bytes, Vec::new());
    let Ok(request) = read_request(Protocol::Socks5, &mut stream).await else {
        let answered = stream.into_inner().1;
        assert!([0, 2, 10, 12].contains(&answered.len()), "{answered:?}");
        return;
    };
    assert_eq!((stream.writer(), request.early.len()), (&vec![5, 0], 0));
    let used = bytes.len() - stream.reader().len();
    let again = read_request(Protocol::Socks5, &mut join(&bytes[..used], Vec::new())).await;
    assert_eq!(again.expect("nothing that follows is needed"), request);
    assert_eq!(request.to, request.to.to_ascii_lowercase());
    let (host, port) = request.to.rsplit_once(':').expect("host:port");
    assert!(!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    request.answer(&mut stream, Answer::Open).await.expect("room");
    assert_eq!(stream.writer().len(), 12);
}
