//! `claviger entry create`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use claviger_core::entry::EntryId;
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selector;
use claviger_proto::claviger::admin::v1::WaitForEntriesRequest;
use claviger_proto::spire::server::agent::v1::{ListAgentsRequest, list_agents_request};
use claviger_proto::spire::server::entry::v1::{
    BatchCreateEntryRequest, batch_create_entry_response,
};
use claviger_proto::spire::types;

use super::document;
use super::federation;
use super::fields::Fields;
use super::listing::{Listing, Spread};
use crate::admin::{self, Server};
use crate::commands::selection;
use crate::console::Console;
use crate::failure::Failure;
use crate::files;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The identity it gives
    #[arg(long, alias = "spiffeID", value_name = "ID", required_unless_present = "data")]
    spiffe_id: Option<SpiffeId>,

    /// The agent or node alias that may serve it; the only attested agent if not given
    #[arg(long, alias = "parentID", value_name = "ID")]
    parent_id: Option<SpiffeId>,

    /// It is for nodes, not for processes: the selectors are those of an attested agent
    #[arg(long, conflicts_with = "parent_id")]
    node: bool,

    /// A name for the entry; the server makes one up if not given
    #[arg(long, alias = "entryID", value_name = "ID")]
    entry_id: Option<EntryId>,

    /// A fact that the process must show, such as `unix:uid:1000`; repeat it for more, all must hold
    #[arg(long = "selector", value_name = "KIND:VALUE", required_unless_present = "data")]
    selectors: Vec<Selector>,

    #[command(flatten)]
    fields: Fields,

    /// Adds the entries of a JSON file as SPIRE's, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spiffe_id", "parent_id", "node", "entry_id", "selectors", "Fields"])]
    data: Option<PathBuf>,

    /// Returns when every agent concerned serves it, or fails after so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    wait: Option<u32>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Create {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let wait = self.wait;
        let mut entries = match &self.data {
            Some(path) => read(path)?,
            None => vec![self.entry()],
        };
        if entries.iter().any(|entry| entry.parent_id.is_none()) {
            let agent = only_agent(&server).await?;
            for entry in entries.iter_mut().filter(|entry| entry.parent_id.is_none()) {
                entry.parent_id = Some(agent.clone());
            }
        }
        let (created, refusal) = create(&server, entries).await?;
        let mut listing = Listing::of(&created);
        let late = match wait {
            Some(secs) if !created.is_empty() => {
                let spread = spread(&server, &created, secs).await?;
                let late = late(&spread, secs);
                listing.spread = Some(spread);
                late
            }
            _ => None,
        };
        if !created.is_empty() {
            console.answer(&listing)?;
        }
        federation::warn(&server, &created).await?;
        refusal.or(late).map_or(Ok(()), Err)
    }

    /// The entry that the flags describe.
    fn entry(self) -> types::Entry {
        let server_id = |id: &SpiffeId| types::Spiffeid {
            trust_domain: id.trust_domain().as_str().to_owned(),
            path: "/spire/server".to_owned(),
        };
        let parent_id = match (&self.parent_id, self.node) {
            (Some(parent), _) => Some(parent.into()),
            (None, true) => self.spiffe_id.as_ref().map(server_id),
            (None, false) => None,
        };
        types::Entry {
            id: self.entry_id.map(String::from).unwrap_or_default(),
            spiffe_id: self.spiffe_id.as_ref().map(Into::into),
            parent_id,
            selectors: self.selectors.iter().map(Into::into).collect(),
            ..self.fields.into()
        }
    }
}

/// The entries in a file.
fn read(path: &Path) -> Result<Vec<types::Entry>, Failure> {
    /// More than a server would take, and no more than fits the memory of any machine.
    const MAX_BYTES: u64 = 64 << 20;

    let shown = path.display();
    let text = files::read(path, MAX_BYTES)?;
    let file: document::File = serde_json::from_slice(&text).map_err(|error| {
        Failure::usage(format_args!("`{shown}` is no file of entries: {error}"))
            .try_this("write `{\"entries\":[…]}` as `claviger entry show --output json` prints it")
    })?;
    let entry = |(at, document)| {
        types::Entry::try_from(document)
            .map_err(|error| Failure::usage(format_args!("`{shown}`: entries[{at}]: {error}")))
    };
    file.entries.into_iter().enumerate().map(entry).collect()
}

