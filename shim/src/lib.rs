//! TLS 1.3 between programs that hold nothing but the socket of their agent, by one-time PSKs or by
//! X.509-SVIDs: in front of programs that were never changed, and as a library for those that were.
//!
//! | to find | look in |
//! |---|---|
//! | how it all starts, and what all routes share | [`run`], `desk` |
//! | what an operator can set | [`config`] |
//! | the ways out and the ways in, connection by connection | `outbound`, `inbound` |
//! | where connections come in | `listener` |
//! | bytes both ways, and when that ends | `relay` |
//! | how a program is told who calls | `proxy_header` |
//! | who was connected to whom, and who was refused | `access`, `refused` |
//! | what is counted | `metrics` |
//! | tunnels as routes want them, by keys or by SVIDs | [`tunnels`] |
//! | the side that answers: read, redeem, shake hands | [`acceptor`] |
//! | the side that dials with an issued key | [`connector`] |
//! | whether a connection may be, and when it must end | [`enforcer`] |
//! | one-time keys in hand | `prefetch` |
//! | both sides by X.509-SVIDs | [`mtls`] |
//! | the SVIDs and bundles of the moment | [`svid`] |
//! | which algorithms there are | [`profile`] |
//! | what both get: the stream, and who is at its other end | [`tunnel`] |
//! | what a stranger's first bytes must look like | [`client_hello`] |
//! | how an acceptor redeems what a ClientHello shows | [`redeem`] |
//! | the way to the agent | `agent` |
//! | its broker of keys | [`broker`] |
//! | whoever else has keys | [`keys`] |
//! | which programs of this machine may use it | [`callers`] |
//! | doors at which a program says where to: SOCKS5, HTTP's CONNECT | [`proxies`] |
//! | what a shim is told to do | [`route`] |
//! | whom a way in is for | [`wanted`] |
//! | the TLS stack, and what it must be able to do | [`backend`] |
//!
//! Invariants:
//!
//! * **The key or nothing.** What is for keys has no certificate and no trust store, so neither end can
//!   fall back to a handshake that the key did not authenticate; and after each handshake both check
//!   that the key they expected is the one that was used.
//! * **One failure.** Whatever is wrong, the peer sees the same seven bytes after the same least
//!   time. The reason is in the error that the caller logs.
//! * **A decision for as long as it lasts.** With an [`Enforcer`], a stream ends at once when one of
//!   its ends comes into quarantine, or the policies permit it no more.
//! * **Strangers are bounded.** At most 16 KiB are read before the key is proven, for at most five
//!   seconds, by a parser that cannot panic.

pub mod acceptor;
mod access;
mod agent;
pub mod backend;
pub mod broker;
pub mod callers;
pub mod client_hello;
pub mod config;
pub mod connector;
mod desk;
pub mod enforcer;
#[cfg(test)]
mod fixture;
mod inbound;
mod io;
mod judged;
pub mod keys;
mod listener;
mod metrics;
pub mod mtls;
mod outbound;
mod prefetch;
pub mod profile;
pub mod proxies;
mod proxy_header;
pub mod redeem;
mod refusal;
mod refused;
mod relay;
pub mod route;
pub mod run;
pub mod svid;
pub mod tunnel;
pub mod tunnels;
pub mod wanted;

pub use acceptor::{AcceptError, PskAcceptor};
pub use broker::BrokerClient;
pub use callers::{Caller, CallerDesk, LocalPeer, NotACaller};
pub use connector::{ConnectError, Issued, PskConnector};
pub use enforcer::{Admitted, Denied, Enforcer};
pub use tunnel::{Ends, Tunnel};
pub use tunnels::{AnswerError, DialError, Tunnels};
