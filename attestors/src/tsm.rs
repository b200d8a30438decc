//! Reports of a confidential virtual machine, as Linux hands them out: configfs-tsm, the same for
//! SEV-SNP, TDX and CCA (the kernel's `Documentation/ABI/testing/configfs-tsm-report`).
//!
//! Whoever wants a report makes a directory, in which attributes appear; writes what the report is to
//! carry; and reads the report. Every write advances a counter, by which it shows if somebody else
//! wrote in between.

#[cfg(test)]
pub(crate) mod fixture;

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand;
use tokio::task::{JoinError, spawn_blocking};
use tracing::warn;

use crate::files;

/// Where the kernel shows its attributes.
pub const ROOT: &str = "/sys/kernel/config/tsm/report";

/// The most bytes of a report, and of what comes beside it: more than any kernel's SEV-SNP report or
/// TDX quote has.
pub const MAX_BLOB: usize = 32 << 10;

/// The most bytes of a name or a number.
const MAX_TEXT: usize = 64;

/// The interface of a kernel.
#[derive(Clone, Debug)]
pub struct Tsm {
    root: PathBuf,
    privilege_level: Option<u8>,
    kernel: Arc<dyn Kernel>,
}

/// A report, and what came with it.
#[derive(Clone, Eq, PartialEq)]
pub struct Report {
    /// Who made it: `sev_guest`, `tdx_guest` or `arm_cca_guest`.
    pub provider: String,
    /// The report itself.
    pub outblob: Vec<u8>,
    /// What came beside it, such as the certificates that the host has for SEV-SNP. Empty if nothing
    /// did. Nothing vouches for it.
    pub auxblob: Vec<u8>,
    /// How often something was written before it was made.
    pub generation: u64,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("provider", &self.provider)
            .field("outblob", &format_args!("({} bytes)", self.outblob.len()))
            .field("auxblob", &format_args!("({} bytes)", self.auxblob.len()))
            .field("generation", &self.generation)
            .finish()
    }
}

impl Tsm {
    /// The interface whose directories are made below `root`, usually [`ROOT`].
    ///
    /// # Errors
    ///
    /// [`TsmError::Missing`] if there is no such directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, TsmError> {
        Self::of(root.into(), Arc::new(Configfs))
    }

    fn of(root: PathBuf, kernel: Arc<dyn Kernel>) -> Result<Self, TsmError> {
        if !root.is_dir() {
            return Err(TsmError::Missing { root });
        }
        Ok(Self { root, privilege_level: None, kernel })
    }

    /// The same, with reports of this privilege level: the VMPL of SEV-SNP. Without, the kernel
    /// chooses.
    #[must_use]
    pub fn at_privilege_level(mut self, level: Option<u8>) -> Self {
        self.privilege_level = level;
        self
    }

    /// A report of `provider`'s that carries `data`. Waits for it on a thread where waiting is allowed.
    ///
    /// # Errors
    ///
    /// [`TsmError`] if there is none to be had.
    pub async fn report_of(
        &self,
        provider: &'static str,
        data: [u8; 64],
    ) -> Result<Report, TsmError> {
        let tsm = self.clone();
        let report =
            spawn_blocking(move || tsm.report(&data)).await.map_err(TsmError::Stopping)??;
        if report.provider != provider {
            return Err(TsmError::Provider { found: report.provider, wanted: provider });
        }
        Ok(report)
    }

    /// A report that carries `data`. Blocks the thread until the machine's security processor has made
    /// it.
    ///
    /// # Errors
    ///
    /// [`TsmError`] if there is none to be had.
    pub fn report(&self, data: &[u8; 64]) -> Result<Report, TsmError> {
        let entry = Entry::make(self)?;
        let mut expected = entry.generation()?;
        if let Some(level) = self.privilege_level {
            entry.write("privlevel", level.to_string().as_bytes())?;
            expected = expected.saturating_add(1);
        }
        entry.write("inblob", data)?;
        expected = expected.saturating_add(1);
        // The kernel takes what was written when the file is closed, and can't say then that it did
        // not: the counter says so.
        entry.expect_generation(expected)?;
        let outblob = entry.read("outblob", MAX_BLOB)?;
        let auxblob = entry.read_if_there("auxblob", MAX_BLOB)?;
        let provider = entry.text("provider")?;
        entry.expect_generation(expected)?;
        if outblob.is_empty() {
            return Err(TsmError::Empty);
        }
        Ok(Report { provider, outblob, auxblob, generation: expected })
    }
}

