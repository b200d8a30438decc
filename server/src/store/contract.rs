//! What every store must do, run against each.

use super::*;

async fn keys(store: &dyn Store, order: Order, limit: usize) -> Vec<Vec<u8>> {
    let all = store.scan(Space::Psks, Bound::Unbounded, Bound::Unbounded, order, limit);
    all.await.unwrap().into_iter().map(|(key, _)| key).collect()
}

pub(crate) async fn holds(store: &dyn Store) {
    reads_what_was_written(store).await;
    later_writes_of_one_list_win(store).await;
    ranges_are_dropped(store).await;
    scans_are_bounded_and_ordered(store).await;
}

async fn reads_what_was_written(store: &dyn Store) {
    assert_eq!(store.get(Space::Meta, b"a").await.unwrap(), None);
    let writes = vec![Write::put(Space::Meta, b"a", b"1"), Write::put(Space::Entries, b"a", b"2")];
    store.write(writes).await.unwrap();
    let wanted = [Space::Meta, Space::Entries, Space::Agents].map(|s| (s, b"a".to_vec()));
    let found = store.get_many(wanted.to_vec()).await.unwrap();
    assert_eq!(found, [Some(b"1".to_vec()), Some(b"2".to_vec()), None]);
    let delete = Write::delete(Space::Meta, b"a");
    store.write(vec![delete]).await.unwrap();
    assert_eq!(store.get(Space::Meta, b"a").await.unwrap(), None);
}

async fn later_writes_of_one_list_win(store: &dyn Store) {
    let delete = Write::delete(Space::Meta, b"k");
    let writes =
        vec![Write::put(Space::Meta, b"k", b"1"), delete, Write::put(Space::Meta, b"k", b"3")];
    store.write(writes).await.unwrap();
    assert_eq!(store.get(Space::Meta, b"k").await.unwrap(), Some(b"3".to_vec()));
    let below = Write::DeleteBelow { space: Space::Psks, key: b"m".to_vec() };
    let writes =
        vec![Write::put(Space::Psks, b"b", b"1"), below, Write::put(Space::Psks, b"c", b"1")];
    store.write(writes).await.unwrap();
    assert_eq!(keys(store, Order::Ascending, 9).await, [b"c"]);
}

async fn ranges_are_dropped(store: &dyn Store) {
    let below = |key: &[u8]| Write::DeleteBelow { space: Space::Psks, key: key.to_vec() };
    let fill = [b"a", b"b", b"d", b"e"].map(|key| Write::put(Space::Psks, key, b"x"));
    store.write(fill.to_vec()).await.unwrap();
    store.write(vec![below(b"d")]).await.unwrap();
    assert_eq!(keys(store, Order::Ascending, 9).await, [b"d", b"e"]);
    // A key below a range that was dropped before, as after a clock was set back.
    store.write(vec![Write::put(Space::Psks, b"a", b"x")]).await.unwrap();
    store.write(vec![below(b"e")]).await.unwrap();
    assert_eq!(keys(store, Order::Ascending, 9).await, [b"e"]);
}

async fn scans_are_bounded_and_ordered(store: &dyn Store) {
    let fill = [b"f", b"g", b"h"].map(|key| Write::put(Space::Psks, key, b"x"));
    store.write(fill.to_vec()).await.unwrap();
    assert_eq!(keys(store, Order::Ascending, 2).await, [b"e", b"f"]);
    assert_eq!(keys(store, Order::Descending, 2).await, [b"h", b"g"]);
    let (from, to) = (Bound::Excluded(b"e".to_vec()), Bound::Included(b"g".to_vec()));
    let some = store.scan(Space::Psks, from, to, Order::Ascending, 9).await.unwrap();
    assert_eq!(some.iter().map(|(key, _)| key.as_slice()).collect::<Vec<_>>(), [b"f", b"g"]);
}
