//! `claviger entry`: who is entitled to which identity.

mod create;
mod document;
mod federation;
mod fields;
mod filter;
mod listing;

use clap::{Args, Subcommand};
use claviger_core::entry::EntryId;
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selector;
use claviger_proto::spire::server::entry::v1::{
    BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest, GetEntryRequest,
    ListEntriesRequest,
};
use claviger_proto::spire::types;
use serde::Serialize;

use crate::admin::{self, Server};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use fields::Fields;
use filter::Filter;
use listing::Listing;

/// Says which process is entitled to which identity
#[derive(Debug, Subcommand)]
#[command(long_about = "Says which process is entitled to which identity.\n\n\
                  An entry reads: under this parent (an agent), a process with all of these \
                  selectors has this SPIFFE ID.")]
pub(crate) enum Command {
    /// Adds an entry
    #[command(long_about = "Adds an entry. Without --parent-id it goes under the only attested \
        agent.\n\n\
        Example:\n  claviger entry create --spiffe-id spiffe://example.org/web \\\n    \
        --selector unix:uid:1000 --selector unix:path:/usr/bin/web --wait")]
    Create(Box<create::Create>),
    /// Lists entries
    #[command(long_about = "Lists entries: all of them, one by its id, or those that fit every \
        filter.\n\n\
        Example:\n  claviger entry show --spiffe-id spiffe://example.org/web")]
    Show(Show),
    /// Replaces an entry
    #[command(long_about = "Replaces an entry: what is not said is unset, as with SPIRE.\n\n\
        Example:\n  claviger entry update --entry-id 5a1c… --spiffe-id spiffe://example.org/web \
        \\\n    --parent-id spiffe://example.org/spire/agent/join_token/… --selector unix:uid:1001")]
    Update(Box<Update>),
    /// Removes entries
    #[command(long_about = "Removes entries. The agents concerned stop serving their SVIDs at \
        once.\n\n\
        Example:\n  claviger entry delete --entry-id 5a1c…")]
    Delete(Delete),
    /// Counts entries
    #[command(long_about = "Counts entries: all of them, or those that fit every filter.\n\n\
        Example:\n  claviger entry count --selector unix:uid:1000")]
    Count(Count),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(console).await,
            Self::Show(show) => show.run(console).await,
            Self::Update(update) => update.run(console).await,
            Self::Delete(delete) => delete.run(console).await,
            Self::Count(count) => count.run(console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Only the entry with this id
    #[arg(long, alias = "entryID", value_name = "ID", conflicts_with = "Filter")]
    entry_id: Option<EntryId>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    socket: AdminSocket,
}

impl Show {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let found = match &self.entry_id {
            Some(id) => vec![one(&server, id).await?],
            None => matching(&server, &self.filter).await?,
        };
        console.answer(&Listing::of(&found))
    }
}

async fn one(server: &Server, id: &EntryId) -> Result<types::Entry, Failure> {
    let request = GetEntryRequest { id: id.to_string(), output_mask: None };
    server.ask(&format!("show entry `{id}`"), server.entries().get_entry(request)).await
}

async fn matching(server: &Server, filter: &Filter) -> Result<Vec<types::Entry>, Failure> {
    admin::pages(async |page_token| {
        let filter = Some(filter.to_list());
        let request = ListEntriesRequest { filter, output_mask: None, page_size: 0, page_token };
        let page = server.ask("list entries", server.entries().list_entries(request)).await?;
        Ok((page.entries, page.next_page_token))
    })
    .await
}

#[derive(Args, Debug)]
pub(crate) struct Update {
    /// Which entry to replace
    #[arg(long, alias = "entryID", value_name = "ID")]
    entry_id: EntryId,
    /// The agent, node alias or server that the entry is delegated to
    #[arg(long, alias = "parentID", value_name = "ID")]
    parent_id: SpiffeId,
    /// The identity it gives
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: SpiffeId,
    /// A fact that the process must show, such as `unix:uid:1000`; repeat it for more, all must hold
    #[arg(long = "selector", value_name = "KIND:VALUE", required = true)]
    selectors: Vec<Selector>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    socket: AdminSocket,
}

impl Update {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let doing = format!("update entry `{}`", self.entry_id);
        let entry = types::Entry {
            id: self.entry_id.to_string(),
            spiffe_id: Some((&self.spiffe_id).into()),
            parent_id: Some((&self.parent_id).into()),
            selectors: self.selectors.iter().map(Into::into).collect(),
            ..self.fields.into()
        };
        let request =
            BatchUpdateEntryRequest { entries: vec![entry], input_mask: None, output_mask: None };
        let answer = server.ask(&doing, server.entries().batch_update_entry(request)).await?;
        let result = admin::only(&doing, answer.results)?;
        admin::item(&doing, result.status)?;
        console.answer(&Listing::of(result.entry.as_slice()))?;
        federation::warn(&server, result.entry.as_slice()).await
    }
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Which entry to remove; may be repeated
    #[arg(long = "entry-id", alias = "entryID", value_name = "ID", required = true)]
    entry_ids: Vec<EntryId>,
    #[command(flatten)]
    socket: AdminSocket,
}

impl Delete {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = BatchDeleteEntryRequest {
            ids: self.entry_ids.iter().map(ToString::to_string).collect(),
        };
        let answer =
            server.ask("delete entries", server.entries().batch_delete_entry(request)).await?;
        let mut deleted = Deleted::default();
        let mut refusal = None;
        for result in answer.results {
            match admin::item(&format!("delete entry `{}`", result.id), result.status) {
                Ok(()) => deleted.deleted.push(result.id),
                Err(failure) if refusal.is_none() => refusal = Some(failure),
                Err(failure) => console::remark(failure),
            }
        }
        if !deleted.deleted.is_empty() {
            console.answer(&deleted)?;
        }
        refusal.map_or(Ok(()), Err)
    }
}

/// `{"deleted":["5a1c…"]}`.
#[derive(Debug, Default, Serialize)]
struct Deleted {
    deleted: Vec<String>,
}

impl std::fmt::Display for Deleted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<_> = self.deleted.iter().map(|id| format!("deleted entry {id}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Count {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    socket: AdminSocket,
}

impl Count {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = CountEntriesRequest { filter: Some(self.filter.to_count()) };
        let answer = server.ask("count entries", server.entries().count_entries(request)).await?;
        console.answer(&console::Count { count: answer.count, one: "entry", many: "entries" })
    }
}
