//! SOCKS5 (RFC 1928).
//!
//! Messages say how long they are, so that no more is read than they have: what follows is for whoever
//! is at the other end.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Answer, Protocol, Request, RequestError, host};

const VERSION: u8 = 5;

/// Methods (§3).
const NO_AUTHENTICATION: u8 = 0;
const NONE_ACCEPTABLE: u8 = 0xff;

/// The command (§4), and the kinds of addresses (§5).
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Replies (§6).
const SUCCEEDED: u8 = 0;
const FAILED: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_NOT_SUPPORTED: u8 = 8;

/// Reads the greeting, answers it, and reads the request.
pub(super) async fn read<S>(stream: &mut S) -> Result<Request, RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    greet(stream).await?;
    let [version, command, reserved, kind] = take(stream).await?;
    if version != VERSION || reserved != 0 {
        return Err(RequestError::Malformed("its request is not SOCKS5"));
    }
    let place = place(stream, kind).await?;
    if command != CONNECT {
        return Err(RequestError::OtherMethod);
    }
    Ok(Request { protocol: Protocol::Socks5, to: place?, early: Vec::new() })
}

/// Agrees that nobody authenticates: who the program is, the kernel says (§3).
async fn greet<S>(stream: &mut S) -> Result<(), RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let [version, count] = take(stream).await?;
    if version != VERSION {
        return Err(RequestError::Malformed("its first byte is not SOCKS5"));
    }
    let mut methods = vec![0; count.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        return Err(RequestError::Authentication);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    Ok(stream.flush().await?)
}

/// Reads address and port to their end (§5); the inner error is about what they say.
async fn place<S>(stream: &mut S, kind: u8) -> Result<Result<String, RequestError>, RequestError>
where
    S: AsyncRead + Unpin,
{
    Ok(match kind {
        IPV4 => {
            let ip = Ipv4Addr::from(take::<4, _>(stream).await?);
            host::numbered(ip.into(), port(stream).await?)
        }
        IPV6 => {
            let ip = Ipv6Addr::from(take::<16, _>(stream).await?);
            host::numbered(ip.into(), port(stream).await?)
        }
        NAME => {
            let [length] = take(stream).await?;
            let mut name = vec![0; length.into()];
            stream.read_exact(&mut name).await?;
            host::named(&name, port(stream).await?)
        }
        unknown => return Err(RequestError::AddressType(unknown)),
    })
}

async fn port<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u16, RequestError> {
    Ok(u16::from_be_bytes(take(stream).await?))
}

async fn take<const N: usize, S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<[u8; N], RequestError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// What a program is told whose request is refused, if its protocol has words for it.
pub(super) fn refusal(error: &RequestError) -> Vec<u8> {
    match error {
        RequestError::Authentication => vec![VERSION, NONE_ACCEPTABLE],
        RequestError::OtherMethod => reply(COMMAND_NOT_SUPPORTED),
        RequestError::AddressType(_) => reply(ADDRESS_NOT_SUPPORTED),
        RequestError::NoPlace => reply(FAILED),
        RequestError::TooSlow
        | RequestError::TooLong
        | RequestError::Malformed(_)
        | RequestError::Io(_) => Vec::new(),
    }
}

pub(super) fn answer(answer: Answer) -> Vec<u8> {
    reply(match answer {
        Answer::Open => SUCCEEDED,
        Answer::NotPermitted => NOT_ALLOWED,
        Answer::Unreachable => HOST_UNREACHABLE,
    })
}

/// A reply (§6). By which address we go on is of no use to anybody: it is left empty.
fn reply(code: u8) -> Vec<u8> {
    vec![VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}
