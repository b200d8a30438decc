//! The proof that a store which was just opened holds everything that was ever written to it.

use claviger_core::audit::Head;

use super::Doubt;
use crate::audit::tiles;
use crate::journal::witness::Testimony;
use crate::store::{Store, StoreError};

/// Whether the log in `store`, which ends with `head`, is complete according to the witness.
///
/// It is, if the server stopped cleanly at exactly this head; or if it was killed, but the machine
/// has been up since, and the log contains the last record that the witness saw. The store may
/// have one group more: it is written first.
///
/// # Errors
///
/// [`StoreError`] if the store can't be read.
pub(crate) async fn examine(
    store: &dyn Store,
    head: Head,
    testimony: Option<Testimony>,
) -> Result<Option<Doubt>, StoreError> {
    let Some(said) = testimony else {
        let first = head == Head::default();
        return Ok(Some(if first { Doubt::FirstStart } else { Doubt::NoWitness }));
    };
    if !said.original {
        return Ok(Some(Doubt::WitnessCopied));
    }
    if head.size < said.head.size {
        let (store, witness) = (head.size, said.head.size);
        return Ok(Some(Doubt::Behind { store, witness }));
    }
    if said.clean {
        let sequence = head.size;
        return Ok((head != said.head).then_some(Doubt::Forked { sequence }));
    }
    if !said.same_boot {
        return Ok(Some(Doubt::Unclean));
    }
    let sequence = said.head.size;
    let known = tiles::head_at(store, sequence).await? == said.head;
    Ok((!known).then_some(Doubt::Forked { sequence }))
}

/// The same of a store that others write to as well, and that keeps its promises without this server: it
/// has to contain what the witness saw, wherever it ends by now.
///
/// # Errors
///
/// [`StoreError`] if the store can't be read.
pub(crate) async fn examine_shared(
    store: &dyn Store,
    head: Head,
    testimony: Option<Testimony>,
) -> Result<Option<Doubt>, StoreError> {
    let Some(said) = testimony else {
        return Ok((head == Head::default()).then_some(Doubt::FirstStart));
    };
    let as_if_killed = Testimony { clean: false, same_boot: true, original: true, ..said };
    if said.head == Head::default() {
        return Ok(None);
    }
    examine(store, head, Some(as_if_killed)).await
}

#[cfg(test)]
mod tests {
    use claviger_core::audit::{Edge, TreeHash};

    use super::*;
    use crate::audit::record;
    use crate::store::memory::MemoryStore;

    /// The head over the first `size` records if `end` says the same, or else another.
    fn head(size: u64, end: u64) -> Head {
        let leaf = |number: u64| TreeHash::of_leaf(&number.to_be_bytes());
        let others = (1..size).chain([end]);
        others.map(leaf).collect::<Edge>().head()
    }

    /// Examines a store with records 1 to 3.
    async fn doubt(testimony: Option<Testimony>) -> Option<Doubt> {
        let store = MemoryStore::default();
        let records = [1_u64, 2, 3].map(|n| record::encode(n, n.to_be_bytes().to_vec()));
        store.write(records.to_vec()).await.unwrap();
        examine(&store, head(3, 3), testimony).await.unwrap()
    }

    #[tokio::test]
    async fn believes_what_can_be_proved_and_nothing_else() {
        let killed = Testimony { head: head(3, 3), clean: false, same_boot: true, original: true };
        assert_eq!(doubt(Some(killed)).await, None);
        let one_group_less = Testimony { head: head(2, 2), ..killed };
        assert_eq!(doubt(Some(one_group_less)).await, None);
        let stopped = Testimony { clean: true, same_boot: false, ..killed };
        assert_eq!(doubt(Some(stopped)).await, None);

        assert_eq!(doubt(None).await, Some(Doubt::NoWitness));
        let copied = Testimony { original: false, ..stopped };
        assert_eq!(doubt(Some(copied)).await, Some(Doubt::WitnessCopied));
        let power_cut = Testimony { same_boot: false, ..killed };
        assert_eq!(doubt(Some(power_cut)).await, Some(Doubt::Unclean));
        let newer = Testimony { head: head(4, 4), ..killed };
        assert_eq!(doubt(Some(newer)).await, Some(Doubt::Behind { store: 3, witness: 4 }));
        let newer = Testimony { head: head(4, 4), ..stopped };
        assert_eq!(doubt(Some(newer)).await, Some(Doubt::Behind { store: 3, witness: 4 }));
        let other = Testimony { head: head(2, 9), ..killed };
        assert_eq!(doubt(Some(other)).await, Some(Doubt::Forked { sequence: 2 }));
        let written_after_the_end = Testimony { head: head(2, 2), ..stopped };
        assert_eq!(doubt(Some(written_after_the_end)).await, Some(Doubt::Forked { sequence: 3 }));
    }

    #[tokio::test]
    async fn a_shared_store_may_go_on_without_this_server_but_not_without_what_it_saw() {
        let store = MemoryStore::default();
        let records = [1_u64, 2, 3].map(|n| record::encode(n, n.to_be_bytes().to_vec()));
        store.write(records.to_vec()).await.unwrap();
        let doubt = |said| examine_shared(&store, head(3, 3), said);
        let stopped =
            Testimony { head: head(2, 2), clean: true, same_boot: false, original: false };
        assert_eq!(doubt(Some(stopped)).await.unwrap(), None);
        assert_eq!(doubt(None).await.unwrap(), None);
        let newer = Testimony { head: head(4, 4), ..stopped };
        let behind = Doubt::Behind { store: 3, witness: 4 };
        assert_eq!(doubt(Some(newer)).await.unwrap(), Some(behind));
        let other = Testimony { head: head(2, 9), ..stopped };
        assert_eq!(doubt(Some(other)).await.unwrap(), Some(Doubt::Forked { sequence: 2 }));
        let first = examine_shared(&MemoryStore::default(), Head::default(), None).await.unwrap();
        assert_eq!(first, Some(Doubt::FirstStart));
    }

    #[tokio::test]
    async fn an_empty_store_without_a_witness_is_a_first_start() {
        let store = MemoryStore::default();
        let doubt = examine(&store, Head::default(), None).await.unwrap();
        assert_eq!(doubt, Some(Doubt::FirstStart));
    }
}
