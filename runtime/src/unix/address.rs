//! Where a Unix socket is.

use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

/// The longest path of a Unix socket, in bytes: `sun_path` less its terminating NUL (unix(7)).
const MAX_LEN: usize = 107;

/// Whether a socket can be at `path`; nothing is looked for there.
///
/// # Errors
///
/// [`SocketPathError`] says what is wrong with the path.
pub fn check_path(path: &Path) -> Result<(), SocketPathError> {
    address(path).map(drop)
}

/// The address of the socket at `path`.
pub(super) fn address(path: &Path) -> Result<SocketAddrUnix, SocketPathError> {
    let len = path.as_os_str().len();
    if len == 0 {
        return Err(SocketPathError::Empty);
    }
    if MAX_LEN < len {
        return Err(SocketPathError::TooLong { path: path.to_owned(), len });
    }
    SocketAddrUnix::new(path).map_err(|_nul| SocketPathError::Nul { path: path.to_owned() })
}

/// Why a path can't name a Unix socket.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SocketPathError {
    /// There is nothing in it.
    #[error("the path of a socket cannot be empty")]
    Empty,
    /// The kernel has no room for it.
    #[error("socket path `{path}` is {len} bytes long, the limit is {MAX_LEN}; choose a shorter directory", path = path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// It holds a NUL byte.
    #[error("socket path `{path}` holds a NUL byte", path = path.display())]
    Nul {
        /// The path.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact() {
        address(Path::new(&"a".repeat(MAX_LEN))).unwrap();
        let long = PathBuf::from("a".repeat(MAX_LEN + 1));
        let error = address(&long).unwrap_err();
        assert_eq!(error, SocketPathError::TooLong { path: long.clone(), len: 108 });
        let text = error.to_string();
        for part in [long.to_str().unwrap(), "108", "107"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn no_name_and_half_a_name_are_refused() {
        assert_eq!(address(Path::new("")), Err(SocketPathError::Empty));
        assert!(matches!(address(Path::new("a\0b")), Err(SocketPathError::Nul { .. })));
    }
}
