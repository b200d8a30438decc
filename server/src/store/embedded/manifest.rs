//! Whether the engine's lists of its tables are whole.
//!
//! Each space has a file `current` that names the newest list and has its checksum: the list's number,
//! eight little-endian bytes; an XXH3 of the list, sixteen; and which kind of checksum that is, a zero. The
//! engine writes the checksum and never compares it. A list with one flipped bit has it read tables in
//! another order, so that what a table has replaced is there again: a spent key is unspent.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

/// What is wrong with the lists of the store in `path`, which nobody has open.
///
/// # Errors
///
/// What the operating system says.
pub(super) fn flaw(path: &Path) -> io::Result<Option<String>> {
    let spaces = path.join("keyspaces");
    if !spaces.try_exists()? {
        return Ok(None);
    }
    for space in fs::read_dir(spaces)? {
        let space = space?;
        if let Some(list) = list(&space.path())? {
            return Ok(Some(format!("`{}` is not what was written", list.display())));
        }
    }
    Ok(None)
}

/// The list of one space, if it is not as it was written. A space without any is for the engine to judge.
fn list(space: &Path) -> io::Result<Option<std::path::PathBuf>> {
    let current = space.join("current");
    let said = match fs::read(&current) {
        Ok(said) => said,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((number, rest)) = said.split_first_chunk() else { return Ok(Some(current)) };
    let list = space.join(format!("v{}", u64::from_le_bytes(*number)));
    let contents = match fs::read(&list) {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(list)),
        Err(error) => return Err(error),
    };
    let whole = [&xxh3_128(&contents).to_le_bytes()[..], &[0]].concat() == rest;
    Ok((!whole).then_some(list))
}
