//! Reading a small file that an operator named.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

/// What is in the file at `path`, which may be a secret, unless it is more than `max` bytes.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // Room for one byte more, which shows that there is more. Never reallocated, so that one buffer
    // is to be wiped.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if max < bytes.len() {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {max} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(*read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // Whatever its length is said to be.
        assert_eq!(
            read(Path::new("/dev/zero"), 9).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
}
