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

use world::{Mode, World};

/// Prints one figure, and says whether it meets its target.
fn report(what: &str, figure: &str, target: &str, met: bool) -> bool {
    println!("{what}: {figure}; target {target}: {}", if met { "met" } else { "MISSED" });
    met
}

#[tokio::main]
async fn main() -> ExitCode {
    claviger_runtime::descriptors::raise_limit().unwrap();
    // Cargo adds an option of its own.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);

    let mut met = !wanted("handshake") || handshake::measure().await;
    let world = World::start().await;
    for mode in [Mode::Psk, Mode::Mtls] {
        met &= !wanted("latency") || latency::measure(&world, mode).await;
    }
    met &= !wanted("bulk") || bulk::measure(&world).await;
    for mode in [Mode::Psk, Mode::Mtls] {
        met &= !wanted("idle") || idle::measure(&world, mode).await;
    }
    world.stop().await;
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
