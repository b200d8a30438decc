//! Unix sockets whose callers the kernel vouches for.
//!
//! [`Listener`] reads who is at the other end when it accepts, and hands out [`PeerStream`]s that
//! carry the answer as a [`Peer`]. tonic's services find it in the extensions of each request. What
//! anybody else writes to the connection ends it.
//!
//! [`PlainListener`] is for bytes that are carried on and not understood here.

mod address;
mod authority;
mod bind;
mod connect;
mod incoming;
mod listener;
mod peer;
mod plain;
mod program;
mod stream;

pub use address::{SocketPathError, check_path};
pub use bind::BindError;
pub use connect::{ConnectError, connector};
pub use listener::{Limits, Listener};
pub use peer::{NoProcess, Peer, PeerError};
pub use plain::PlainListener;
pub use stream::PeerStream;
