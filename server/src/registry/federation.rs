//! Bundles of other trust domains: in memory and authoritative, like entries.
//!
//! Whoever serves them holds a [`Federated`], which never changes: one moment's bundles. What an
//! agent has to be told is the difference between two moments.
//!
//! | to find | look in |
//! |---|---|
//! | the rules for new and changed bundles | [`draft`] |
//! | what happens to entries when a bundle goes | `delete` |

mod delete;
pub mod draft;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use claviger_core::bundle::Bundle;
use claviger_core::grant::Requester;
use claviger_core::id::TrustDomain;
use claviger_proto::spire::types;
use prost::Message as _;
use tokio::sync::watch;

use super::{OpenError, PAGE, Registry, count};
use crate::journal::{Change as Commit, CommitError};
use crate::store::{Order, Space, Store, Write};
pub use delete::{DeleteBundleError, Dissociation};
use draft::BundleDraft;

/// What the keys of bundles in [`Space::Authorities`] begin with.
const PREFIX: &str = "federated/";

/// The first key that does not begin with [`PREFIX`].
const AFTER_PREFIX: &str = "federated0";

/// The bundles of other trust domains, at one moment. They are kept as the messages that are sent.
#[derive(Clone, Debug, Default)]
pub struct Federated {
    bundles: BTreeMap<TrustDomain, Arc<types::Bundle>>,
    /// How large all of them are, encoded.
    bytes: usize,
}

/// What turns one moment's bundles into another's.
#[derive(Debug, Default)]
pub struct Difference {
    /// Those that came or changed.
    pub upserts: Vec<Arc<types::Bundle>>,
    /// Those that went.
    pub deletes: Vec<TrustDomain>,
}

impl Federated {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bundles.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }

    /// The bundle of this trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Arc<types::Bundle>> {
        self.bundles.get(trust_domain)
    }

    /// All of them after that of `after`, in the order of their names.
    pub fn following(
        &self,
        after: Option<&TrustDomain>,
    ) -> impl Iterator<Item = &Arc<types::Bundle>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.bundles.range::<TrustDomain, _>((from, Bound::Unbounded)).map(|(_, bundle)| bundle)
    }

    /// What turns `earlier` into these.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Difference {
        let known = |name: &TrustDomain, bundle: &Arc<types::Bundle>| {
            earlier.get(name).is_some_and(|before| Arc::ptr_eq(before, bundle))
        };
        let news = self.bundles.iter().filter(|(name, bundle)| !known(name, bundle));
        let gone = earlier.bundles.keys().filter(|name| !self.bundles.contains_key(name));
        Difference {
            upserts: news.map(|(_, bundle)| Arc::clone(bundle)).collect(),
            deletes: gone.cloned().collect(),
        }
    }

    fn put(&mut self, trust_domain: TrustDomain, bundle: types::Bundle) -> Arc<types::Bundle> {
        self.remove(&trust_domain);
        self.bytes = self.bytes.saturating_add(bundle.encoded_len());
        let bundle = Arc::new(bundle);
        self.bundles.insert(trust_domain, Arc::clone(&bundle));
        bundle
    }

    /// Another server has set the bundle of `trust_domain`, or deleted it.
    pub(super) fn replace(&mut self, trust_domain: TrustDomain, bundle: Option<types::Bundle>) {
        match bundle {
            Some(bundle) => drop(self.put(trust_domain, bundle)),
            None => self.remove(&trust_domain),
        }
    }

    fn remove(&mut self, trust_domain: &TrustDomain) {
        if let Some(before) = self.bundles.remove(trust_domain) {
            self.bytes = self.bytes.saturating_sub(before.encoded_len());
        }
    }
}

impl Registry {
    /// The bundles of other trust domains, as they change.
    #[must_use]
    pub fn federated(&self) -> watch::Receiver<Arc<Federated>> {
        self.0.federated.subscribe()
    }

    /// Changes bundles of other trust domains. What `edit` does is written as a whole.
    ///
    /// # Errors
    ///
    /// [`CommitError`] if nothing was written.
    pub async fn edit_bundles<T: Send + 'static>(
        &self,
        requester: &Requester,
        edit: impl FnOnce(&mut BundleDraft) -> T + Send + 'static,
    ) -> Result<T, CommitError> {
        let (registry, requester) = (self.clone(), requester.clone());
        self.see_through(async move {
            let mut writing = registry.0.writing.lock().await;
            let now = registry.0.federated.borrow().clone();
            let mut draft = BundleDraft::new(&now, registry.trust_domain().clone(), requester);
            let outcome = edit(&mut draft);
            let (federated, commit) = draft.finish();
            if !commit.writes.is_empty() {
                registry.commit(&mut writing, commit).await?;
                registry.publish(federated);
            }
            Ok(outcome)
        })
        .await?
    }

    /// Makes true in memory what is true in the store.
    pub(super) fn publish(&self, federated: Federated) {
        metrics::gauge!(crate::metrics::FEDERATED_BUNDLES).set(count(federated.len()));
        self.0.federated.send_replace(Arc::new(federated));
    }
}

/// Whose bundle is stored under `key`, if it is one's.
pub(super) fn domain_of(key: &[u8]) -> Option<TrustDomain> {
    std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Where the bundle of `trust_domain` is stored.
fn key(trust_domain: &TrustDomain) -> Vec<u8> {
    format!("{PREFIX}{}", trust_domain.as_str()).into_bytes()
}

/// Reads what is stored.
pub(super) async fn load(store: &dyn Store) -> Result<Federated, OpenError> {
    let mut federated = Federated::default();
    let mut from = Bound::Included(PREFIX.as_bytes().to_vec());
    loop {
        let to = Bound::Excluded(AFTER_PREFIX.as_bytes().to_vec());
        let page = store.scan(Space::Authorities, from, to, Order::Ascending, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(federated) };
        from = Bound::Excluded(last.clone());
        for (stored, value) in page {
            let damaged = || OpenError::Bundle(String::from_utf8_lossy(&stored).into_owned());
            let bundle = types::Bundle::decode(&*value).map_err(|_detail| damaged())?;
            let bundle = Bundle::try_from(bundle).map_err(|_detail| damaged())?;
            if key(&bundle.trust_domain) != stored {
                return Err(damaged());
            }
            federated.put(bundle.trust_domain.clone(), types::Bundle::from(&bundle));
        }
    }
}

/// A write that makes the store say so.
fn put(trust_domain: &TrustDomain, bundle: &types::Bundle) -> Write {
    Write::put(Space::Authorities, key(trust_domain), bundle.encode_to_vec())
}

/// The commit that removes the bundle of `trust_domain`, on top of `commit`.
fn and_delete(commit: &mut Commit, trust_domain: &TrustDomain, requester: &Requester) {
    commit.writes.push(Write::delete(Space::Authorities, key(trust_domain)));
    commit.events.push(claviger_core::audit::Event::BundleDeleted {
        trust_domain: trust_domain.clone(),
        requester: requester.clone(),
    });
}
