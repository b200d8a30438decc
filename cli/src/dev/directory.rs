//! The directory of a `claviger dev`: claimed by one process, left as it was found.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use claviger_runtime::unix;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::console;
use crate::failure::Failure;
use crate::files;

/// The file whose lock says that the directory is in use, and whose presence says whose it is.
const LOCK: &str = "claviger-dev.lock";
const AGENT_SOCKET: &str = "agent.sock";
const AGENT_ADMIN_SOCKET: &str = "agent-admin.sock";
const SERVER_SOCKET: &str = "server.sock";
const SERVER: &str = "server";
const AGENT: &str = "agent";
const POLICY: &str = "policy";
const BUNDLE: &str = "bundle.pem";

/// Of directories: others may look, and connect to the agent, and change nothing, whatever the umask.
const MODE: u32 = 0o755;

/// All that is ever made in it; the lock goes last.
const OURS: [&str; 8] =
    [AGENT_SOCKET, AGENT_ADMIN_SOCKET, SERVER_SOCKET, SERVER, AGENT, POLICY, BUNDLE, LOCK];

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Whether it is ours to remove.
    made: bool,
    _lock: File,
}

impl Directory {
    /// Claims `path`, and makes it if it is not there. What a `dev` that was killed left behind is
    /// removed; nothing else is touched.
    pub(crate) fn claim(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|error| failed("use", path, &error))?;
        check(&path)?;
        let made = match DirBuilder::new().mode(MODE).create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => {
                return Err(
                    failed("make", &path, &error).try_this("its parent must exist and be writable")
                );
            }
        };
        let claimed = Self::lock(path.clone(), made);
        if made && claimed.is_err() {
            // Empty, as we made it.
            drop(fs::remove_dir(&path));
        }
        claimed
    }

    fn lock(path: PathBuf, made: bool) -> Result<Self, Failure> {
        let foreign = foreign(&path)?;
        if !foreign.is_empty() {
            let listed = foreign.join(", ");
            return Err(Failure::failed(format_args!(
                "directory `{}` holds files of others: {listed}",
                path.display()
            ))
            .try_this("name a directory that is empty or does not exist yet"));
        }
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).append(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(|error| failed("lock", &path, &error))?;
        let in_use = || {
            Failure::failed(format_args!("another `claviger dev` runs in `{}`", path.display()))
                .try_this("stop it, or name another directory")
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use()),
            Err(errno) => return Err(failed("lock", &path, &errno.into())),
        }
        // Whoever held it may have removed it between our opening and our locking it.
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|found| found.ino()).ok();
        if inode(lock.metadata()) != inode(fs::metadata(&lock_path)) {
            return Err(in_use());
        }
        let place = Self { path, made, _lock: lock };
        place.remove_all_but_lock()?;
        Ok(place)
    }

    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.path.join(AGENT_SOCKET)
    }

    pub(crate) fn agent_admin_socket(&self) -> PathBuf {
        self.path.join(AGENT_ADMIN_SOCKET)
    }

    pub(crate) fn server_socket(&self) -> PathBuf {
        self.path.join(SERVER_SOCKET)
    }

    pub(super) fn server_data(&self) -> PathBuf {
        self.path.join(SERVER)
    }

    pub(super) fn agent_data(&self) -> PathBuf {
        self.path.join(AGENT)
    }

    /// Writes the only policy file; where it is.
    pub(crate) fn write_policy(&self, text: &str) -> Result<PathBuf, Failure> {
        let dir = self.path.join(POLICY);
        let made = DirBuilder::new().mode(MODE).create(&dir);
        made.map_err(|error| failed("make", &dir, &error))?;
        files::replace(&dir.join("dev.cedar"), text.as_bytes(), files::PUBLIC)?;
        Ok(dir)
    }

    /// Writes the bundle by which the agent recognizes the server; where it is.
    pub(super) fn write_bundle(&self, pem: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(BUNDLE);
        files::replace(&path, pem.as_bytes(), files::PUBLIC)?;
        Ok(path)
    }

    fn remove_all_but_lock(&self) -> Result<(), Failure> {
        for name in OURS.into_iter().filter(|name| *name != LOCK) {
            remove(&self.path.join(name))?;
        }
        Ok(())
    }

    fn remove_everything(&self) -> Result<(), Failure> {
        self.remove_all_but_lock()?;
        remove(&self.path.join(LOCK))?;
        if self.made {
            fs::remove_dir(&self.path).map_err(|error| failed("remove", &self.path, &error))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(failure) = self.remove_everything() {
            console::remark(failure);
        }
    }
}

/// Before anything is made: will the sockets have room, and can their address be written down?
fn check(path: &Path) -> Result<(), Failure> {
    // The longest of them.
    unix::check_path(&path.join(AGENT_ADMIN_SOCKET)).map_err(Failure::usage)?;
    let odd = |c: char| c.is_control() || matches!(c, '?' | '#' | '%');
    match path.to_str() {
        Some(text) if !text.contains(odd) => Ok(()),
        _ => Err(Failure::usage(format_args!(
            "directory `{}` cannot be written as `unix:///path`",
            path.display()
        ))
        .try_this("name a directory without `?`, `#`, `%` and control characters")),
    }
}

/// What is not ours in the directory; without our lock file nothing is.
fn foreign(path: &Path) -> Result<Vec<String>, Failure> {
    /// Enough to recognize the mistake.
    const SHOWN: usize = 5;

    let ours: &[&str] = if path.join(LOCK).exists() { &OURS } else { &[] };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failed("read", path, &error))? {
        let name = entry.map_err(|error| failed("read", path, &error))?.file_name();
        if !ours.iter().any(|our| name == **our) {
            found.push(name.to_string_lossy().into_owned());
        }
        if SHOWN <= found.len() {
            break;
        }
    }
    found.sort();
    Ok(found)
}

/// Removes a file, a socket or a folder, if it is there.
fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot {doing} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("dev");
        let place = Directory::claim(&path).unwrap();
        place.write_policy("permit").unwrap();
        place.write_bundle("pem").unwrap();
        fs::create_dir(place.server_data()).unwrap();
        fs::write(place.server_data().join("store"), "x").unwrap();
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::claim(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("server"), "precious").unwrap();
        let told = Directory::claim(dir.path()).unwrap_err().to_string();
        assert!(told.contains("files of others: server"), "{told}");
        assert_eq!(fs::read(dir.path().join("server")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::claim(dir.path()).unwrap();
        first.write_bundle("pem").unwrap();
        let told = Directory::claim(dir.path()).unwrap_err().to_string();
        assert!(told.contains("another `claviger dev` runs"), "{told}");
        assert!(dir.path().join(BUNDLE).exists());
        drop(first);
        Directory::claim(dir.path()).unwrap();
    }

    #[test]
    fn what_a_killed_one_left_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        fs::create_dir(dir.path().join(SERVER)).unwrap();
        fs::write(dir.path().join(SERVER).join("old"), "").unwrap();
        let place = Directory::claim(dir.path()).unwrap();
        assert!(!place.server_data().exists());
    }

    #[test]
    fn nothing_is_made_before_the_path_is_checked() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("x".repeat(100));
        let told = Directory::claim(&long).unwrap_err().to_string();
        assert!(told.contains("the limit is 107"), "{told}");
        assert!(!long.exists());
        let odd = parent.path().join("a#b");
        assert!(Directory::claim(&odd).unwrap_err().to_string().contains("a#b"));
        assert!(!odd.exists());
    }
}
