//! HTTP's CONNECT (RFC 9110 §9.3.6), in HTTP/1.1 (RFC 9112).

#[cfg(test)]
mod tests;

use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{Answer, Protocol, Request, RequestError, host};

/// The most bytes of a request's head, and of what may come along with it.
pub(super) const MAX_HEAD: usize = 8 << 10;

/// The most fields of a request.
const MAX_FIELDS: usize = 64;

/// Reads the head of a request. What comes along with its last bytes is for the other end.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Request, RequestError> {
    let mut head = Vec::with_capacity(512);
    loop {
        let room = MAX_HEAD.saturating_sub(head.len());
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        if stream.take(room).read_buf(&mut head).await? == 0 {
            return Err(if room == 0 {
                RequestError::TooLong
            } else {
                RequestError::Malformed("it ends before its head does")
            });
        }
        if let Some((to, length)) = parse(&head)? {
            let early = head.split_off(length);
            return Ok(Request { protocol: Protocol::Connect, to, early });
        }
    }
}

/// Where a request goes to, and how long its head is; none if there is more to come.
fn parse(head: &[u8]) -> Result<Option<(String, usize)>, RequestError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(head) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLong),
        Err(_malformed) => return Err(RequestError::Malformed("it is not HTTP/1.1")),
    };
    if request.method != Some("CONNECT") {
        return Err(RequestError::OtherMethod);
    }
    let named = |name: &str| {
        let is_it = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(is_it).count()
    };
    // RFC 9112 §3.2. Earlier versions have none.
    if request.version == Some(1) && named("host") != 1 {
        return Err(RequestError::Malformed("it does not name one `Host`"));
    }
    // Nobody agrees on where the content of a CONNECT would end.
    if named("content-length") + named("transfer-encoding") != 0 {
        return Err(RequestError::Malformed("a CONNECT has no content"));
    }
    let to = host::authority(request.path.unwrap_or_default())?;
    Ok(Some((to, length)))
}

/// What a program is told whose request is refused.
pub(super) fn refusal(error: &RequestError) -> Vec<u8> {
    match error {
        RequestError::OtherMethod => closing("405 Method Not Allowed", "Allow: CONNECT\r\n", error),
        RequestError::TooSlow => closing("408 Request Timeout", "", error),
        RequestError::TooLong => closing("431 Request Header Fields Too Large", "", error),
        RequestError::Malformed(_)
        | RequestError::NoPlace
        | RequestError::Authentication
        | RequestError::AddressType(_) => closing("400 Bad Request", "", error),
        RequestError::Io(_) => Vec::new(),
    }
}

pub(super) fn answer(answer: Answer) -> Vec<u8> {
    match answer {
        // Neither a length nor fields about content may be here.
        Answer::Open => b"HTTP/1.1 200 Connection Established\r\n\r\n".to_vec(),
        Answer::NotPermitted => {
            closing("403 Forbidden", "", &"there is no such way, or not for this program")
        }
        Answer::Unreachable => {
            closing("502 Bad Gateway", "", &"the other end cannot be reached, or refuses")
        }
    }
}

/// An answer after which the connection is closed.
fn closing(status: &str, fields: &str, why: &dyn std::fmt::Display) -> Vec<u8> {
    let body = format!("{why}\n");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}Connection: close\r\nContent-Type: text/plain; \
         charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
    );
    (head + &body).into_bytes()
}
