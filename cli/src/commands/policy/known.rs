//! Identities beyond those that stand beside the policies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_proto::spire::server::entry::v1::ListEntriesRequest;
use claviger_proto::spire::types;
use serde::Deserialize;

use crate::admin::{self, Server};
use crate::console::Console;
use crate::failure::Failure;
use crate::files;
use crate::socket::AdminSocket;

/// The largest file of entries, in bytes.
const MOST: u64 = 64 << 20;

#[derive(Args, Clone, Debug)]
pub(super) struct Known {
    /// A file of entries, as `claviger entry show --output json` prints them: their identities count,
    /// too
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    entries: Option<PathBuf>,

    /// Ask a server for its entries: their identities count, too
    #[arg(long)]
    live: bool,

    #[command(flatten)]
    socket: AdminSocket,
}

/// Of a file of entries, all that matters here.
#[derive(Debug, Deserialize)]
struct File {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    spiffe_id: SpiffeId,
}

impl Known {
    /// The identities of the entries that were named; none if none were.
    pub(super) async fn identities(&self, console: Console) -> Result<Vec<SpiffeId>, Failure> {
        let ids: BTreeSet<SpiffeId> = match &self.entries {
            Some(path) => {
                let file = files::read(path, MOST)?;
                let file: File = serde_json::from_slice(&file).map_err(|error| {
                    Failure::usage(format_args!("`{}`: {error}", path.display()))
                })?;
                file.entries.into_iter().map(|entry| entry.spiffe_id).collect()
            }
            None if self.live => {
                let server = Server::connect(&self.socket, console).await?;
                let entries = entries(&server).await?;
                entries.into_iter().filter_map(|entry| id(entry.spiffe_id.as_ref()?)).collect()
            }
            None => BTreeSet::new(),
        };
        Ok(ids.into_iter().collect())
    }
}

async fn entries(server: &Server) -> Result<Vec<types::Entry>, Failure> {
    admin::pages(async |page_token| {
        let request =
            ListEntriesRequest { filter: None, output_mask: None, page_size: 0, page_token };
        let page = server.ask("list entries", server.entries().list_entries(request)).await?;
        Ok((page.entries, page.next_page_token))
    })
    .await
}

fn id(wire: &types::Spiffeid) -> Option<SpiffeId> {
    SpiffeId::new(wire.trust_domain.parse().ok()?, &wire.path).ok()
}
