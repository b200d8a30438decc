//! What the examples share: where the agent's socket is.
//!
//! | the question | the program |
//! |---|---|
//! | Who am I? | `fetch_svid` |
//! | How do I accept connections authenticated by one-time keys? | `psk_server` |
//! | How do I open one? | `psk_client` |
//! | How do I do both with s2n-tls itself? | `psk_s2n_server`, `psk_s2n_client` |
//! | How do I get one in an enclave, without an agent? | `enclave_psk` |
//! | May this be done? | `authorize` |
//!
//! Start `claviger dev`, copy the exports it prints, and run `cargo run -p claviger-examples
//! --example fetch_svid`.

use std::path::PathBuf;
use std::str::FromStr;

/// The agent's socket, as the SPIFFE Workload API spells it: `unix:///run/claviger/agent.sock`.
#[derive(Clone, Debug)]
pub struct Socket(pub PathBuf);

impl FromStr for Socket {
    type Err = String;

    fn from_str(uri: &str) -> Result<Self, String> {
        match uri.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self(path.into())),
            _ => Err(format!("`{uri}` is not `unix:///` and an absolute path")),
        }
    }
}

/// The option that every example takes.
#[derive(Clone, Debug, clap::Args)]
pub struct SocketOption {
    /// Where the agent listens.
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "unix:///PATH")]
    pub socket: Socket,
}
