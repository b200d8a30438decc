use super::*;
use crate::store::contract::holds;

#[tokio::test]
async fn does_what_every_store_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("store")).await.unwrap();
    holds(&store).await;
}

#[tokio::test]
async fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    EmbeddedStore::open(path.clone()).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn keeps_what_was_written_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = EmbeddedStore::open(path.clone()).await.unwrap();
    store.write(vec![Write::put(Space::Agents, b"a", b"1")]).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(path).await.unwrap();
    assert_eq!(store.get(Space::Agents, b"a").await.unwrap(), Some(b"1".to_vec()));
}

#[tokio::test]
async fn a_full_disk_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = EmbeddedStore::open_reserving(path, u64::MAX).await.unwrap();
    let error = store.write(vec![Write::put(Space::Agents, b"a", b"1")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }) && error.untouched(), "{error}");
    assert_eq!(store.get(Space::Agents, b"a").await.unwrap(), None);
}

#[tokio::test]
async fn a_store_that_was_never_finished_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let unfinished = dir.path().join("store.new");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("0.jnl"), b"").unwrap();
    EmbeddedStore::open(dir.path().join("store")).await.unwrap();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_store_with_parts_missing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    drop(EmbeddedStore::open(path.clone()).await.unwrap());
    let missing: [&dyn Fn(); 2] =
        [&|| fs::remove_dir_all(path.join("keyspaces").join("3")).unwrap(), &|| {
            fs::remove_file(path.join(VERSION)).unwrap();
        }];
    for remove in missing {
        remove();
        let error = EmbeddedStore::open(path.clone()).await.unwrap_err();
        assert!(matches!(error, OpenStoreError::Damaged { .. }), "{error}");
    }
}

/// Makes a store as a version before [`Space::Once`] did.
async fn old_store(path: &Path) {
    drop(EmbeddedStore::open(path.to_owned()).await.unwrap());
    let database = configure(path).open().unwrap();
    let once = database.keyspace("once", || options(Space::Once)).unwrap();
    database.delete_keyspace(once).unwrap();
    database.persist(PersistMode::SyncAll).unwrap();
}

#[tokio::test]
async fn a_store_of_before_is_given_the_space_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    old_store(&path).await;
    let store = EmbeddedStore::open(path.clone()).await.unwrap();
    store.write(vec![Write::put(Space::Once, b"a", b"1")]).await.unwrap();
    store.write(vec![Write::put(Space::Meta, meta::SINCE, b"1")]).await.unwrap();
    drop(store);
    old_store(&path).await;
    let error = EmbeddedStore::open(path).await.unwrap_err();
    assert!(matches!(error, OpenStoreError::Damaged { .. }), "{error}");
}

/// The bytes of the newest journal of the store in `path`.
fn journal(path: &Path) -> (PathBuf, Vec<u8>) {
    let newest = path.join("0.jnl");
    let bytes = fs::read(&newest).unwrap();
    (newest, bytes)
}

#[tokio::test]
async fn of_what_the_power_cut_tore_nothing_is_left_and_all_of_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    drop(EmbeddedStore::open(path.clone()).await.unwrap());
    let mut ends = vec![journal(&path).1.len()];
    for value in [b'1', b'2', b'3'] {
        let store = EmbeddedStore::open(path.clone()).await.unwrap();
        let writes = vec![
            Write::put(Space::Agents, [value], vec![value; 3_000]),
            Write::delete(Space::Agents, b"x"),
        ];
        store.write(writes).await.unwrap();
        drop(store);
        ends.push(journal(&path).1.len());
    }
    let (file, whole) = journal(&path);
    for (torn, last) in [(ends[2]..ends[3], true), (ends[1]..ends[2], false)] {
        let mut bytes = whole.clone();
        bytes[torn.start + 500..torn.start + 1_500].fill(0);
        fs::write(&file, &bytes).unwrap();
        let error = EmbeddedStore::open(path.clone()).await.unwrap_err();
        assert!(matches!(error, OpenStoreError::Damaged { .. }), "{error}");
        let opened = EmbeddedStore::open_after_power_cut(path.clone()).await;
        if last {
            let store = opened.unwrap();
            assert!(store.get(Space::Agents, b"2").await.unwrap().is_some());
            assert_eq!(store.get(Space::Agents, b"3").await.unwrap(), None);
            assert_eq!(journal(&path).1.len(), torn.start);
        } else {
            // It was durable before the next one was written, so this is damage.
            assert!(matches!(opened.unwrap_err(), OpenStoreError::Damaged { .. }));
        }
        fs::write(&file, &whole).unwrap();
    }
    drop(EmbeddedStore::open_after_power_cut(path.clone()).await.unwrap());
    assert_eq!(journal(&path).1, whole, "what is whole stays");
    let none = dir.path().join("none");
    drop(EmbeddedStore::open_after_power_cut(none).await.unwrap());
}

#[tokio::test]
async fn a_path_that_is_no_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = EmbeddedStore::open(file.join("store")).await.unwrap_err();
    assert!(matches!(error, OpenStoreError::Directory { .. }), "{error}");
}
