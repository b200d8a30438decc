//! The names of users and groups, from `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! The C library's look-up would also ask directories on the network, through modules loaded into
//! our process, and might take for ever. Users who are not in the files have numbers and no names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::program::FileId;

/// Both files.
#[derive(Debug)]
pub(super) struct Accounts {
    users: Names,
    groups: Names,
}

impl Accounts {
    pub(super) fn of_this_machine() -> Self {
        Self { users: Names::in_file("/etc/passwd"), groups: Names::in_file("/etc/group") }
    }

    /// The names as they are now.
    pub(super) fn now(&self) -> NamesNow {
        NamesNow { users: self.users.table(), groups: self.groups.table() }
    }
}

/// The names at one moment.
#[derive(Debug)]
pub(super) struct NamesNow {
    users: Arc<Table>,
    groups: Arc<Table>,
}

impl NamesNow {
    pub(super) fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    pub(super) fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }
}

/// The names in one file, read again when it changes.
#[derive(Debug)]
struct Names {
    path: PathBuf,
    last: Mutex<Option<(FileId, Arc<Table>)>>,
}

type Table = HashMap<u32, String>;

/// A file larger than this is not read, in bytes.
const MAX_FILE: u64 = 8 << 20;

impl Names {
    fn in_file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Mutex::default() }
    }

    /// All of them; none if they cannot be read.
    fn table(&self) -> Arc<Table> {
        self.newest().unwrap_or_else(|error| {
            warn!(path = %self.path.display(), %error, "cannot read the names of accounts");
            Arc::default()
        })
    }

    fn newest(&self) -> io::Result<Arc<Table>> {
        let id = FileId::of(&std::fs::metadata(&self.path)?);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, table)) = &*last
            && *read == id
        {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(read(&self.path)?);
        *last = Some((id, Arc::clone(&table)));
        Ok(table)
    }
}

fn read(path: &Path) -> io::Result<Table> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|len| MAX_FILE < len) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 8 MiB"));
    }
    Ok(parse(&text))
}

/// Both files have the name first and the number third. A line that is something else is skipped;
/// of two names for a number, the first counts, as it does for everyone.
fn parse(text: &[u8]) -> Table {
    let mut table = Table::new();
    for line in text.split(|b| *b == b'\n') {
        let mut fields = str::from_utf8(line).unwrap_or_default().split(':');
        if let (Some(name), Some(_password), Some(id)) =
            (fields.next(), fields.next(), fields.next())
            && !name.is_empty()
            && let Ok(id) = id.parse()
        {
            table.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn names_are_found_by_number() {
        let table = parse(
            b"root:x:0:0:root:/root:/bin/sh\n# comment\n\n+::::::\ntoor:x:0:0::/:/bin/sh\n\
              b\xffd:x:5:5:::\nshort:x\nneg:x:-1:\ndb:x:70:70::/:\nlast:x:71",
        );
        let mut names: Vec<_> = table.into_iter().collect();
        names.sort();
        let want = [(0, "root"), (70, "db"), (71, "last")];
        assert_eq!(names, want.map(|(id, name)| (id, name.to_owned())));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("passwd");
        let names = Names::in_file(&path);
        assert_eq!(names.table().get(&7), None);
        std::fs::write(&path, "one:x:7:").unwrap();
        assert_eq!(names.table()[&7], "one");
        std::fs::write(&path, "three:x:7:").unwrap();
        assert_eq!(names.table()[&7], "three");
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        let names = Names::in_file("/dev/zero");
        assert!(names.table().is_empty());
    }

    #[test]
    fn this_machine_has_a_root() {
        let names = Accounts::of_this_machine().now();
        assert_eq!((names.user(0), names.group(0)), (Some("root"), Some("root")));
    }
}
