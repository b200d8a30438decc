//! `claviger ci psk`.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose, Run};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::Calling;
use crate::ci::github::{self, Handover};
use crate::ci::key::{Key, Wanted};
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::{files, times};

#[derive(Args, Debug)]
pub(crate) struct Psk {
    #[command(flatten)]
    calling: Calling,

    /// The SPIFFE ID of the server to connect to
    #[arg(long, value_name = "ID")]
    peer: SpiffeId,

    /// What the connection is for, as the policy knows it
    #[arg(long, value_name = "WORD")]
    purpose: Purpose,

    /// How long the key waits to be used, at most 300
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = ttl)]
    ttl: PskTtl,

    /// Which identity is to be the client, if the token earns several
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Writes the key, in hexadecimal, to `psk.key` and its name to `psk.identity` in this directory,
    /// for the owner only
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    handover: Handover,
}

/// `{"identity":"p1.…","key":"hex","client_id":"spiffe://…","server_id":"spiffe://…",`
/// `"purpose":"…","run":"github:8412:1","not_after":1800000000}`.
#[derive(Serialize)]
struct Given {
    identity: String,
    #[serde(serialize_with = "in_clear")]
    key: Zeroizing<String>,
    client_id: SpiffeId,
    server_id: SpiffeId,
    purpose: Purpose,
    /// Null if the token names no run.
    run: Option<Run>,
    /// Seconds since 1970.
    not_after: u64,
}

impl Psk {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let (server, tokens) = (self.calling.server.open()?, self.calling.token.open()?);
        let wanted = Wanted {
            peer: &self.peer,
            purpose: &self.purpose,
            ttl_seconds: self.ttl,
            spiffe_id: self.spiffe_id.as_ref(),
        };
        let asking = wanted.get(&server, &tokens, self.calling.patience);
        let given = Given::from(console.watch("asking the server", asking).await?);
        // Before anything else is printed.
        github::mask(&given.key);
        self.hand_over(&given, console)?;
        let end = times::show_unsigned(given.not_after);
        let run =
            given.run.as_ref().map(|run| format!(", in the run {run} only")).unwrap_or_default();
        console::remark(format_args!("the key works once, until {end}{run}"));
        Ok(())
    }

    fn hand_over(&self, given: &Given, console: Console) -> Result<(), Failure> {
        let key_file;
        let key = match &self.dir {
            None => ("CLAVIGER_PSK", given.key.as_str()),
            Some(dir) => {
                key_file = write(dir, given)?;
                ("CLAVIGER_PSK_FILE", key_file.as_str())
            }
        };
        if console.format() == Format::Json && !self.handover.is_elsewhere() {
            return console.answer(given);
        }
        let end = given.not_after.to_string();
        let (client, server) = (given.client_id.to_string(), given.server_id.to_string());
        self.handover.give(&[
            ("CLAVIGER_PSK_IDENTITY", &given.identity),
            key,
            ("CLAVIGER_PSK_CLIENT_ID", &client),
            ("CLAVIGER_PSK_SERVER_ID", &server),
            ("CLAVIGER_PSK_RUN", given.run.as_ref().map_or("", Run::as_str)),
            ("CLAVIGER_PSK_EXPIRES_AT", &end),
        ])
    }
}

/// Writes key and identity to files; the name of the key's.
fn write(dir: &PathBuf, given: &Given) -> Result<String, Failure> {
    fs::create_dir_all(dir).map_err(|error| {
        Failure::failed(format_args!("cannot make the directory `{}`: {error}", dir.display()))
    })?;
    let key = dir.join("psk.key");
    files::replace(&key, given.key.as_bytes(), files::SECRET)?;
    files::replace(&dir.join("psk.identity"), given.identity.as_bytes(), files::SECRET)?;
    Ok(key.display().to_string())
}

impl From<Key> for Given {
    fn from(key: Key) -> Self {
        let Key { identity, psk, binding } = key;
        Self {
            identity: identity.to_string(),
            key: Zeroizing::new(hex::encode(psk.0.expose())),
            client_id: binding.client,
            server_id: binding.server,
            purpose: binding.purpose,
            run: binding.run,
            not_after: binding.not_after.as_secs(),
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity)
    }
}

/// This command is there to show the key.
fn in_clear<S: Serializer>(key: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(key)
}

fn ttl(text: &str) -> Result<PskTtl, String> {
    let secs: u32 = text.parse().map_err(|error| format!("{error}"))?;
    secs.try_into().map_err(|error| format!("{error}"))
}
