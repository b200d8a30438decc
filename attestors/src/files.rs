//! Files that an operator names.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tracing::warn;
use zeroize::Zeroizing;

/// The bytes of the file at `path`, which is to hold a secret. Warns if everybody can read it.
pub(crate) fn read_secret(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if std::fs::metadata(path)?.mode() & READABLE_BY_OTHERS != 0 {
        warn!(
            path = %path.display(),
            "every user of this machine can read this secret; `chmod 600` its file"
        );
    }
    read(path, max)
}

const READABLE_BY_OTHERS: u32 = 0o004;

/// The bytes of the file at `path`, of which there are at most `max`.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    // With room for all of them and one more, nothing is moved, and one buffer is to be wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max.saturating_add(1)));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if max < bytes.len() {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {max} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345").unwrap();
        assert_eq!(read(file.path(), 5).unwrap().as_slice(), b"12345");
        let error = read(file.path(), 4).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 4 bytes");
    }
}
