//! What the data plane costs: handshakes, connecting, bulk data, idle connections. Everything is on one
//! machine and in one run, with the same client and the same payload; each figure has its target beside
//! it, and what does not meet it is called MISSED.
//!
//! For bulk data there are peers: programs that do nothing but TLS, ghostunnel (`GHOSTUNNEL` names its
//! program), HAProxy and stunnel, as far as they are installed, each as a pair with certificates at both
//! ends.
//!
//! Without arguments all of it is measured; otherwise what they name: `handshake`, `latency`, `bulk`, `idle`.
//!
//! Ten thousand connections take twice as many file descriptors in each shim; if the system allows fewer,
//! as many are opened as there can be, and that is said.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

mod bulk;
mod handshake;
mod idle;
mod latency;
mod peers;
mod world;

use std::process::ExitCode;

use claviger_tests::bench::Parts;
use world::{Mode, World};

#[tokio::main]
async fn main() -> ExitCode {
    claviger_runtime::descriptors::raise_limit().unwrap();
    let parts = Parts::named();
    let mut met = !parts.want("handshake") || handshake::measure().await;
    let world = World::start().await;
    for mode in [Mode::Psk, Mode::Mtls] {
        met &= !parts.want("latency") || latency::measure(&world, mode).await;
    }
    met &= !parts.want("bulk") || bulk::measure(&world).await;
    for mode in [Mode::Psk, Mode::Mtls] {
        met &= !parts.want("idle") || idle::measure(&world, mode).await;
    }
    world.stop().await;
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
