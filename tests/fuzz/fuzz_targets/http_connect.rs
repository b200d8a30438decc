//! What a program says to an HTTP proxy's door never makes the parser panic, names at most one place,
//! and loses nothing that follows, however the network cuts it.
//!
//! The parser's source is compiled in, so that the TLS stack need not be built to fuzz it.
#![no_main]

use std::sync::LazyLock;

use claviger_shim::proxies::{Protocol, Request, read_request};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, join};
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
    RUNTIME.block_on(check(&[b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n", bytes].concat()));
    RUNTIME.block_on(check(bytes));
});

async fn check(bytes: &[u8]) {
    let cut = bytes.last().map_or(0, |last| usize::from(*last) * bytes.len() / 255);
    let (early, late) = bytes.split_at(cut);
    let (whole, parts) = (read(bytes, &[]).await, read(early, late).await);
    // Where the head is too long, it depends on the cut how much too long.
    let Some((request, rest)) = whole else { return };
    let (again, same) = parts.expect("how it is cut changes nothing");
    assert_eq!((&again.to, &same), (&request.to, &rest));
    assert!(bytes.ends_with(&rest));
    assert_eq!(request.to, request.to.to_ascii_lowercase());
    let (host, port) = request.to.rsplit_once(':').expect("host:port");
    assert!(!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
}

/// The request in two pieces, and all that follows it.
async fn read(early: &[u8], late: &[u8]) -> Option<(Request, Vec<u8>)> {
    let mut stream = join(early.chain(late), Vec::new());
    let request = read_request(Protocol::Connect, &mut stream).await.ok()?;
    assert!(stream.writer().is_empty());
    let mut rest = request.early.clone();
    stream.read_to_end(&mut rest).await.expect("it is in memory");
    Some((request, rest))
}
