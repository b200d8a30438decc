//! Where a socket is: a path, or the address form of the SPIFFE Workload Endpoint.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::status::Peer;

/// Where an installed server's admin socket is.
const SERVER: &str = "/run/claviger/server.sock";
/// Where an installed agent's admin socket is.
const AGENT_ADMIN: &str = "/run/claviger/agent-admin.sock";
/// Where an installed agent's socket is.
const AGENT: &str = "unix:///run/claviger/agent.sock";

/// Where a server's admin socket is.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminSocket {
    /// The server's admin socket, as a path or as `unix:///path`
    #[arg(
        long = "socket-path",
        alias = "socketPath",
        env = "CLAVIGER_SERVER_SOCKET",
        value_name = "PATH",
        default_value = SERVER,
        value_parser = path_or_uri
    )]
    pub(crate) path: PathBuf,
}

/// Where an agent's Workload API socket is.
#[derive(Args, Clone, Debug)]
pub(crate) struct WorkloadSocket {
    /// The agent's socket, as a path or as `unix:///path`
    #[arg(long, alias = "socketPath", value_name = "PATH", value_parser = path_or_uri)]
    socket_path: Option<PathBuf>,

    /// The agent's socket, as `unix:///path`
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "URI", default_value = AGENT)]
    endpoint_socket: Endpoint,
}

impl WorkloadSocket {
    /// The path; a flag goes before the environment.
    pub(crate) fn path(&self) -> &Path {
        self.socket_path.as_deref().unwrap_or(&self.endpoint_socket.0)
    }

    /// The path for somebody whose configuration names one, perhaps: `--socket-path` goes before that,
    /// and that before the environment.
    #[cfg(feature = "shim")]
    pub(crate) fn path_or(&self, configured: Option<&Path>) -> PathBuf {
        let path = self.socket_path.as_deref().or(configured);
        path.unwrap_or(&self.endpoint_socket.0).to_owned()
    }
}

/// Both, for a command that asks either.
#[derive(Args, Clone, Debug)]
pub(crate) struct BothSockets {
    /// The socket of whoever is asked, as a path or as `unix:///path`
    #[arg(long, alias = "socketPath", value_name = "PATH", value_parser = path_or_uri)]
    socket_path: Option<PathBuf>,

    /// The server's admin socket, as a path or as `unix:///path`
    #[arg(
        long,
        env = "CLAVIGER_SERVER_SOCKET",
        value_name = "PATH",
        default_value = SERVER,
        value_parser = path_or_uri
    )]
    server_socket: PathBuf,

    /// The agent's socket, as `unix:///path`
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "URI", default_value = AGENT)]
    endpoint_socket: Endpoint,
}

impl BothSockets {
    /// The path of `peer`'s socket; a flag goes before the environment.
    pub(crate) fn path(&self, peer: Peer) -> &Path {
        self.socket_path.as_deref().unwrap_or(match peer {
            Peer::Server => &self.server_socket,
            Peer::Agent | Peer::AgentAdmin => &self.endpoint_socket.0,
        })
    }
}

/// Those of the operator, on a machine with an agent and perhaps a server.
#[derive(Args, Clone, Debug)]
pub(crate) struct OperatorSockets {
    /// The agent's admin socket, as a path or as `unix:///path`
    #[arg(
        long,
        env = "CLAVIGER_AGENT_SOCKET",
        value_name = "PATH",
        default_value = AGENT_ADMIN,
        value_parser = path_or_uri
    )]
    pub(crate) agent_socket: PathBuf,

    /// The server's admin socket, as a path or as `unix:///path`; left out if it is not there
    #[arg(
        long,
        env = "CLAVIGER_SERVER_SOCKET",
        value_name = "PATH",
        default_value = SERVER,
        value_parser = path_or_uri
    )]
    pub(crate) server_socket: PathBuf,
}

/// The address of a Workload API, as in `SPIFFE_ENDPOINT_SOCKET` (SPIFFE Workload Endpoint §4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint(PathBuf);

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(uri: &str) -> Result<Self, ParseEndpointError> {
        if uri.starts_with("tcp:") {
            return Err(ParseEndpointError::Tcp);
        }
        let path = uri.strip_prefix("unix://").ok_or(ParseEndpointError::Form)?;
        if !path.starts_with('/') || path.len() < 2 {
            return Err(ParseEndpointError::Relative);
        }
        if path.contains(['?', '#', '%', '\0']) {
            return Err(ParseEndpointError::Form);
        }
        Ok(Self(path.into()))
    }
}

/// Why an address is none at which we look for an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ParseEndpointError {
    #[error(
        "an agent is asked over a Unix socket, where the kernel says who asks; over TCP nobody \
         does: write `unix:///path`"
    )]
    Tcp,
    #[error("a Workload API address is written `unix:///path`, without anything else")]
    Form,
    #[error("the path of a Workload API socket is absolute: write `unix:///path`, three slashes")]
    Relative,
}

fn path_or_uri(text: &str) -> Result<PathBuf, ParseEndpointError> {
    if text.contains("://") || text.starts_with("unix:") || text.starts_with("tcp:") {
        return text.parse().map(|Endpoint(path)| path);
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_absolute_unix_socket() {
        assert_eq!("unix:///run/a.sock".parse(), Ok(Endpoint("/run/a.sock".into())));
        let refused = [
            ("tcp://127.0.0.1:8081", ParseEndpointError::Tcp),
            ("tcp:127.0.0.1:8081", ParseEndpointError::Tcp),
            ("unix://run/a.sock", ParseEndpointError::Relative),
            ("unix://", ParseEndpointError::Relative),
            ("unix:///", ParseEndpointError::Relative),
            ("unix:/run/a.sock", ParseEndpointError::Form),
            ("/run/a.sock", ParseEndpointError::Form),
            ("unix:///a?x", ParseEndpointError::Form),
            ("unix:///a#x", ParseEndpointError::Form),
            ("https://example.org", ParseEndpointError::Form),
            ("", ParseEndpointError::Form),
        ];
        for (uri, error) in refused {
            assert_eq!(uri.parse::<Endpoint>(), Err(error), "{uri}");
        }
    }

    #[test]
    fn a_flag_takes_a_path_too() {
        assert_eq!(path_or_uri("a/b.sock"), Ok("a/b.sock".into()));
        assert_eq!(path_or_uri("unix:///a/b.sock"), Ok("/a/b.sock".into()));
        assert_eq!(path_or_uri("tcp://127.0.0.1:1"), Err(ParseEndpointError::Tcp));
        assert_eq!(path_or_uri("unix:a"), Err(ParseEndpointError::Form));
    }
}
