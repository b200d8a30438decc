//! Control of a host name: the node answers an HTTP request that the server sends to it.
//!
//! The format is SPIRE's. The node names its host, a port and itself; it is sent a nonce; and the
//! server looks for that nonce at
//! `http://HOST:PORT/.well-known/spiffe/nodeattestor/http_challenge/AGENT/challenge`. The node becomes
//! `spiffe://trust-domain/spire/agent/http_challenge/HOST`.
//!
//! SPIRE's has no bond to the key that the evidence earns a certificate for. Ours has one where both
//! ends know of it: the node says so, the server says so with its nonce, and what the node serves is
//! the nonce and a digest of the key.
//!
//! The server is made to connect to where a stranger says, so what it connects to is decided here:
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | names that can be asked for | `host` |
//! | addresses that can be connected to | `addresses` |
//! | the request | `visit` |
//! | the server's side | `verifier` |
//! | the node's side | `collector` |

mod addresses;
mod collector;
mod config;
mod host;
mod verifier;
mod visit;
mod wire;

#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::Config;
pub use verifier::{OpenError, Verifier};
pub use wire::{Challenge, Evidence};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "http_challenge";

/// The path that the nonce is served at, for the agent of this name.
fn path(agent: &str) -> String {
    format!("/.well-known/spiffe/nodeattestor/http_challenge/{agent}/challenge")
}
