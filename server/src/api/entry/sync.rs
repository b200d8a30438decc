//! How SPIRE's agents keep up: all entries if they fit on one page, or else their revisions, and then
//! those that the agent asks for.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use claviger_proto::convert::entries;
use claviger_proto::spire::server::entry::v1::{
    EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
};
use claviger_proto::spire::types::{self, EntryMask};
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tonic::{Status, Streaming};

use crate::registry::Packed;

/// The stream of answers.
pub(super) type Responses =
    Pin<Box<dyn Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send>>;

/// The most entries or revisions on one page, as with SPIRE.
const PAGE: usize = 500;

/// Answers an agent's `requests` about the entries it is authorized for.
pub(super) fn answer(
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    authorized: Vec<Packed>,
) -> Responses {
    let conversation = Conversation { authorized, mask: None, began: false };
    let state = (requests, conversation, VecDeque::new());
    Box::pin(try_unfold(state, |(mut requests, mut conversation, mut pages)| async move {
        loop {
            if let Some(page) = pages.pop_front() {
                return Ok(Some((page, (requests, conversation, pages))));
            }
            match requests.message().await? {
                Some(request) => pages = conversation.answer(&request)?,
                None => return Ok(None),
            }
        }
    }))
}

struct Conversation {
    authorized: Vec<Packed>,
    mask: Option<EntryMask>,
    began: bool,
}

type Pages = VecDeque<SyncAuthorizedEntriesResponse>;

impl Conversation {
    fn answer(&mut self, request: &SyncAuthorizedEntriesRequest) -> Result<Pages, Status> {
        if self.began {
            return Ok(self.named(&request.ids));
        }
        if !request.ids.is_empty() {
            return Err(Status::invalid_argument("ids: must be empty in the first request"));
        }
        self.began = true;
        // Without revisions the agent could not tell what is new to it.
        self.mask = request.output_mask.map(|mask| EntryMask { revision_number: true, ..mask });
        if self.authorized.len() <= PAGE {
            return Ok(self.entries(&self.authorized.iter().collect::<Vec<_>>()));
        }
        let revisions: Vec<_> = self.authorized.iter().map(revision).collect();
        Ok(pages(&revisions, |entry_revisions, more| SyncAuthorizedEntriesResponse {
            entry_revisions,
            entries: Vec::new(),
            more,
        }))
    }

    /// Those entries of the agent's that it names; what is not its own is left out.
    fn named(&self, ids: &[String]) -> Pages {
        let all = self.authorized.iter().map(|entry| (entry.to_wire().id, entry));
        let all: HashMap<_, _> = all.collect();
        self.entries(&ids.iter().filter_map(|id| all.get(id).copied()).collect::<Vec<_>>())
    }

    fn entries(&self, entries: &[&Packed]) -> Pages {
        let mask = self.mask.as_ref();
        let wire: Vec<_> =
            entries.iter().map(|entry| entries::select(entry.to_wire(), mask)).collect();
        pages(&wire, |entries, more| SyncAuthorizedEntriesResponse {
            entry_revisions: Vec::new(),
            entries,
            more,
        })
    }
}

fn revision(entry: &Packed) -> EntryRevision {
    let entry = entry.to_wire();
    let types::Entry { id, revision_number, created_at, .. } = entry;
    EntryRevision { id, revision_number, created_at }
}

/// `items` in pages, at least one.
fn pages<T: Clone>(
    items: &[T],
    page: impl Fn(Vec<T>, bool) -> SyncAuthorizedEntriesResponse,
) -> Pages {
    if items.is_empty() {
        return Pages::from([page(Vec::new(), false)]);
    }
    let last = items.len().div_ceil(PAGE).saturating_sub(1);
    items.chunks(PAGE).enumerate().map(|(at, chunk)| page(chunk.to_vec(), at < last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(count: usize) -> Pages {
        pages(&vec![EntryRevision::default(); count], |entry_revisions, more| {
            SyncAuthorizedEntriesResponse { entry_revisions, entries: Vec::new(), more }
        })
    }

    #[test]
    fn every_page_but_the_last_says_that_more_follows() {
        let shape = |count| -> Vec<_> {
            revisions(count).iter().map(|page| (page.entry_revisions.len(), page.more)).collect()
        };
        assert_eq!(shape(0), [(0, false)]);
        assert_eq!(shape(500), [(500, false)]);
        assert_eq!(shape(1_001), [(500, true), (500, true), (1, false)]);
    }
}