/// The agent that an entry without a parent goes under.
async fn only_agent(server: &Server) -> Result<types::Spiffeid, Failure> {
    let request = ListAgentsRequest {
        filter: Some(list_agents_request::Filter {
            by_banned: Some(false),
            ..list_agents_request::Filter::default()
        }),
        output_mask: Some(types::AgentMask::default()),
        // Two are enough to know that there is not one.
        page_size: 2,
        page_token: String::new(),
    };
    let page = server.ask("look for an agent", server.agents().list_agents(request)).await?;
    let ids: Vec<_> = page.agents.into_iter().filter_map(|agent| agent.id).collect();
    match (ids.as_slice(), page.next_page_token.is_empty()) {
        ([only], true) => Ok(only.clone()),
        ([], true) => Err(Failure::usage("no agent is attested, so there is no parent to choose")
            .try_this("start an agent, or name its SPIFFE ID with --parent-id beforehand")),
        _ => Err(Failure::usage("several agents are attested, so the parent is not clear")
            .try_this("choose one of `claviger agent list` with --parent-id")),
    }
}

/// The entries that were created, and the first refusal; further ones are told right away.
async fn create(
    server: &Server,
    entries: Vec<types::Entry>,
) -> Result<(Vec<types::Entry>, Option<Failure>), Failure> {
    /// Few enough for one message, enough that the way there does not count.
    const BATCH: usize = 500;

    let (mut created, mut refusal) = (Vec::new(), None);
    for batch in entries.chunks(BATCH) {
        let request = BatchCreateEntryRequest { entries: batch.to_vec(), output_mask: None };
        let answer =
            server.ask("create entries", server.entries().batch_create_entry(request)).await?;
        for (asked, result) in batch.iter().zip(answer.results) {
            match outcome(asked, result) {
                Ok(entry) => created.push(entry),
                Err(failure) if refusal.is_none() => refusal = Some(failure),
                Err(failure) => drop(failure.report()),
            }
        }
    }
    Ok((created, refusal))
}

fn outcome(
    asked: &types::Entry,
    result: batch_create_entry_response::Result,
) -> Result<types::Entry, Failure> {
    let doing = format!("create the entry for {}", selection::spiffe_id(asked.spiffe_id.as_ref()));
    let existing = result.entry.as_ref().map(|entry| entry.id.clone()).unwrap_or_default();
    admin::item(&doing, result.status).map_err(|failure| match existing.as_str() {
        "" => failure,
        id => failure.try_this(format_args!(
            "look at the entry that is there: claviger entry show --entry-id {id}"
        )),
    })?;
    Ok(result.entry.unwrap_or_default())
}

async fn spread(server: &Server, created: &[types::Entry], secs: u32) -> Result<Spread, Failure> {
    /// For the way there and back.
    const GRACE: Duration = Duration::from_secs(10);

    let request = WaitForEntriesRequest {
        entry_ids: created.iter().map(|entry| entry.id.clone()).collect(),
        timeout_ms: secs.saturating_mul(1_000),
    };
    let deadline = Duration::from_secs(secs.into()).saturating_add(GRACE);
    let mut admin = server.admin();
    let waiting = admin.wait_for_entries(request);
    let answer = server.ask_for(deadline, "wait for the agents", waiting).await?;
    Ok(Spread { reached: answer.reached, pending: answer.pending })
}

/// Agents that are not connected are not waited for.
fn late(spread: &Spread, secs: u32) -> Option<Failure> {
    let pending = spread.pending.join(", ");
    (!pending.is_empty()).then(|| {
        Failure::failed(format_args!("not yet served after {secs} s by {pending}"))
            .try_this("look at the agent's log; the entry stays, and is served once it gets there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_in_vain_is_a_failure() {
        let spread = |reached: &[&str], pending: &[&str]| Spread {
            reached: reached.iter().map(ToString::to_string).collect(),
            pending: pending.iter().map(ToString::to_string).collect(),
        };
        assert!(late(&spread(&["spiffe://a/x"], &[]), 10).is_none());
        let told = late(&spread(&["spiffe://a/x"], &["spiffe://a/y"]), 10).unwrap().to_string();
        assert!(told.contains("spiffe://a/y") && told.contains("10 s"), "{told}");
        assert!(late(&spread(&[], &[]), 10).is_none(), "nobody to wait for");
    }

    #[test]
    fn a_file_that_is_none_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entries.json");
        let missing = read(&path).unwrap_err().to_string();
        assert!(missing.contains("entries.json"), "{missing}");
        std::fs::write(&path, r#"{"entries":[{"spiffe_id":"x"}]}"#).unwrap();
        let bad = read(&path).unwrap_err().to_string();
        assert!(bad.contains("entries[0]: spiffe_id `x`"), "{bad}");
    }
}
