//! The policies that were in force, kept under their digests: who reads in the audit log what was
//! decided can find out why.

use claviger_core::grant::PolicyDigest;
use claviger_policy::Source;

use crate::store::{Space, Store, StoreError, Write, json, parse};

/// How many sets are kept. Of more, those go that came into force the longest ago.
pub const MAX: usize = 1_000;

/// Where the digests are, in the order in which they came into force last.
const ORDER: &[u8] = b"order";

/// What has to be written when `source` comes into force.
///
/// # Errors
///
/// [`StoreError`] if the store can't be read.
pub async fn keep(store: &dyn Store, source: &Source) -> Result<Vec<Write>, StoreError> {
    let digest = source.digest();
    let mut order = order(store).await?;
    if order.last() == Some(&digest) {
        return Ok(Vec::new());
    }
    let known = order.len();
    order.retain(|other| *other != digest);
    let is_known = order.len() < known;
    order.push(digest);
    let surplus = order.len().saturating_sub(MAX);
    let gone = order.drain(..surplus).map(|old| Write::delete(Space::Policies, *old.as_bytes()));
    let mut writes: Vec<_> = gone.collect();
    if !is_known {
        writes.push(Write::put(Space::Policies, *digest.as_bytes(), source.to_bytes()));
    }
    writes.push(Write::put(Space::Policies, ORDER, json(&order)));
    Ok(writes)
}

/// The policies with this digest, as [`Source::to_bytes`] makes them, if they are kept.
///
/// # Errors
///
/// [`StoreError`] if the store can't be read.
pub async fn find(store: &dyn Store, digest: PolicyDigest) -> Result<Option<Vec<u8>>, StoreError> {
    store.get(Space::Policies, digest.as_bytes()).await
}

async fn order(store: &dyn Store) -> Result<Vec<PolicyDigest>, StoreError> {
    let stored = store.get(Space::Policies, ORDER).await?;
    stored.map_or(Ok(Vec::new()), |stored| parse(&stored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn source(number: usize) -> Source {
        Source::new(vec![("a.cedar".to_owned(), format!("// {number}"))])
    }

    async fn enforce(store: &MemoryStore, source: &Source) {
        let writes = keep(store, source).await.unwrap();
        store.write(writes).await.unwrap();
    }

    async fn is_kept(store: &MemoryStore, source: &Source) -> bool {
        find(store, source.digest()).await.unwrap() == Some(source.to_bytes())
    }

    #[tokio::test]
    async fn what_was_in_force_is_found_by_its_digest() {
        let store = MemoryStore::default();
        for number in 0..3 {
            enforce(&store, &source(number)).await;
        }
        for number in 0..3 {
            assert!(is_kept(&store, &source(number)).await, "{number}");
        }
        assert_eq!(find(&store, source(3).digest()).await.unwrap(), None);
        assert_eq!(keep(&store, &source(2)).await.unwrap(), []);
    }

    #[tokio::test]
    async fn of_too_many_those_go_that_were_in_force_the_longest_ago() {
        let store = MemoryStore::default();
        for number in 0..MAX {
            enforce(&store, &source(number)).await;
        }
        enforce(&store, &source(0)).await;
        enforce(&store, &source(MAX)).await;
        assert!(is_kept(&store, &source(0)).await);
        assert!(!is_kept(&store, &source(1)).await);
        assert!(is_kept(&store, &source(2)).await);
        assert_eq!(order(&store).await.unwrap().len(), MAX);
    }
}
