//! The root secrets on disk: `epoch-<n>.root`, 32 bytes, one file for the epoch in force.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use claviger_core::psk::derive::EpochRoot;
use claviger_core::secret::Secret;
use tokio::task::spawn_blocking;

use crate::storage::secret_file;

/// The directory of the roots.
#[derive(Clone, Debug)]
pub(crate) struct Roots(PathBuf);

impl Roots {
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The root of `epoch`; `None` if there is none or it is damaged.
    pub(super) async fn load(&self, epoch: u64) -> io::Result<Option<EpochRoot>> {
        let path = self.path(epoch);
        blocking(move || match secret_file::read(&path, 32) {
            Ok(root) => Ok(root.and_then(|root| Secret::copy_from(&root)).map(EpochRoot)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Makes the root of `epoch`. It is durable when this returns.
    pub(super) async fn create(&self, epoch: u64) -> io::Result<EpochRoot> {
        let path = self.path(epoch);
        blocking(move || {
            let root = Secret::try_fill(|root| SystemRandom::new().fill(root))
                .map_err(|_unspecified| io::Error::other("the system gives no random bytes"))?;
            secret_file::write(&path, root.expose())?;
            Ok(EpochRoot(root))
        })
        .await
    }

    /// The highest number of an epoch with a root; 0 if there is none.
    pub(super) async fn newest(&self) -> io::Result<u64> {
        let directory = self.0.clone();
        blocking(move || Ok(numbers(&directory)?.into_iter().max().unwrap_or(0))).await
    }

    /// Destroys the roots of all epochs before `epoch`, and with them every key under them.
    pub(super) async fn destroy_below(&self, epoch: u64) -> io::Result<()> {
        let roots = self.clone();
        blocking(move || {
            let old = numbers(&roots.0)?.into_iter().filter(|number| *number < epoch);
            old.map(|number| roots.path(number)).try_for_each(|path| secret_file::destroy(&path))
        })
        .await
    }

    fn path(&self, epoch: u64) -> PathBuf {
        self.0.join(format!("epoch-{epoch}.root"))
    }
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

    #[tokio::test]
    async fn a_root_is_kept_until_a_later_epoch_begins() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path().to_path_buf());
        assert_eq!(roots.newest().await.unwrap(), 0);
        let made = roots.create(3).await.unwrap();
        let kept = roots.load(3).await.unwrap().unwrap();
        assert!(made.0.ct_eq(&kept.0));
        assert!(!roots.create(4).await.unwrap().0.ct_eq(&made.0));
        roots.destroy_below(4).await.unwrap();
        assert!(roots.load(3).await.unwrap().is_none());
        assert!(roots.load(4).await.unwrap().is_some());
        assert_eq!(roots.newest().await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_damaged_root_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path().to_path_buf());
        for damaged in [&b""[..], &[1; 31], &[1; 33]] {
            std::fs::write(dir.path().join("epoch-1.root"), damaged).unwrap();
            assert!(roots.load(1).await.unwrap().is_none());
        }
    }
}
