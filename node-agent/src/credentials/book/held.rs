//! An entry, and how far we are with its SVIDs.

use std::sync::Arc;

use claviger_core::entry::Entry;
use claviger_core::standing::Standing;
use claviger_core::time::UnixTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::credentials::interest::Interest;
use crate::credentials::kept::{Kept, Lasting};
use crate::credentials::{Identity, Offer, WorkloadSvid, WorkloadWit};

/// An entry and how far we are with it.
#[derive(Debug)]
pub(in crate::credentials) struct Held {
    pub(super) entry: Arc<Entry>,
    pub(super) x509: Kept<WorkloadSvid>,
    pub(super) wit: Kept<WorkloadWit>,
    /// The change that brought the entry, until the first answer about its X.509-SVID; unset if
    /// that is made on demand only.
    pub(super) unsettled: Option<u64>,
    /// How the identity stands.
    standing: Standing,
    /// Since when it does, if that is not so from the beginning.
    doubted: Option<Instant>,
}

/// A kind of SVIDs that every entry has one of.
pub(in crate::credentials) trait Kind: Lasting + Sized + 'static {
    /// What to call them.
    const NAME: &'static str;

    /// That of `held`.
    fn of(held: &mut Held) -> &mut Kept<Self>;

    /// One has come, or was refused, for `held`.
    fn settled(held: &mut Held);
}

impl Kind for WorkloadSvid {
    const NAME: &'static str = "X.509-SVID";

    fn of(held: &mut Held) -> &mut Kept<Self> {
        &mut held.x509
    }

    fn settled(held: &mut Held) {
        held.unsettled = None;
    }
}

impl Kind for WorkloadWit {
    const NAME: &'static str = "WIT-SVID";

    fn of(held: &mut Held) -> &mut Kept<Self> {
        &mut held.wit
    }

    fn settled(_: &mut Held) {}
}

impl Held {
    pub(super) fn new(
        entry: Entry,
        standing: Standing,
        sequence: u64,
        now: UnixTime,
        bell: &Arc<Notify>,
    ) -> Self {
        let interest = || Some(Arc::new(Interest::new(bell)));
        let on_demand = entry.x509_on_demand;
        Self {
            entry: Arc::new(entry),
            x509: Kept::new(if on_demand { interest() } else { None }, now),
            wit: Kept::new(interest(), now),
            unsettled: (!on_demand && !standing.quarantined).then_some(sequence),
            standing,
            doubted: None,
        }
    }

    /// The entry changed. Its SVIDs stay if they still say what they should.
    pub(super) fn replace(
        &mut self,
        entry: Entry,
        standing: Standing,
        sequence: u64,
        now: UnixTime,
        bell: &Arc<Notify>,
    ) {
        let before = &*self.entry;
        let same_id = before.spiffe_id == entry.spiffe_id;
        let same_x509 = same_id
            && (&before.dns_names, before.x509_svid_ttl) == (&entry.dns_names, entry.x509_svid_ttl);
        let mut fresh = Self::new(entry, standing, sequence, now, bell);
        fresh.doubted = self.doubted;
        if self.x509.passes_to(&mut fresh.x509, same_x509) {
            fresh.unsettled = self.unsettled;
        }
        self.wit.passes_to(&mut fresh.wit, same_id);
        *self = fresh;
    }

    /// The identity is in quarantine: there is nothing to ask for, and nobody has it.
    pub(super) const fn is_quarantined(&self) -> bool {
        self.standing.quarantined
    }

    /// The identity stands otherwise: nothing that was made for it before counts any more, nor what
    /// is on its way. Says whether that is so.
    pub(super) fn reconsider(&mut self, standing: Standing, now: UnixTime) -> bool {
        if self.standing == standing {
            return false;
        }
        self.standing = standing;
        self.doubted = Some(Instant::now());
        // Another entry, to those who remember what they made for this one.
        self.entry = Arc::new(Entry::clone(&self.entry));
        self.x509.begin_anew(now);
        self.wit.begin_anew(now);
        if standing.quarantined {
            self.unsettled = None;
        }
        true
    }

    /// Whether the entry admits anybody at `now`.
    pub(super) fn is_valid(&self, now: UnixTime) -> bool {
        !self.entry.expired(now)
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            entry: Arc::clone(&self.entry),
            x509: Offer::of(&self.x509),
            wit: Offer::of(&self.wit),
            refusal: self.x509.refusal().cloned(),
            doubted: self.doubted,
        }
    }
}
