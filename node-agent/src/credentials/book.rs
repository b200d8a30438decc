//! Which entries there are, which SVID each has, and what is to be done next. Time is an argument.

mod left_out;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::TrustDomain;
use claviger_core::reason::Reason;
use claviger_core::time::UnixTime;
use tracing::{error, warn};

use super::{Cursor, FederatedUpdate, Identity, ServedBundle, Snapshot, Update, WorkloadSvid};

/// The most SVIDs in one request.
const BATCH: usize = 500;

/// The most other trust domains.
const MAX_FEDERATED: usize = 1_000;

/// The pauses after an entry's failures: 1, 2, 4 … 60 seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

pub(crate) use left_out::LeftOut;

use left_out::AllLeftOut;

/// Entries and their SVIDs.
#[derive(Debug)]
pub(crate) struct Book {
    limit: usize,
    held: BTreeMap<EntryId, Held>,
    left_out: AllLeftOut,
    /// Our own trust domain's.
    bundle: Option<Arc<ServedBundle>>,
    federated: BTreeMap<TrustDomain, Arc<ServedBundle>>,
    cursor: Option<Cursor>,
    /// Whether what can be given out changed since somebody asked.
    changed: bool,
}

/// An entry and how far we are with it.
#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    svid: Option<Arc<WorkloadSvid>>,
    /// When to ask for an SVID.
    due: UnixTime,
    /// Whether one was asked for and did not come yet.
    asked: bool,
    failures: u32,
    /// Whether the last failure was that nobody answered.
    unanswered: bool,
    /// What the server said when it last refused an SVID, until it gives one.
    refusal: Option<Arc<str>>,
    /// The change that brought the entry, until the first answer about its SVID.
    unsettled: Option<u64>,
}

/// What came of asking for an SVID for an entry.
pub(super) type Answer = (Arc<Entry>, Result<WorkloadSvid, NotIssued>);

/// Why there is no SVID for an entry. It has been logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum NotIssued {
    /// The server does not want to, or its answer is of no use.
    Refused(Arc<str>),
    /// The server did not answer.
    Unanswered,
}

