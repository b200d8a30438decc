//! What a TLS stack must be able to do for us, so that another one can take s2n-tls's place.
//!
//! The steps of a connection are two, because who refuses a peer must still hold the connection:
//! the stack borrows it for the handshake, and owns it once the handshake has been judged.

mod s2n;

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::s2n::{S2n, SetUpError};

/// A connection below TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// Which end of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Dials.
    Client,
    /// Answers.
    Server,
}

/// A TLS stack with external PSKs.
///
/// It must speak TLS 1.3 only, offer or accept nothing but `psk_dhe_ke` with the one key it is
/// given, hold neither certificates nor trust anchors, send no tickets, and fail without delay:
/// whoever calls it adds that.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Shakes hands over `io`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if the handshake does not complete. What the stack then writes and shuts
    /// down does not reach the peer.
    async fn handshake(
        &self,
        role: Role,
        identity: WireIdentity,
        psk: &Psk,
        io: &mut dyn Io,
    ) -> Result<Box<dyn Handshake>, HandshakeError>;
}

/// A completed handshake that has yet to be judged.
pub trait Handshake: fmt::Debug + Send {
    /// How it went.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Tls`] if the stack cannot say.
    fn outcome(&self) -> Result<Outcome, HandshakeError>;

    /// Goes on to the data, over the connection that the handshake went over.
    fn open(self: Box<Self>, io: Box<dyn Io>) -> Box<dyn Session>;
}

/// How a handshake went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whether it is TLS 1.3.
    pub tls13: bool,
    /// The identity of the PSK that was used; empty if none was.
    pub identity: Vec<u8>,
    /// The key exchange, unless there was none.
    pub group: Option<String>,
    /// The cipher suite.
    pub suite: String,
}

/// An open TLS connection.
pub trait Session: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {
    /// Fills `out` with exported keying material (RFC 8446 §7.5).
    ///
    /// # Errors
    ///
    /// [`ExportError`] if the stack cannot.
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), ExportError>;

    /// Gives back the memory that is needed only while bytes move, as far as there are none in it.
    fn rest(&mut self) {}
}

/// Why a handshake did not complete, or must not count.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer sent an alert.
    #[error("the peer refused the handshake")]
    Refused,
    /// The peer hung up, or the network did.
    #[error("the connection ended during the handshake")]
    Io(#[source] std::io::Error),
    /// The peer broke the protocol, or does not accept the key.
    #[error("the TLS handshake failed")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// The handshake completed, but our key did not authenticate it.
    #[error("the handshake was not authenticated by the one-time key")]
    Unauthenticated,
}

/// A TLS stack cannot export keying material.
#[derive(Debug, thiserror::Error)]
#[error("cannot export keying material")]
pub struct ExportError(#[source] pub Box<dyn Error + Send + Sync>);
