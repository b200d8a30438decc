//! A folder in which attributes appear and change as the kernel's do.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;

use super::{Configfs, Kernel, Tsm};

/// What the kernel answers when data was written.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) provider: String,
    pub(crate) outblob: Vec<u8>,
    pub(crate) auxblob: Option<Vec<u8>>,
}

type Respond = dyn Fn([u8; 64]) -> Answer + Send + Sync;

/// Answers by a function, in files.
pub(crate) struct FakeKernel {
    folder: TempDir,
    respond: Box<Respond>,
    miscount: AtomicI64,
}

impl FakeKernel {
    /// The interface of a kernel that answers as `respond` says.
    pub(crate) fn tsm(
        respond: impl Fn([u8; 64]) -> Answer + Send + Sync + 'static,
    ) -> (Tsm, Arc<Self>) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let miscount = AtomicI64::new(0);
        let kernel = Arc::new(Self { folder, respond: Box::new(respond), miscount });
        (Tsm::of(root, Arc::<Self>::clone(&kernel)).unwrap(), kernel)
    }

    /// Counts that many writes more than there were.
    pub(crate) fn miscount(&self, extra: i64) {
        self.miscount.store(extra, Ordering::Relaxed);
    }

    /// How many directories there are.
    pub(crate) fn left_behind(&self) -> usize {
        fs::read_dir(self.folder.path()).unwrap().count()
    }
}

impl fmt::Debug for FakeKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeKernel").finish_non_exhaustive()
    }
}

impl Kernel for FakeKernel {
    fn make(&self, entry: &Path) -> io::Result<()> {
        Configfs.make(entry)?;
        for attribute in ["inblob", "privlevel"] {
            fs::write(entry.join(attribute), "")?;
        }
        fs::write(entry.join("generation"), "0\n")
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        Configfs.write(attribute, bytes)?;
        let entry = attribute.parent().unwrap();
        let generation = entry.join("generation");
        let count: i64 = fs::read_to_string(&generation)?.trim().parse().unwrap();
        if attribute.ends_with("privlevel") {
            return fs::write(&generation, format!("{}\n", count + 1));
        }
        let answer = (self.respond)(bytes.try_into().unwrap());
        fs::write(entry.join("provider"), answer.provider)?;
        fs::write(entry.join("outblob"), answer.outblob)?;
        if let Some(auxblob) = answer.auxblob {
            fs::write(entry.join("auxblob"), auxblob)?;
        }
        fs::write(&generation, format!("{}\n", count + 1 + self.miscount.load(Ordering::Relaxed)))
    }

    fn read(&self, attribute: &Path, max: usize) -> io::Result<Vec<u8>> {
        Configfs.read(attribute, max)
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        // configfs takes the attributes away with their directory.
        for file in fs::read_dir(entry)? {
            fs::remove_file(file?.path())?;
        }
        Configfs.remove(entry)
    }
}
