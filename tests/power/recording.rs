//! What `tests/power/recorder.c` has written down.

use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

/// Bytes of a record before its paths and data.
const HEADER: usize = 4 + 1 + 4 + 8 + 8 + 3 * 4;

/// All that was recorded.
pub(crate) struct Recording {
    bytes: Vec<u8>,
    /// In their order.
    pub(crate) operations: Vec<Operation>,
}

/// One thing that was done; by `thread`, which tells which sync has ended.
pub(crate) struct Operation {
    pub(super) thread: u32,
    /// What the file system calls the file or directory.
    pub(super) inode: u64,
    pub(super) deed: Deed,
}

/// What was done.
pub(crate) enum Deed {
    /// The recorded directory; a process begins.
    Root,
    Create {
        path: String,
    },
    /// It was there.
    Open {
        path: String,
    },
    MakeDirectory {
        path: String,
    },
    Write {
        offset: u64,
        data: Range<usize>,
    },
    Truncate {
        length: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        path: String,
    },
    Remove {
        path: String,
    },
    SyncBegins,
    SyncEnds,
    /// Somebody was promised something.
    Promised(String),
}

impl Recording {
    pub(crate) fn read(log: &Path) -> Self {
        let bytes = fs::read(log).unwrap();
        let (mut operations, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let length = number(&bytes, at, 4);
            operations.push(operation(&bytes, at));
            at += usize::try_from(length).unwrap();
        }
        Self { bytes, operations }
    }

    pub(super) fn data(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    pub(crate) fn promised(&self) -> impl Iterator<Item = &str> {
        self.operations.iter().filter_map(|operation| {
            if let Deed::Promised(what) = &operation.deed { Some(&**what) } else { None }
        })
    }
}

/// Appends what was promised to the log of the recorder: before or after whatever it records.
pub(crate) fn append(log: &fs::File, text: &str) {
    let size = u32::try_from(text.len()).unwrap();
    let mut record = (u32::try_from(HEADER).unwrap() + size).to_ne_bytes().to_vec();
    record.push(b'A');
    record.extend([0; 4 + 8 + 8 + 2 * 4]);
    record.extend(size.to_ne_bytes());
    record.extend(text.as_bytes());
    let mut log = log;
    assert_eq!(log.write(&record).unwrap(), record.len());
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut number = [0; 8];
    number[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_ne_bytes(number)
}

fn operation(bytes: &[u8], at: usize) -> Operation {
    let size = |offset| usize::try_from(number(bytes, at + offset, 4)).unwrap();
    let path = at + HEADER..at + HEADER + size(25);
    let other = path.end..path.end + size(29);
    let data = other.end..other.end + size(33);
    let text = |range: &Range<usize>| str::from_utf8(&bytes[range.clone()]).unwrap().to_owned();
    let far = number(bytes, at + 17, 8);
    let deed = match bytes[at + 4] {
        b'O' => Deed::Root,
        b'C' => Deed::Create { path: text(&path) },
        b'P' => Deed::Open { path: text(&path) },
        b'D' => Deed::MakeDirectory { path: text(&path) },
        b'W' => Deed::Write { offset: far, data },
        b'T' => Deed::Truncate { length: far },
        b'R' => Deed::Rename { from: text(&path), to: text(&other) },
        b'L' => Deed::Link { path: text(&path) },
        b'U' => Deed::Remove { path: text(&path) },
        b'S' => Deed::SyncBegins,
        b'E' => Deed::SyncEnds,
        b'A' => Deed::Promised(text(&data)),
        kind => panic!("a record of kind {kind}"),
    };
    let thread = u32::try_from(number(bytes, at + 5, 4)).unwrap();
    Operation { thread, inode: number(bytes, at + 9, 8), deed }
}
