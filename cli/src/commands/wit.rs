//! `claviger wit`: workload identity tokens, which are bound to a key.

mod mint;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use claviger_core::id::SpiffeId;
use claviger_proto::workload::{Witsvid, WitsvidRequest};
use serde::Serialize;

use crate::console::Console;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::workload::Agent;
use crate::{files, jws};

/// Fetches WIT-SVIDs, and has the server mint them
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetches the WIT-SVIDs once
    #[command(long_about = "Fetches a WIT-SVID of each identity that this very process is \
        entitled to, and prints the tokens, one on each line. A token proves nothing without its \
        key, which is shown to nobody: with --write both go into files, wit.N.jwt and the JSON \
        Web Key wit.N.jwk, for the owner only.\n\n\
        Example:\n  claviger wit fetch --write /run/myapp")]
    Fetch(Fetch),
    /// Has the server sign a WIT-SVID for any workload, without an entry
    #[command(long_about = "Has the server sign a WIT-SVID for any workload of its trust domain, \
        without an entry, and prints the token. It is bound to the public key in a file; the \
        private key stays with whoever has it. For operators, on the server's admin socket.\n\n\
        Example:\n  claviger wit mint --spiffe-id spiffe://example.org/web \
        --public-key public.pem")]
    Mint(mint::Mint),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Fetch(fetch) => fetch.run(console).await,
            Self::Mint(mint) => mint.run(console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Fetch {
    /// Only for this identity; for all of this process's if not given
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Writes tokens and keys into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Fetch {
    async fn run(self, console: Console) -> Result<(), Failure> {
        const DOING: &str = "fetch WIT-SVIDs";

        let agent = Agent::connect(&self.socket, console).await?;
        let spiffe_id = self.spiffe_id.map(String::from).unwrap_or_default();
        let mut stream = agent
            .ask(DOING, agent.workload_api().fetch_witsvid(WitsvidRequest { spiffe_id }))
            .await?;
        let first = stream.message().await.map_err(|status| agent.refused(DOING, &status))?;
        let response = first.ok_or_else(|| Failure::failed("the agent sent no WIT-SVID"))?;
        if let Some(folder) = &self.write {
            write(folder, &response.svids)?;
        }
        console.answer(&Tokens { svids: response.svids.into_iter().map(Token::from).collect() })
    }
}

/// The key goes first: who reads a new token finds its key.
fn write(folder: &Path, svids: &[Witsvid]) -> Result<(), Failure> {
    for (n, svid) in svids.iter().enumerate() {
        let put = |name: String, text: &String| {
            files::replace(&folder.join(name), text.as_bytes(), files::SECRET)
        };
        put(format!("wit.{n}.jwk"), &svid.wit_svid_key)?;
        put(format!("wit.{n}.jwt"), &svid.wit_svid)?;
    }
    Ok(())
}

/// `{"svids":[{"spiffe_id":"spiffe://…","hint":"…","expires_at":1800000000,"token":"…"}…]}`, or one
/// token on each line.
#[derive(Serialize)]
struct Tokens {
    svids: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    spiffe_id: String,
    hint: String,
    /// Seconds since 1970; 0 if the token does not say.
    expires_at: i64,
    token: String,
}

impl From<Witsvid> for Token {
    fn from(wire: Witsvid) -> Self {
        let claims = jws::claims(&wire.wit_svid).unwrap_or_default();
        Self {
            spiffe_id: wire.spiffe_id,
            hint: wire.hint,
            expires_at: jws::expires_at(&claims).unwrap_or_default(),
            token: wire.wit_svid,
        }
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens: Vec<_> = self.svids.iter().map(|svid| svid.token.as_str()).collect();
        f.write_str(&tokens.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn svid() -> Witsvid {
        Witsvid {
            spiffe_id: "spiffe://a.org/x".into(),
            wit_svid: "e30.e30.c2ln".into(),
            wit_svid_key: "{}".into(),
            hint: "main".into(),
        }
    }

    #[test]
    fn the_key_goes_into_a_file_for_the_owner_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[svid()]).unwrap();
        let key = dir.path().join("wit.0.jwk");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(key).unwrap(), "{}");
        assert_eq!(fs::read_to_string(dir.path().join("wit.0.jwt")).unwrap(), "e30.e30.c2ln");
        let shown = Tokens { svids: vec![svid().into()] };
        assert_eq!(shown.to_string(), "e30.e30.c2ln");
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            r#"{"svids":[{"spiffe_id":"spiffe://a.org/x","hint":"main","expires_at":0,"#.to_owned()
                + r#""token":"e30.e30.c2ln"}]}"#
        );
    }
}
