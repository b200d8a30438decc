//! What a server did about a request.

use std::fmt;

use tonic::{Code, Status};

/// The answer to one request.
#[derive(Clone)]
pub(super) enum Answer<T> {
    /// It was granted.
    Given(T),
    /// It was refused; these are the server's words.
    Refused(Code, String),
    /// There was no answer in time.
    Late,
    /// It was not made, because the RPC had been late too often.
    Unasked,
}

impl<T> Answer<T> {
    /// The answer, if there is one.
    pub(super) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(answer) => Some(answer),
            Self::Refused(..) | Self::Late | Self::Unasked => None,
        }
    }

    /// The same answer about something else.
    pub(super) fn map<U>(self, into: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Given(answer) => Answer::Given(into(answer)),
            Self::Refused(code, message) => Answer::Refused(code, message),
            Self::Late => Answer::Late,
            Self::Unasked => Answer::Unasked,
        }
    }

    /// Whether it was refused with one of `codes`.
    pub(super) fn is_refused(&self, codes: &[Code]) -> bool {
        matches!(self, Self::Refused(code, _) if codes.contains(code))
    }

    /// Whether the server has no such RPC, or has it disabled.
    pub(super) fn is_unimplemented(&self) -> bool {
        self.is_refused(&[Code::Unimplemented])
    }
}

impl<T> From<Result<T, Status>> for Answer<T> {
    fn from(result: Result<T, Status>) -> Self {
        match result {
            Ok(answer) => Self::Given(answer),
            Err(status) => Self::Refused(status.code(), status.message().to_owned()),
        }
    }
}

/// Never what was given: there may be keys in it.
impl<T> fmt::Display for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("it was granted"),
            Self::Refused(code, message) => write!(f, "{} \"{message}\"", name(*code)),
            Self::Late => f.write_str("no answer in time"),
            Self::Unasked => f.write_str("not asked"),
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name that gRPC's documents give to a status code.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
