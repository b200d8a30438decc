//! The root secrets.
//!
//! One server keeps them on its disk: `epoch-<n>.root`, 32 bytes, one file for the epoch in force. Several
//! keep them in the store that they share, each wrapped by a key that the store does not have.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use claviger_core::psk::derive::EpochRoot;
use claviger_core::secret::Secret;
use tokio::task::spawn_blocking;

use crate::storage::secret_file;
use crate::storage::wrapping::WrappingKey;
use crate::store::{Space, Store, Write};

/// Where the roots are.
#[derive(Clone, Debug)]
pub(crate) enum Roots {
    /// In this directory.
    Files(PathBuf),
    /// In the store, wrapped by this key.
    Wrapped(Arc<WrappingKey>),
}

/// A root that was just made.
#[derive(Debug)]
pub(super) struct NewRoot {
    pub(super) root: EpochRoot,
    /// What has to be written with the beginning of its epoch.
    pub(super) writes: Vec<Write>,
}

impl Roots {
    /// The root of `epoch`; `None` if there is none or its file is damaged.
    pub(super) async fn load(
        &self,
        epoch: u64,
        store: &dyn Store,
    ) -> io::Result<Option<EpochRoot>> {
        match self {
            Self::Files(directory) => Self::read_file(directory, epoch).await,
            Self::Wrapped(wrapping) => {
                let stored = store.get(Space::Meta, &key(epoch)).await.map_err(io::Error::other)?;
                let Some(stored) = stored else { return Ok(None) };
                let root = wrapping.unwrap(&purpose(epoch), &stored);
                let root = root.and_then(|root| Secret::copy_from(&root)).map(EpochRoot);
                // Another server has the right key: a new epoch would void what is good.
                root.map(Some).ok_or_else(|| io::Error::other(WRONG_KEY))
            }
        }
    }

    /// Makes the root of `epoch`. It is durable when this returns and what it says is written.
    pub(super) async fn create(&self, epoch: u64) -> io::Result<NewRoot> {
        let root = Secret::try_fill(|root| SystemRandom::new().fill(root))
            .map_err(|_unspecified| io::Error::other("the system gives no random bytes"))?;
        match self {
            Self::Files(directory) => {
                let path = path(directory, epoch);
                let root = blocking(move || {
                    secret_file::write(&path, root.expose())?;
                    Ok(EpochRoot(root))
                });
                Ok(NewRoot { root: root.await?, writes: Vec::new() })
            }
            Self::Wrapped(wrapping) => {
                let root = EpochRoot(root);
                let before = Write::delete(Space::Meta, key(epoch.saturating_sub(1)));
                let writes = vec![before, Self::wrap(wrapping, epoch, &root)?];
                Ok(NewRoot { root, writes })
            }
        }
    }

    /// The root of `epoch` that is kept in `directory`; `None` if there is none or it is damaged.
    pub(crate) async fn read_file(directory: &Path, epoch: u64) -> io::Result<Option<EpochRoot>> {
        let path = path(directory, epoch);
        blocking(move || match secret_file::read(&path, 32) {
            Ok(root) => Ok(root.and_then(|root| Secret::copy_from(&root)).map(EpochRoot)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// The write that puts `root` into a store, wrapped.
    pub(crate) fn wrap(wrapping: &WrappingKey, epoch: u64, root: &EpochRoot) -> io::Result<Write> {
        let wrapped = wrapping.wrap(&purpose(epoch), root.0.expose());
        let wrapped = wrapped.map_err(|_detail| io::Error::other("cannot wrap it"))?;
        Ok(Write::put(Space::Meta, key(epoch), wrapped))
    }

    /// The highest number of an epoch with a root on this disk; 0 if there is none.
    pub(super) async fn newest(&self) -> io::Result<u64> {
        let Self::Files(directory) = self.clone() else { return Ok(0) };
        blocking(move || Ok(numbers(&directory)?.into_iter().max().unwrap_or(0))).await
    }

    /// Destroys the roots of all epochs before `epoch`, and with them every key under them.
    pub(super) async fn destroy_below(&self, epoch: u64) -> io::Result<()> {
        let Self::Files(directory) = self.clone() else { return Ok(()) };
        blocking(move || {
            let old = numbers(&directory)?.into_iter().filter(|number| *number < epoch);
            old.map(|number| path(&directory, number))
                .try_for_each(|path| secret_file::destroy(&path))
        })
        .await
    }
}

const WRONG_KEY: &str = "it was wrapped by another key; give every server of the database the same \
    `store.key-file`";

/// Where a wrapped root is in [`Space::Meta`].
fn key(epoch: u64) -> Vec<u8> {
    format!("root/{epoch}").into_bytes()
}

fn purpose(epoch: u64) -> String {
    format!("claviger epoch root v1 {epoch}")
}

fn path(directory: &Path, epoch: u64) -> PathBuf {
    directory.join(format!("epoch-{epoch}.root"))
}

fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(directory)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| {
            name.strip_prefix("epoch-")?.strip_suffix(".root")?.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    Ok(numbers)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn a_root_is_kept_until_a_later_epoch_begins() {
        let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::default());
        let roots = Roots::Files(dir.path().to_path_buf());
        assert_eq!(roots.newest().await.unwrap(), 0);
        let made = roots.create(3).await.unwrap();
        let kept = roots.load(3, &store).await.unwrap().unwrap();
        assert!(made.root.0.ct_eq(&kept.0));
        assert!(!roots.create(4).await.unwrap().root.0.ct_eq(&made.root.0));
        roots.destroy_below(4).await.unwrap();
        assert!(roots.load(3, &store).await.unwrap().is_none());
        assert!(roots.load(4, &store).await.unwrap().is_some());
        assert_eq!(roots.newest().await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_damaged_root_is_none() {
        let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::default());
        let roots = Roots::Files(dir.path().to_path_buf());
        for damaged in [&b""[..], &[1; 31], &[1; 33]] {
            std::fs::write(dir.path().join("epoch-1.root"), damaged).unwrap();
            assert!(roots.load(1, &store).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_root_in_the_store_opens_with_its_key_only() {
        let store = MemoryStore::default();
        let roots = Roots::Wrapped(Arc::new(WrappingKey::of_tests()));
        assert!(roots.load(3, &store).await.unwrap().is_none());
        let made = roots.create(3).await.unwrap();
        store.write(made.writes).await.unwrap();
        let kept = roots.load(3, &store).await.unwrap().unwrap();
        assert!(made.root.0.ct_eq(&kept.0));
        let stored = store.get(Space::Meta, &key(3)).await.unwrap().unwrap();
        store.write(vec![Write::put(Space::Meta, key(4), stored)]).await.unwrap();
        let wrong = roots.load(4, &store).await.unwrap_err().to_string();
        assert!(wrong.contains("store.key-file"), "{wrong}");
        store.write(roots.create(4).await.unwrap().writes).await.unwrap();
        assert!(roots.load(3, &store).await.unwrap().is_none(), "no root outlives its epoch");
    }
}
