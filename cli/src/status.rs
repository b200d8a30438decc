//! gRPC statuses and failed connections, as sentences.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use claviger_runtime::telemetry::Chain;
use tonic::{Code, Status};

use crate::failure::Failure;

/// Who was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// A server, over its admin socket.
    Server,
    /// An agent, over its Workload API socket.
    Agent,
    /// An agent, over its admin socket.
    AgentAdmin,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Agent | Self::AgentAdmin => "agent",
        })
    }
}

impl Peer {
    /// How to point a command at another socket.
    fn setting(self) -> &'static str {
        match self {
            Self::Server => "--socket-path or CLAVIGER_SERVER_SOCKET (a path)",
            Self::Agent => "--socket-path or SPIFFE_ENDPOINT_SOCKET (`unix:///path`)",
            Self::AgentAdmin => "--agent-socket or CLAVIGER_AGENT_SOCKET (a path)",
        }
    }
}

/// Why nobody answers on the socket at `path`.
pub(crate) fn unreachable(peer: Peer, path: &Path, error: &(dyn Error + 'static)) -> Failure {
    let socket = path.display();
    let elsewhere = format!("or name its socket with {}", peer.setting());
    match kind(error) {
        Some(io::ErrorKind::NotFound) => {
            Failure::failed(format_args!("no {peer} can be asked: there is no socket `{socket}`"))
                .try_this(match peer {
                    Peer::AgentAdmin => format!(
                        "does the agent run, and is `admin-socket-path` set in its file? See to \
                         it, {elsewhere}"
                    ),
                    Peer::Server | Peer::Agent => {
                        format!("is `claviger dev` or the {peer} running? Start it, {elsewhere}")
                    }
                })
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            Failure::failed(format_args!("no {peer} listens on socket `{socket}` any more"))
                .try_this(format_args!("start `claviger dev` or the {peer} again, {elsewhere}"))
        }
        Some(io::ErrorKind::PermissionDenied) => Failure::failed(format_args!(
            "this user may not open socket `{socket}`"
        ))
        .try_this(match peer {
            Peer::Server => "run the command as the user that runs the server, or as root",
            Peer::AgentAdmin => "run the command as the user that runs the agent, or as root",
            Peer::Agent => "look at the mode of the socket and of the directories above it",
        }),
        _ => Failure::failed(format_args!(
            "cannot reach the {peer} on socket `{socket}`: {}",
            Chain(error)
        ))
        .try_this(format_args!("is it really the {peer}'s socket? Correct it, {elsewhere}")),
    }
}

/// The operating system's answer at the bottom of `error`.
fn kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

/// Why `peer` did not do what was asked; `doing` completes "cannot …".
pub(crate) fn refused(peer: Peer, doing: &str, status: &Status) -> Failure {
    let reason = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    let failure = Failure::failed(format_args!("cannot {doing}: {reason}"));
    match remedy(peer, status.code()) {
        Some(remedy) => failure.try_this(remedy),
        None => failure,
    }
}

fn remedy(peer: Peer, code: Code) -> Option<&'static str> {
    match (code, peer) {
        (Code::PermissionDenied | Code::Unauthenticated, Peer::Server) => {
            Some("run the command as the user that runs the server, or as root")
        }
        (Code::PermissionDenied | Code::Unauthenticated, Peer::AgentAdmin) => {
            Some("run the command as the user that runs the agent, or as root")
        }
        (Code::PermissionDenied, Peer::Agent) => Some(
            "an operator sees with `claviger why PID` what this process lacks; an entry must fit its \
             peer, too, and the policy permit it (`claviger audit tail`)",
        ),
        (Code::Unavailable, _) => {
            Some("it may be starting, stopping or cut off; try again, and look at its log")
        }
        (Code::DeadlineExceeded, _) => Some("it is overloaded or stuck; look at its log"),
        (Code::ResourceExhausted, _) => Some("ask for less, or try again later"),
        (Code::Unimplemented, Peer::Server) => {
            Some("is it another version than this command? Compare `claviger --version`")
        }
        (Code::Unimplemented, Peer::Agent | Peer::AgentAdmin) => {
            Some("is it an agent of another make or version? Check the socket's path")
        }
        (Code::Internal | Code::Unknown | Code::DataLoss, _) => Some("the details are in its log"),
        (Code::NotFound, Peer::Server) => {
            Some("list what there is with `claviger entry show` or `claviger agent list`")
        }
        (
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unauthenticated,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Outer(#[source] io::Error);

    fn told(kind: io::ErrorKind) -> String {
        unreachable(Peer::Server, Path::new("/x.sock"), &Outer(kind.into())).to_string()
    }

    #[test]
    fn each_way_of_not_being_reached_has_its_own_advice() {
        let missing = told(io::ErrorKind::NotFound);
        assert!(missing.contains("there is no socket `/x.sock`"), "{missing}");
        assert!(missing.contains("claviger dev"), "{missing}");
        assert!(missing.contains("CLAVIGER_SERVER_SOCKET"), "{missing}");
        let stale = told(io::ErrorKind::ConnectionRefused);
        assert!(stale.contains("any more"), "{stale}");
        let closed = told(io::ErrorKind::PermissionDenied);
        assert!(closed.contains("root"), "{closed}");
        let odd = told(io::ErrorKind::ConnectionReset);
        assert!(odd.contains("transport error: connection reset"), "{odd}");
    }

    #[test]
    fn the_peers_own_words_are_kept() {
        let status = Status::invalid_argument("spiffe_id: is missing");
        let told = refused(Peer::Server, "create the entry", &status).to_string();
        assert_eq!(told, "error: cannot create the entry: spiffe_id: is missing");
        let status = Status::new(Code::Unavailable, "");
        let told = refused(Peer::Agent, "fetch SVIDs", &status).to_string();
        assert!(told.starts_with("error: cannot fetch SVIDs: The service is currently"), "{told}");
        assert!(told.contains("try again"), "{told}");
    }
}
