//! One-time PSKs at work: TLS 1.3 connections between programs that hold nothing but the socket of
//! their agent.
//!
//! | to find | look in |
//! |---|---|
//! | the side that answers: read, redeem, shake hands | [`acceptor`] |
//! | the side that dials with an issued key | [`connector`] |
//! | whether a connection may be, and when it must end | [`enforcer`] |
//! | what both get: the stream, and who is at its other end | [`stream`] |
//! | what a stranger's first bytes must look like | [`client_hello`] |
//! | how an acceptor redeems what a ClientHello shows | [`redeem`] |
//! | the agent's broker, over its Unix socket | [`broker`] |
//! | the TLS stack, and what it must be able to do | [`backend`] |
//!
//! Invariants:
//!
//! * **The key or nothing.** No listener has a certificate and no client a trust store, so neither
//!   end can fall back to a handshake that the key did not authenticate; and after each handshake
//!   both check that the key they expected is the one that was used.
//! * **One failure.** Whatever is wrong, the peer sees the same seven bytes after the same least
//!   time. The reason is in the error that the caller logs.
//! * **A decision for as long as it lasts.** With an [`Enforcer`], a stream ends at once when one of
//!   its ends comes into quarantine, or the policies permit it no more.
//! * **Strangers are bounded.** At most 16 KiB are read before the key is proven, for at most five
//!   seconds, by a parser that cannot panic.

pub mod acceptor;
pub mod backend;
pub mod broker;
pub mod client_hello;
pub mod connector;
pub mod enforcer;
#[cfg(test)]
mod fixture;
mod io;
pub mod redeem;
pub mod stream;

pub use acceptor::{AcceptError, PskAcceptor};
pub use broker::BrokerClient;
pub use connector::{ConnectError, Issued, PskConnector};
pub use enforcer::{Admitted, Denied, Enforcer};
pub use stream::{PskPeer, PskStream};
