//! Making a socket file, and removing it again.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, lstat, unlink};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect, listen,
    socket_with,
};
use tracing::info;

use super::address::{SocketPathError, address};

/// Connections that the kernel keeps until we accept them: a burst of workloads that start at once.
const BACKLOG: i32 = 1_024;

/// Binds `path` and listens there, with the permission bits `mode`.
///
/// The kernel makes the file with `0777 & !umask`, and changing the umask would race with other
/// threads. That does no harm: until `listen`, every `connect` is refused, and by then the file
/// has its mode.
///
/// Two servers that start here in the same instant are not told apart. They are by the lock on
/// their data directory.
pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), BindError> {
    let addr = address(path)?;
    check_directory(path)?;
    remove_stale(path, &addr)?;

    let failed = |doing| move |errno: Errno| io_error(path, doing, errno.into());
    let socket = stream_socket().map_err(failed("create"))?;
    // Connections inherit it, and so each says from its first byte on who wrote it.
    set_socket_passcred(&socket, true).map_err(failed("set up"))?;
    bind_to(&socket, &addr).map_err(failed("bind"))?;
    let file = SocketFile::at(path).map_err(failed("inspect"))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| io_error(path, "set the mode of", error))?;
    listen(&socket, BACKLOG).map_err(failed("listen on"))?;
    Ok((socket.into(), file))
}

/// Whoever may replace the socket may answer in our place, so that must not be everyone.
fn check_directory(path: &Path) -> Result<(), BindError> {
    const WRITABLE_BY_ALL: u32 = 0o002;
    const STICKY: u32 = 0o1000;

    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mode = fs::metadata(dir).map_err(|error| io_error(dir, "inspect", error))?.mode();
    if mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0 {
        return Err(BindError::OpenDirectory { dir: dir.to_owned() });
    }
    Ok(())
}

/// Removes what a crashed server left behind, and nothing else.
fn remove_stale(path: &Path, addr: &SocketAddrUnix) -> Result<(), BindError> {
    let failed = |doing| move |errno: Errno| io_error(path, doing, errno.into());
    let found = match lstat(path) {
        Ok(found) => FileType::from_raw_mode(found.st_mode),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("inspect")(errno)),
    };
    if found != FileType::Socket {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    let probe = stream_socket().map_err(failed("probe"))?;
    match connect(&probe, addr) {
        // A full queue has an owner, too.
        Ok(()) | Err(Errno::AGAIN) => Err(BindError::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => {
            info!(path = %path.display(), "removing the socket of a server that is gone");
            unlink(path).map_err(failed("remove stale"))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("probe")(errno)),
    }
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Our file in the file system. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Inode,
}

type Inode = (u64, u64);

impl SocketFile {
    fn at(path: &Path) -> Result<Self, Errno> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have taken the path over since; its socket is not ours to remove.
        if inode(&self.path) == Ok(self.inode)
            && let Err(error) = unlink(&self.path)
        {
            info!(path = %self.path.display(), %error, "socket file not removed");
        }
    }
}

fn inode(path: &Path) -> Result<Inode, Errno> {
    lstat(path).map(|file| (file.st_dev, file.st_ino))
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> BindError {
    BindError::Io { path: path.to_owned(), doing, source }
}

/// Why we can't listen on a Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path is unusable.
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// Anyone could put another socket in the place of ours.
    #[error("directory `{dir}` is writable by everyone; take that right away or choose another directory", dir = dir.display())]
    OpenDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process listens there.
    #[error("another process listens on `{path}`; stop it or choose another path", path = path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something is there that we did not make.
    #[error("`{path}` exists and is not a socket; move it away or choose another path", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// This kernel can't tell us who a caller is.
    #[error("this kernel cannot identify processes by pidfd; Linux 5.3 or newer is needed")]
    NoPidfd(#[source] io::Error),
    /// The operating system refused.
    #[error("cannot {doing} socket `{path}`", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tempfile::{TempDir, tempdir};

    use super::*;

    const MODE: u32 = 0o666;

    fn dir_and_path() -> (TempDir, PathBuf) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        (dir, path)
    }

    #[test]
    fn the_mode_is_exact_whatever_the_umask() {
        for mode in [0o600, 0o660, 0o777] {
            let (_dir, path) = dir_and_path();
            let _bound = bind(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn a_socket_left_behind_is_replaced() {
        let (_dir, path) = dir_and_path();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves its socket behind");
        let _bound = bind(&path, MODE).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_live_socket_is_refused_and_survives() {
        let (_dir, path) = dir_and_path();
        let _alive = bind(&path, MODE).unwrap();
        let error = bind(&path, MODE).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let (dir, path) = dir_and_path();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, MODE).unwrap_err(), BindError::NotASocket { .. }));
        assert_eq!(fs::read(&path).unwrap(), b"precious");

        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(bind(&link, MODE).unwrap_err(), BindError::NotASocket { .. }));
    }

    #[test]
    fn a_directory_open_to_everyone_is_refused() {
        let (dir, path) = dir_and_path();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(bind(&path, MODE).unwrap_err(), BindError::OpenDirectory { .. }));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        bind(&path, MODE).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named() {
        let (dir, _) = dir_and_path();
        let error = bind(&dir.path().join("none/agent.sock"), MODE).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn only_our_own_file_is_removed() {
        let (_dir, path) = dir_and_path();
        let (listener, file) = bind(&path, MODE).unwrap();
        drop((listener, file));
        assert!(!path.exists());

        let (_listener, file) = bind(&path, MODE).unwrap();
        // A successor takes the path over while we still hold the old inode.
        fs::rename(&path, path.with_extension("old")).unwrap();
        let _successor = bind(&path, MODE).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }
}