impl Book {
    /// A book with room for `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: BTreeMap::new(),
            left_out: AllLeftOut::default(),
            bundle: None,
            federated: BTreeMap::new(),
            cursor: None,
            changed: false,
        }
    }

    /// Takes in what the server says.
    pub(super) fn apply(&mut self, update: Update, now: UnixTime) {
        let Update { cursor, snapshot, upserts, deletes, bundle, federated } = update;
        if snapshot {
            let ids: BTreeSet<&EntryId> = upserts.iter().map(|entry| &entry.id).collect();
            self.held.retain(|id, _| ids.contains(id));
            self.left_out.retain(&ids);
            // Another log counts from another start.
            self.held.values_mut().for_each(|held| held.unsettled = None);
        }
        for id in deletes {
            self.held.remove(&id);
            self.left_out.remove(&id);
        }
        self.cursor = cursor.or_else(|| self.cursor.take());
        let sequence = self.cursor.as_ref().map_or(0, |cursor| cursor.sequence);
        for entry in upserts {
            self.upsert(entry, sequence, now);
        }
        if let Some(bundle) = bundle {
            self.replace_bundle(bundle, now);
        }
        if let Some(federated) = federated {
            self.apply_federated(federated);
        }
        // The server answers again: what failed because it did not is tried at once.
        self.held.values_mut().filter(|held| held.unanswered).for_each(|held| held.due = now);
        self.changed = true;
    }

    fn upsert(&mut self, entry: Entry, sequence: u64, now: UnixTime) {
        self.left_out.remove(&entry.id);
        if entry.store_svid {
            // Such an SVID is for a secret store, and never for whoever asks on the socket.
            self.held.remove(&entry.id);
            self.left_out.insert(Arc::new(entry), Reason::ForSecretStore);
            return;
        }
        let is_full = self.limit <= self.held.len();
        match self.held.get_mut(&entry.id) {
            Some(held) if *held.entry == entry => {}
            Some(held) => held.replace(entry, sequence, now),
            None if is_full => {
                error!(
                    entry = %entry.id,
                    limit = self.limit,
                    "too many entries for this agent, this one is left out; raise `limits.entries`"
                );
                self.left_out.insert(Arc::new(entry), Reason::OverEntryLimit);
            }
            None => {
                self.held.insert(entry.id.clone(), Held::new(entry, sequence, now));
            }
        }
    }

    /// An authority that is no longer secure takes along what it signed.
    fn replace_bundle(&mut self, bundle: Bundle, now: UnixTime) {
        let before = self.bundle.as_ref().map(|served| tainted(&served.bundle)).unwrap_or_default();
        if !tainted(&bundle).is_subset(&before) {
            warn!("an authority is tainted: every SVID is renewed now");
            self.held.values_mut().for_each(|held| held.due = now);
        }
        self.bundle = Some(Arc::new(bundle.into()));
    }

    fn apply_federated(&mut self, update: FederatedUpdate) {
        if update.snapshot {
            self.federated.clear();
        }
        for trust_domain in update.deletes {
            self.federated.remove(&trust_domain);
        }
        for bundle in update.upserts {
            let trust_domain = bundle.trust_domain.clone();
            if MAX_FEDERATED <= self.federated.len() && !self.federated.contains_key(&trust_domain)
            {
                error!(%trust_domain, limit = MAX_FEDERATED, "too many bundles, one is left out");
                continue;
            }
            self.federated.insert(trust_domain, Arc::new(bundle.into()));
        }
    }

    /// The next entries to ask for SVIDs for; none if nothing is due. They count as asked for.
    pub(super) fn take_due(&mut self, now: UnixTime) -> Vec<Arc<Entry>> {
        self.held
            .values_mut()
            .filter(|held| !held.asked && held.due <= now && !held.entry.expired(now))
            .take(BATCH)
            .map(|held| {
                held.asked = true;
                Arc::clone(&held.entry)
            })
            .collect()
    }

    /// Takes in what came of asking. `jitter` makes random numbers.
    pub(super) fn settle(
        &mut self,
        answers: Vec<Answer>,
        now: UnixTime,
        mut jitter: impl FnMut() -> u16,
    ) {
        for (entry, answer) in answers {
            // The entry may be gone or another by now.
            let held = self.held.get_mut(&entry.id).filter(|held| Arc::ptr_eq(&held.entry, &entry));
            let Some(held) = held else { continue };
            held.asked = false;
            held.unsettled = None;
            held.unanswered = matches!(answer, Err(NotIssued::Unanswered));
            match answer {
                Ok(svid) => {
                    self.changed = true;
                    held.failures = 0;
                    held.refusal = None;
                    // Should it be short-lived beyond reason, do not ask more than once a second.
                    held.due = svid.validity.renew_at(jitter()).max(now.after(FIRST_PAUSE));
                    held.svid = Some(Arc::new(svid));
                }
                Err(why) => {
                    if let NotIssued::Refused(said) = why
                        && held.refusal.as_ref() != Some(&said)
                    {
                        self.changed = true;
                        held.refusal = Some(said);
                    }
                    held.due = now.after(pause(held.failures));
                    held.failures = held.failures.saturating_add(1);
                }
            }
        }
    }

    /// How far every change has been applied: up to the first whose entries still wait for the
    /// answer about their SVIDs.
    pub(super) fn applied(&self) -> Option<Cursor> {
        let cursor = self.cursor.clone()?;
        let waiting = self.held.values().filter_map(|held| held.unsettled).min();
        let sequence = waiting.map_or(cursor.sequence, |first| first.saturating_sub(1));
        Some(Cursor { sequence, ..cursor })
    }

    /// When there is something to do next: an SVID to ask for, or one, or an entry, that ends.
    pub(super) fn next_event(&self) -> Option<UnixTime> {
        let of = |held: &Held| {
            let svid_ends = held.svid.as_ref().map(|svid| svid.validity.not_after.after(SECOND));
            let due = (!held.asked).then_some(held.due);
            [due, svid_ends, held.entry.expires_at].into_iter().flatten().min()
        };
        self.held.values().filter_map(of).min()
    }

    /// Drops what has ended: an expired SVID is never served.
    pub(super) fn drop_ended(&mut self, now: UnixTime) {
        for (_, ended) in self.held.extract_if(.., |_, held| held.entry.expired(now)) {
            self.changed = true;
            self.left_out.insert(ended.entry, Reason::EntryExpired);
        }
        for held in self.held.values_mut() {
            if held.svid.as_ref().is_some_and(|svid| svid.validity.not_after < now) {
                let Entry { id, spiffe_id, .. } = &*held.entry;
                warn!(entry = %id, id = %spiffe_id, "an SVID ended before it could be renewed");
                held.svid = None;
                self.changed = true;
            }
        }
    }

    /// How many entries there are, and how many of them have an SVID.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.held.len(), self.held.values().filter(|held| held.svid.is_some()).count())
    }

    /// What can be given out, if it changed since it was last taken.
    pub(super) fn take_changed(&mut self) -> Option<Snapshot> {
        if std::mem::take(&mut self.changed) { self.snapshot() } else { None }
    }

    /// What can be given out; nothing is known before there is a bundle.
    pub(super) fn snapshot(&mut self) -> Option<Snapshot> {
        let left_out = self.left_out.list();
        let identity = |held: &Held| Identity {
            entry: Arc::clone(&held.entry),
            svid: held.svid.clone(),
            refusal: held.refusal.clone(),
        };
        let bundle = self.bundle.as_ref()?;
        let (own, federated) = (Arc::clone(bundle), self.federated.clone());
        Some(Snapshot::new(own, federated, self.held.values().map(identity).collect(), left_out))
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Held {
    fn new(entry: Entry, sequence: u64, now: UnixTime) -> Self {
        Self {
            entry: Arc::new(entry),
            svid: None,
            due: now,
            asked: false,
            failures: 0,
            unanswered: false,
            refusal: None,
            unsettled: Some(sequence),
        }
    }

    /// The entry changed. Its SVID stays if it still says what it should.
    fn replace(&mut self, entry: Entry, sequence: u64, now: UnixTime) {
        let same_contents = |a: &Entry, b: &Entry| {
            (&a.spiffe_id, &a.dns_names, a.x509_svid_ttl)
                == (&b.spiffe_id, &b.dns_names, b.x509_svid_ttl)
        };
        if same_contents(&self.entry, &entry) && self.svid.is_some() {
            self.entry = Arc::new(entry);
            // What was asked for under the old entry is not taken in any more.
            self.asked = false;
        } else {
            *self = Self::new(entry, sequence, now);
        }
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(LAST_PAUSE)
}

fn tainted(bundle: &Bundle) -> BTreeSet<Bytes> {
    let tainted = bundle.x509_authorities.iter().filter(|authority| authority.tainted);
    tainted.map(|authority| authority.der.clone()).collect()
}

#[cfg(test)]
mod tests;