/// A directory of our own, which is removed when it is dropped.
#[derive(Debug)]
struct Entry<'a> {
    path: PathBuf,
    kernel: &'a dyn Kernel,
}

impl<'a> Entry<'a> {
    fn make(tsm: &'a Tsm) -> Result<Self, TsmError> {
        let mut unique = [0; 8];
        rand::fill(&mut unique).map_err(|_no_randomness| TsmError::Randomness)?;
        let path = tsm.root.join(format!("claviger-{}", hex::encode(unique)));
        tsm.kernel.make(&path).map_err(|error| failed("make", &path, error))?;
        Ok(Self { path, kernel: &*tsm.kernel })
    }

    fn write(&self, attribute: &str, bytes: &[u8]) -> Result<(), TsmError> {
        let path = self.path.join(attribute);
        self.kernel.write(&path, bytes).map_err(|error| failed("write", &path, error))
    }

    fn read(&self, attribute: &str, max: usize) -> Result<Vec<u8>, TsmError> {
        let path = self.path.join(attribute);
        self.kernel.read(&path, max).map_err(|error| failed("read", &path, error))
    }

    /// The bytes of an attribute that not every kernel and provider has.
    fn read_if_there(&self, attribute: &str, max: usize) -> Result<Vec<u8>, TsmError> {
        match self.read(attribute, max) {
            Err(TsmError::Failed { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            read => read,
        }
    }

    fn text(&self, attribute: &'static str) -> Result<String, TsmError> {
        let text = String::from_utf8(self.read(attribute, MAX_TEXT)?);
        let text = text.map_err(|_not_text| TsmError::Text { attribute })?;
        Ok(text.trim_end().to_owned())
    }

    fn generation(&self) -> Result<u64, TsmError> {
        let attribute = "generation";
        self.text(attribute)?.parse().map_err(|_not_a_number| TsmError::Text { attribute })
    }

    fn expect_generation(&self, expected: u64) -> Result<(), TsmError> {
        let found = self.generation()?;
        if found == expected { Ok(()) } else { Err(TsmError::Raced { expected, found }) }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kernel.remove(&self.path) {
            let path = self.path.display();
            warn!(%path, %error, "cannot remove the directory of an attestation report; remove it");
        }
    }
}

/// What a kernel does below its root.
trait Kernel: fmt::Debug + Send + Sync {
    /// Makes a directory, in which attributes appear.
    fn make(&self, entry: &Path) -> io::Result<()>;

    /// Writes an attribute, at once.
    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Reads an attribute, of at most `max` bytes.
    fn read(&self, attribute: &Path, max: usize) -> io::Result<Vec<u8>>;

    /// Removes a directory with the attributes in it.
    fn remove(&self, entry: &Path) -> io::Result<()>;
}

/// Linux.
#[derive(Debug)]
struct Configfs;

impl Kernel for Configfs {
    fn make(&self, entry: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(entry)
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(attribute)?.write_all(bytes)
    }

    fn read(&self, attribute: &Path, max: usize) -> io::Result<Vec<u8>> {
        files::read(attribute, max).map(|bytes| bytes.to_vec())
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        fs::remove_dir(entry)
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> TsmError {
    TsmError::Failed { what, path: path.to_owned(), source }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum TsmError {
    /// The kernel does not hand out reports.
    #[error(
        "there is no directory `{root}`: this is no confidential virtual machine, or its kernel is \
         older than 6.7, or configfs is not mounted, or the module `sev-guest` or `tdx-guest` is not \
         loaded"
    )]
    Missing {
        /// Where it should be.
        root: PathBuf,
    },
    /// The kernel refused something.
    #[error("cannot {what} `{path}`; it takes root, or the capability to write there")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An attribute makes no sense.
    #[error("the kernel's attribute `{attribute}` is not what it is documented to be")]
    Text {
        /// Which.
        attribute: &'static str,
    },
    /// Somebody else wrote, or the kernel did not take what was written.
    #[error("the kernel counts {found} writes for a report where there should be {expected}")]
    Raced {
        /// How many there should be.
        expected: u64,
        /// How many the kernel counts.
        found: u64,
    },
    /// The report is empty.
    #[error("the kernel's report is empty")]
    Empty,
    /// The machine is of another kind.
    #[error("the reports of this machine are `{found}`'s, and not `{wanted}`'s")]
    Provider {
        /// Who makes its reports.
        found: String,
        /// Who should.
        wanted: &'static str,
    },
    /// There is no randomness.
    #[error("there is no randomness")]
    Randomness,
    /// The program is stopping.
    #[error("the program is stopping")]
    Stopping(#[source] JoinError),
}

#[cfg(test)]
mod tests {
    use super::fixture::{Answer, FakeKernel};
    use super::*;

    const DATA: [u8; 64] = [7; 64];

    fn answer() -> Answer {
        Answer {
            provider: "sev_guest\n".to_owned(),
            outblob: b"report".to_vec(),
            auxblob: Some(b"certificates".to_vec()),
        }
    }

    #[test]
    fn a_report_carries_the_data_and_leaves_nothing_behind() {
        let (tsm, kernel) = FakeKernel::tsm(|inblob| {
            assert_eq!(inblob, DATA);
            answer()
        });
        let report = tsm.report(&DATA).unwrap();
        assert_eq!(report.outblob, b"report");
        assert_eq!(report.auxblob, b"certificates");
        assert_eq!((report.provider.as_str(), report.generation), ("sev_guest", 1));
        let report = tsm.at_privilege_level(Some(2)).report(&DATA).unwrap();
        assert_eq!(report.generation, 2);
        assert_eq!(kernel.left_behind(), 0);
    }

    #[test]
    fn a_kernel_without_certificates_has_no_auxblob() {
        let (tsm, _kernel) = FakeKernel::tsm(|_| Answer { auxblob: None, ..answer() });
        assert_eq!(tsm.report(&DATA).unwrap().auxblob, b"");
    }

    #[test]
    fn what_was_written_in_between_is_noticed() {
        let (tsm, kernel) = FakeKernel::tsm(|_| answer());
        for extra in [1, -1] {
            kernel.miscount(extra);
            let error = tsm.report(&DATA).unwrap_err();
            assert!(matches!(error, TsmError::Raced { expected: 1, .. }), "{error}");
        }
        assert_eq!(kernel.left_behind(), 0, "cleaned up when it fails, too");
    }

    #[test]
    fn an_answer_has_bounds() {
        let long = vec![0; MAX_BLOB + 1];
        let cases = [
            Answer { outblob: long.clone(), ..answer() },
            Answer { auxblob: Some(long), ..answer() },
            Answer { provider: "x".repeat(MAX_TEXT + 1), ..answer() },
        ];
        for case in cases {
            let (tsm, kernel) = FakeKernel::tsm(move |_| case.clone());
            let error = tsm.report(&DATA).unwrap_err();
            assert!(matches!(error, TsmError::Failed { what: "read", .. }), "{error}");
            assert_eq!(kernel.left_behind(), 0);
        }
        let (tsm, _kernel) = FakeKernel::tsm(|_| Answer { outblob: Vec::new(), ..answer() });
        assert!(matches!(tsm.report(&DATA).unwrap_err(), TsmError::Empty));
    }

    #[tokio::test]
    async fn another_provider_is_refused() {
        let (tsm, _kernel) = FakeKernel::tsm(|_| answer());
        tsm.report_of("sev_guest", DATA).await.unwrap();
        let error = tsm.report_of("tdx_guest", DATA).await.unwrap_err();
        assert!(error.to_string().contains("are `sev_guest`'s"), "{error}");
    }

    #[test]
    fn a_folder_is_no_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let tsm = Tsm::open(folder.path()).unwrap();
        let error = tsm.report(&DATA).unwrap_err();
        assert!(matches!(error, TsmError::Failed { what: "read", .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = Tsm::open(folder.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("no confidential virtual machine"), "{error}");
    }
}
