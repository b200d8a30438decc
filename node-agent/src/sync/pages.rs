//! From the server's messages to updates.

use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::TrustDomain;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_proto::convert::FieldError;
use claviger_proto::spire::types;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::BundleError;
use tonic::Status;
use tracing::error;

use crate::credentials::{Cursor, FederatedUpdate, Update};
use crate::server::{Said, is_rejection};
use crate::standings::TooManyStandings;

/// Collects the pages of a snapshot, which is applied as a whole.
#[derive(Debug)]
pub(super) struct Pages {
    max_entries: usize,
    begun: Option<Update>,
}

impl Pages {
    pub(super) fn new(max_entries: usize) -> Self {
        Self { max_entries, begun: None }
    }

    /// Takes in one page; the update, if it is complete.
    pub(super) fn push(
        &mut self,
        page: wire::SubscribeResponse,
        trust_domain: &TrustDomain,
    ) -> Result<Option<Update>, SyncError> {
        let more = page.more;
        let update = match (self.begun.take(), parse(page, trust_domain)?) {
            (None, first) => first,
            (Some(begun), next) => join(begun, next),
        };
        if self.max_entries < update.upserts.len() {
            return Err(SyncError::TooManyEntries(self.max_entries));
        }
        if more {
            self.begun = Some(update);
            return Ok(None);
        }
        Ok(Some(update))
    }
}

/// The next page belongs to the same update.
fn join(mut begun: Update, next: Update) -> Update {
    begun.cursor = next.cursor;
    begun.snapshot |= next.snapshot;
    begun.upserts.extend(next.upserts);
    begun.deletes.extend(next.deletes);
    begun.bundle = next.bundle.or(begun.bundle);
    begun.revoked = next.revoked.or(begun.revoked);
    begun.federated = match (begun.federated, next.federated) {
        (Some(begun), Some(next)) => Some(join_federated(begun, next)),
        (begun, next) => begun.or(next),
    };
    begun
}

fn parse(page: wire::SubscribeResponse, trust_domain: &TrustDomain) -> Result<Update, SyncError> {
    let changes =
        page.snapshot || page.more || !page.upserts.is_empty() || !page.deletes.is_empty();
    if changes && page.cursor.is_none() {
        return Err(SyncError::NoCursor);
    }
    let bundle = page.bundle.map(Bundle::try_from).transpose()?;
    if let Some(bundle) = &bundle
        && bundle.trust_domain != *trust_domain
    {
        return Err(SyncError::ForeignBundle(bundle.trust_domain.clone()));
    }
    let revoked = page.revoked.map(|revoked| revoked.lists);
    let federated = page.federated.map(|wire| parse_federated(wire, trust_domain));
    let mut upserts = Vec::with_capacity(page.upserts.len());
    let mut deletes = Vec::with_capacity(page.deletes.len());
    for id in page.deletes {
        match id.parse() {
            Ok(id) => deletes.push(id),
            Err(_no_id) => {
                error!(entry = id.escape_debug().to_string(), "a deleted entry has no sound id");
            }
        }
    }
    for wire in page.upserts {
        match entry(wire, trust_domain) {
            Ok(entry) => upserts.push(entry),
            // What it was before it became unreadable must not be served on.
            Err((id, why)) => {
                error!(entry = ?id, error = why, "an entry from the server is not understood");
                deletes.extend(id);
            }
        }
    }
    let cursor = page.cursor.map(|wire::Cursor { log_id, sequence }| Cursor { log_id, sequence });
    Ok(Update {
        cursor,
        snapshot: page.snapshot,
        upserts,
        deletes,
        bundle,
        federated,
        revoked,
        svids: Vec::new(),
        wits: Vec::new(),
    })
}

fn join_federated(mut begun: FederatedUpdate, next: FederatedUpdate) -> FederatedUpdate {
    begun.snapshot |= next.snapshot;
    begun.upserts.extend(next.upserts);
    begun.deletes.extend(next.deletes);
    begun
}

/// What is not understood is deleted: what it was before must not be believed on. The trust
/// domain's own bundle never comes this way.
fn parse_federated(wire: wire::FederatedBundles, own: &TrustDomain) -> FederatedUpdate {
    let domain = |name: &str| name.parse().ok().filter(|domain: &TrustDomain| domain != own);
    let mut update = FederatedUpdate {
        snapshot: wire.snapshot,
        upserts: Vec::new(),
        deletes: wire.deletes.iter().filter_map(|name| domain(name)).collect(),
    };
    for bundle in wire.upserts {
        let of = domain(&bundle.trust_domain);
        match (of, Bundle::try_from(bundle)) {
            (Some(_), Ok(bundle)) => update.upserts.push(bundle),
            (of, Err(error)) => {
                error!(trust_domain = ?of, %error, "a federated bundle is not understood");
                update.deletes.extend(of);
            }
            (None, Ok(_)) => error!("the server sent its own bundle as a federated one"),
        }
    }
    update
}

