//! Doors at which a program says where it wants to go.
//!
//! | to find | look in |
//! |---|---|
//! | SOCKS5 | `socks5` |
//! | HTTP's CONNECT | `connect` |
//! | what both make of it: a host and a port | [`Request`] |
//!
//! A request is bounded in bytes and time, and whatever is wrong with it was answered by the time it is
//! refused. Whether there is a way to what it names is not decided here.

mod connect;
mod host;
mod socks5;

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a program may take to say where it wants to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to be told.
const ANSWER: Duration = Duration::from_secs(5);

/// What a door speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// SOCKS5 (RFC 1928): CONNECT, without authentication.
    Socks5,
    /// HTTP/1.1 (RFC 9112), and nothing of it but CONNECT (RFC 9110 §9.3.6).
    Connect,
}

/// Where a program wants to go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    protocol: Protocol,
    /// `host:port`, in lower case; an IPv6 address in brackets, as short as it can be.
    pub to: String,
    /// What it sent already to whoever is there. It goes first.
    pub early: Vec<u8>,
}

/// What a program is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The way is open: from now on it speaks to whoever is there.
    Open,
    /// There is no such way, or not for this program.
    NotPermitted,
    /// There is a way, and nobody at its end.
    Unreachable,
}

/// Reads from `stream` where a program wants to go.
///
/// # Errors
///
/// [`RequestError`] says what is wrong. The program has been told; close the connection.
pub async fn read_request<S>(protocol: Protocol, stream: &mut S) -> Result<Request, RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = async {
        match protocol {
            Protocol::Socks5 => socks5::read(stream).await,
            Protocol::Connect => connect::read(stream).await,
        }
    };
    let read = timeout(PATIENCE, reading).await.unwrap_or(Err(RequestError::TooSlow));
    if let Err(error) = &read {
        let words = match protocol {
            Protocol::Socks5 => socks5::refusal(error),
            Protocol::Connect => connect::refusal(error),
        };
        // Why nothing was read is of more interest than why nobody hears of it.
        drop(last_words(stream, &words).await);
    }
    read
}

impl Request {
    /// Tells the program, over the `stream` that the request was read from. After any answer but
    /// [`Answer::Open`], close the connection.
    ///
    /// # Errors
    ///
    /// If it cannot be told.
    pub async fn answer<S>(&self, stream: &mut S, answer: Answer) -> io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        let words = match self.protocol {
            Protocol::Socks5 => socks5::answer(answer),
            Protocol::Connect => connect::answer(answer),
        };
        if answer == Answer::Open {
            timeout(ANSWER, say(stream, &words)).await?
        } else {
            last_words(stream, &words).await
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.flush().await
}

/// Says `words`, and that nothing follows.
async fn last_words<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) -> io::Result<()> {
    let saying = async {
        say(stream, words).await?;
        stream.shutdown().await
    };
    timeout(ANSWER, saying).await?
}

/// Why it is not known where a program wants to go.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It took too long.
    #[error("the program did not say within {secs} s where to", secs = PATIENCE.as_secs())]
    TooSlow,
    /// It said too much.
    #[error("the request has more than {} bytes", connect::MAX_HEAD)]
    TooLong,
    /// It speaks something else.
    #[error("the request is none: {0}")]
    Malformed(&'static str),
    /// It names a place that cannot be one.
    #[error("the request names no `host:port`")]
    NoPlace,
    /// It wants another method, or another command, than CONNECT.
    #[error("the request is for something else than CONNECT")]
    OtherMethod,
    /// It wants to authenticate itself.
    #[error("the program insists on authentication; who it is, is known without")]
    Authentication,
    /// It names a place by a kind of address that is not known.
    #[error("the request names a place by an unknown kind of address, {0}")]
    AddressType(u8),
    /// The connection broke.
    #[error("the connection broke off")]
    Io(#[from] io::Error),
}
