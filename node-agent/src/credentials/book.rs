//! Which entries there are, which SVID each has, and what is to be done next. Time is an argument.

mod held;
mod left_out;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::reason::Reason;
use claviger_core::standing::Standing;
use claviger_core::time::UnixTime;
use tokio::sync::Notify;
use tracing::{error, warn};

use super::kept::{Ended, NotIssued};
use super::revoked::Revoked;
use super::{Cursor, FederatedUpdate, ServedBundle, Snapshot, Update, WorkloadSvid, WorkloadWit};
use crate::standings::Standings;

/// The most SVIDs in one request.
const BATCH: usize = 500;

/// The most other trust domains.
const MAX_FEDERATED: usize = 1_000;

pub(crate) use left_out::LeftOut;

use left_out::AllLeftOut;

pub(super) use held::{Held, Kind};

/// Entries and their SVIDs.
#[derive(Debug)]
pub(crate) struct Book {
    limit: usize,
    held: BTreeMap<EntryId, Held>,
    left_out: AllLeftOut,
    /// Our own trust domain's.
    bundle: Option<Arc<ServedBundle>>,
    federated: BTreeMap<TrustDomain, Arc<ServedBundle>>,
    revoked: Revoked,
    cursor: Option<Cursor>,
    /// Whether what can be given out changed since somebody asked.
    changed: bool,
    /// Rings when somebody wants what is made on demand only.
    bell: Arc<Notify>,
    standings: Standings,
    /// Whose agent's it is.
    agent: SpiffeId,
}

/// How many of each there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) entries: usize,
    pub(super) x509: usize,
    pub(super) wit: usize,
}

/// What came of asking for an SVID for an entry.
pub(super) type Answer<S> = (Arc<Entry>, Result<S, NotIssued>);

impl Book {
    /// A book of `agent` with room for `limit` entries, whose identities stand as `standings` say.
    pub(crate) fn new(limit: usize, standings: Standings, agent: SpiffeId) -> Self {
        Self {
            limit,
            held: BTreeMap::new(),
            left_out: AllLeftOut::default(),
            bundle: None,
            federated: BTreeMap::new(),
            revoked: Revoked::default(),
            cursor: None,
            changed: false,
            bell: Arc::default(),
            standings,
            agent,
        }
    }

    /// Our own trust domain's bundle, once it is known.
    pub(super) fn bundle(&self) -> Option<Arc<ServedBundle>> {
        self.bundle.clone()
    }

    /// Rings when there may be something to ask for.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Takes in what the server says.
    pub(super) fn apply(&mut self, update: Update, now: UnixTime) {
        let Update { cursor, snapshot, upserts, deletes, bundle, federated, revoked, .. } = update;
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
        self.restore(update.svids, now);
        self.restore(update.wits, now);
        if let Some(lists) = revoked {
            self.revoke(lists, now);
        }
        // The server answers again: what failed because it did not is tried at once.
        for held in self.held.values_mut() {
            held.x509.server_is_back(now);
            held.wit.server_is_back(now);
        }
        self.changed = true;
    }

    /// Takes in SVIDs that are known from before.
    fn restore<S: Kind>(&mut self, svids: Vec<(EntryId, S)>, now: UnixTime) {
        for (id, svid) in svids {
            if let Some(held) = self.held.get_mut(&id).filter(|held| !held.is_quarantined()) {
                S::settled(held);
                S::of(held).settle(Ok(svid), now, 0);
            }
        }
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
        let standing = self.standing(&entry.spiffe_id);
        match self.held.get_mut(&entry.id) {
            Some(held) if *held.entry == entry => {}
            Some(held) => held.replace(entry, standing, sequence, now, &self.bell),
            None if is_full => {
                error!(
                    entry = %entry.id,
                    limit = self.limit,
                    "too many entries for this agent, this one is left out; raise `limits.entries`"
                );
                self.left_out.insert(Arc::new(entry), Reason::OverEntryLimit);
            }
            None => {
                let held = Held::new(entry, standing, sequence, now, &self.bell);
                self.held.insert(held.entry.id.clone(), held);
            }
        }
    }

    /// How `id` stands here: an agent in quarantine serves nobody.
    fn standing(&self, id: &SpiffeId) -> Standing {
        let standing = self.standings.of(id);
        let quarantined = standing.quarantined || self.standings.of(&self.agent).quarantined;
        Standing { quarantined, ..standing }
    }

    /// Looks anew at how identities stand. Who stands otherwise than before begins anew: without
    /// SVIDs, and in quarantine without the prospect of any. Returns how far this went.
    pub(super) fn reconsider(&mut self, now: UnixTime) -> u64 {
        let version = self.standings.version();
        let mut held = std::mem::take(&mut self.held);
        for held in held.values_mut() {
            let standing = self.standing(&held.entry.spiffe_id);
            self.changed |= held.reconsider(standing, now);
        }
        self.held = held;
        version
    }

    /// An authority that is no longer secure takes along what it signed.
    fn replace_bundle(&mut self, bundle: Bundle, now: UnixTime) {
        let before = self.bundle.as_ref().map(|served| &served.bundle);
        let (x509, wit) =
            before.map(|before| (tainted(before), tainted_wit(before))).unwrap_or_default();
        if !tainted(&bundle).is_subset(&x509) {
            self.renew_all::<WorkloadSvid>(now);
        }
        if !tainted_wit(&bundle).is_subset(&wit) {
            self.renew_all::<WorkloadWit>(now);
        }
        let crl = self.revoked.lists().to_vec();
        self.bundle = Some(Arc::new(ServedBundle::new(bundle, crl)));
    }