fn entry(
    wire: types::Entry,
    trust_domain: &TrustDomain,
) -> Result<Entry, (Option<EntryId>, String)> {
    let id = wire.id.parse().ok();
    match Entry::try_from(wire) {
        Ok(entry) => match entry.check(trust_domain) {
            Ok(()) => Ok(entry),
            Err(error) => Err((id, error.to_string())),
        },
        Err(error) => Err((id, error.to_string())),
    }
}

/// Why the agent does not hear from the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error("there is no way to the server yet")]
    NoLink,
    #[error("the server did not answer in time")]
    Late,
    #[error("the server refused or was lost")]
    Server(#[source] Status),
    #[error("the server ended the stream")]
    Closed,
    #[error("the server's changes have no cursor")]
    NoCursor,
    #[error("the server's bundle is malformed")]
    Field(#[from] FieldError),
    #[error("the server's bundle is that of `{0}`")]
    ForeignBundle(TrustDomain),
    #[error("the server's bundle is unusable")]
    Bundle(#[source] BundleError),
    #[error(transparent)]
    Standings(#[from] TooManyStandings),
    #[error("the server sends more than {0} entries; raise `limits.entries` or delegate fewer")]
    TooManyEntries(usize),
}

impl SyncError {
    /// Whether the server refuses this agent.
    pub(super) fn is_rejection(&self) -> bool {
        matches!(self, Self::Server(status) if is_rejection(status))
    }

    /// What to say about it in one line.
    pub(super) fn said(&self) -> String {
        if let Self::Server(status) = self {
            return Said(status).to_string();
        }
        Chain(self).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::entry as some_entry;

    fn page(sequence: u64, entries: &[&str]) -> wire::SubscribeResponse {
        let cursor = Some(wire::Cursor { log_id: vec![1; 16], sequence });
        let upserts = entries.iter().map(|id| (&some_entry(id, &["unix:uid:1"])).into()).collect();
        wire::SubscribeResponse { cursor, upserts, ..wire::SubscribeResponse::default() }
    }

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn ids(update: &Update) -> Vec<&str> {
        update.upserts.iter().map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn pages_become_one_update() {
        let mut pages = Pages::new(9);
        let first = wire::SubscribeResponse { snapshot: true, more: true, ..page(3, &["a", "b"]) };
        assert!(pages.push(first, &domain()).unwrap().is_none());
        let last = wire::SubscribeResponse { snapshot: true, ..page(4, &["c"]) };
        let update = pages.push(last, &domain()).unwrap().unwrap();
        assert!(update.snapshot);
        assert_eq!(ids(&update), ["a", "b", "c"]);
        assert_eq!(update.cursor.unwrap().sequence, 4);

        let update = pages.push(page(5, &["d"]), &domain()).unwrap().unwrap();
        assert!(!update.snapshot);
        assert_eq!(ids(&update), ["d"]);
    }

    #[test]
    fn a_page_without_changes_needs_no_cursor() {
        let only_checkpoint = wire::SubscribeResponse::default();
        let update = Pages::new(9).push(only_checkpoint, &domain()).unwrap().unwrap();
        assert_eq!(update.cursor, None);
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_taken_back() {
        let mut wire = page(1, &["good", "foreign", "broken"]);
        wire.upserts[1].spiffe_id.as_mut().unwrap().trust_domain = "other.org".to_owned();
        wire.upserts[2].selectors[0].value.clear();
        let update = Pages::new(9).push(wire, &domain()).unwrap().unwrap();
        assert_eq!(ids(&update), ["good"]);
        let deletes: Vec<_> = update.deletes.iter().map(EntryId::as_str).collect();
        assert_eq!(deletes, ["foreign", "broken"]);
    }

    #[test]
    fn what_cannot_be_applied_ends_the_stream() {
        let no_cursor = wire::SubscribeResponse { cursor: None, ..page(1, &["a"]) };
        let foreign =
            types::Bundle { trust_domain: "other.org".to_owned(), ..types::Bundle::default() };
        let foreign = wire::SubscribeResponse { bundle: Some(foreign), ..page(1, &[]) };
        for (bad, message) in [
            (no_cursor, "the server's changes have no cursor"),
            (foreign, "the server's bundle is that of `other.org`"),
            (
                page(1, &["a", "b"]),
                "the server sends more than 1 entries; raise `limits.entries` or delegate fewer",
            ),
        ] {
            let error = Pages::new(1).push(bad, &domain()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
