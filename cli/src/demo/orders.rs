//! What the demo tells its programs, and what they report: JSON lines over stdin and stdout. No key
//! is ever in them.

use std::net::SocketAddr;
use std::path::PathBuf;

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Fetch your X.509-SVID.
    Fetch,
    /// Listen on a port of your choice.
    Listen,
    /// Take one connection over mutual TLS, from nobody but this client.
    AcceptMutual(SpiffeId),
    /// Connect over mutual TLS to nobody but this server.
    ConnectMutual(Call),
    /// Ask for a one-time key.
    Issue { peer: SpiffeId, purpose: Purpose },
    /// Take one connection with a one-time key.
    AcceptOnce,
    /// Connect with the key you were issued, be it used or not.
    ConnectOnce(SocketAddr),
    /// Send again, byte for byte, what you first sent over the last successful connection.
    Replay(SocketAddr),
    /// Take one connection in the clear, and stay connected.
    AnswerInClear,
    /// Connect in the clear, and stay connected.
    CallInClear(SocketAddr),
    /// Wait until that connection ends.
    AwaitEnd,
    /// Say whether the key you were issued is in this file, in any spelling.
    Search(PathBuf),
}

/// Whom to call, and where.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Call {
    pub(super) at: SocketAddr,
    pub(super) server: SpiffeId,
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The identity in the SVID.
    Fetched(SpiffeId),
    /// Where.
    Listening(SocketAddr),
    /// A connection that both ends authenticated.
    Met(Met),
    /// What the other end of a connection in the clear said.
    Heard(String),
    /// The name of a key.
    Issued(String),
    /// Somebody who is entitled to said no.
    Refused(String),
    /// All that the other end sent before it hung up, hexadecimal.
    HungUp(String),
    /// Whether it was found.
    Found(bool),
    /// It did not work, for a reason that nobody asked for.
    Failed(String),
}

/// What a program knows of a connection.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Met {
    /// Who is at the other end.
    pub(super) peer: SpiffeId,
    /// The key exchange.
    pub(super) group: String,
    /// What the other end said over it.
    pub(super) heard: String,
}