    /// What is revoked is not given out any more; who is still entitled gets another.
    fn revoke(&mut self, lists: Vec<Bytes>, now: UnixTime) {
        self.revoked = Revoked::new(lists);
        if let Some(served) = &mut self.bundle {
            let (bundle, crl) = (served.bundle.clone(), self.revoked.lists().to_vec());
            *served = Arc::new(ServedBundle::new(bundle, crl));
        }
        for held in self.held.values_mut() {
            if held.x509.svid().is_some_and(|svid| self.revoked.has(svid)) {
                warn!(entry = %held.entry.id, id = %held.entry.spiffe_id, "an SVID is revoked");
                held.x509.withdraw(now);
            }
        }
    }

    fn renew_all<S: Kind>(&mut self, now: UnixTime) {
        warn!(kind = S::NAME, "an authority is tainted: every SVID of this kind is renewed now");
        self.held.values_mut().for_each(|held| S::of(held).renew(now));
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
    pub(super) fn take_due<S: Kind>(&mut self, now: UnixTime) -> Vec<Arc<Entry>> {
        self.held
            .values_mut()
            .filter_map(|held| {
                let serves = held.is_valid(now) && !held.is_quarantined();
                let due = serves && S::of(held).take_due(now);
                due.then(|| Arc::clone(&held.entry))
            })
            .take(BATCH)
            .collect()
    }

    /// Takes in what came of asking. `jitter` makes random numbers.
    pub(super) fn settle<S: Kind>(
        &mut self,
        answers: Vec<Answer<S>>,
        now: UnixTime,
        mut jitter: impl FnMut() -> u16,
    ) {
        for (entry, answer) in answers {
            // The entry may be gone or another by now.
            let held = self.held.get_mut(&entry.id).filter(|held| Arc::ptr_eq(&held.entry, &entry));
            if let Some(held) = held {
                S::settled(held);
                self.changed |= S::of(held).settle(answer, now, jitter());
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
            let svids = [held.x509.next_event(), held.wit.next_event()];
            let svids = svids.into_iter().flatten().filter(|_| !held.is_quarantined());
            svids.chain(held.entry.expires_at).min()
        };
        self.held.values().filter_map(of).min()
    }

    /// Drops what has ended: an expired SVID is never served.
    pub(super) fn drop_ended(&mut self, now: UnixTime) {
        for (_, ended) in self.held.extract_if(.., |_, held| !held.is_valid(now)) {
            self.changed = true;
            self.left_out.insert(ended.entry, Reason::EntryExpired);
        }
        for held in self.held.values_mut() {
            self.changed |= drop_ended::<WorkloadSvid>(held, now);
            self.changed |= drop_ended::<WorkloadWit>(held, now);
        }
    }

    /// How many entries there are, and how many of them have an SVID of either kind.
    pub(super) fn counts(&self) -> Counts {
        let count = |has: fn(&&Held) -> bool| self.held.values().filter(has).count();
        Counts {
            entries: self.held.len(),
            x509: count(|held| held.x509.svid().is_some()),
            wit: count(|held| held.wit.svid().is_some()),
        }
    }

    /// What can be given out, if it changed since it was last taken.
    pub(super) fn take_changed(&mut self) -> Option<Snapshot> {
        if std::mem::take(&mut self.changed) { self.snapshot() } else { None }
    }

    /// What can be given out; nothing is known before there is a bundle.
    pub(super) fn snapshot(&mut self) -> Option<Snapshot> {
        let left_out = self.left_out();
        let bundle = self.bundle.as_ref()?;
        let (own, federated) = (Arc::clone(bundle), self.federated.clone());
        Some(Snapshot::new(
            own,
            federated,
            self.held.values().filter(|held| !held.is_quarantined()).map(Held::identity).collect(),
            left_out,
        ))
    }

    /// Who is not served, those in quarantine included.
    fn left_out(&mut self) -> Arc<[LeftOut]> {
        let list = self.left_out.list();
        let quarantined = self.held.values().filter(|held| held.is_quarantined());
        let quarantined: Vec<_> = quarantined
            .map(|held| LeftOut { entry: Arc::clone(&held.entry), reason: Reason::Quarantined })
            .collect();
        if quarantined.is_empty() {
            return list;
        }
        list.iter().cloned().chain(quarantined).collect()
    }
}

/// Drops an SVID that has ended; says whether there was one.
fn drop_ended<S: Kind>(held: &mut Held, now: UnixTime) -> bool {
    let ended = S::of(held).drop_ended(now);
    if ended == Some(Ended::Missed) {
        let Entry { id, spiffe_id, .. } = &*held.entry;
        warn!(entry = %id, id = %spiffe_id, kind = S::NAME, "an SVID ended before it could be renewed");
    }
    ended.is_some()
}

/// The authorities for X.509-SVIDs that are no longer secure.
fn tainted(bundle: &Bundle) -> BTreeSet<Bytes> {
    let tainted = bundle.x509_authorities.iter().filter(|authority| authority.tainted);
    tainted.map(|authority| authority.der.clone()).collect()
}

/// Those for WIT-SVIDs.
fn tainted_wit(bundle: &Bundle) -> BTreeSet<String> {
    let tainted = bundle.wit_authorities.iter().filter(|authority| authority.tainted);
    tainted.map(|authority| authority.key_id.clone()).collect()
}

#[cfg(test)]
mod tests;
