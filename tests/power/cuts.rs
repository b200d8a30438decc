//! The power goes, at any moment: what a disk may hold then, of what a program wrote and synced.
//!
//! | to find | look in |
//! |---|---|
//! | the library that records, loaded into the program | `recorder.c`, [`recorder`] |
//! | what it has written down | [`recording`] |
//! | what may be left of it after a cut | [`disk`], `content` |
//! | numbers that look random | [`dice`] |
//!
//! It is part of two suites of tests, of which one has the storage of a server for the program, and the other
//! a server.

mod content;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod recording;

use std::path::{Path, PathBuf};
use std::process::Command;

use dice::Dice;
use disk::{Disk, Fate, Names};
use recording::{Deed, Operation, Recording};

/// Builds the library that records, in a directory that lasts as long as the first of the two.
pub(crate) fn recorder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/power/recorder.c");
    let library = dir.path().join("recorder.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source);
    let output = compiler.arg("-ldl").output().expect("a C compiler, which the build needs, too");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (dir, library)
}

/// One cut.
pub(crate) struct Cut<'a> {
    /// After how many operations.
    pub(crate) at: usize,
    /// What is left of what was not durable.
    pub(crate) fate: Fate,
    /// The disk.
    pub(crate) disk: &'a Disk<'a>,
    /// What had been promised by then.
    pub(crate) promised: &'a [&'a str],
}

/// Has the power go `count` times while `recording` was made, and each time shows what there is to `after`.
pub(crate) fn cut<'a>(
    recording: &'a Recording,
    names: Names,
    count: u64,
    dice: &mut Dice,
    mut after: impl FnMut(Cut<'_>, &mut Dice),
) -> Disk<'a> {
    let moments = moments(&recording.operations, count, dice);
    let mut moments = moments.into_iter().peekable();
    let mut disk = Disk::new(recording, names);
    let mut promised = Vec::new();
    for (at, operation) in recording.operations.iter().enumerate() {
        disk.apply(operation);
        if let Deed::Promised(what) = &operation.deed {
            promised.push(&**what);
        }
        while moments.next_if_eq(&at).is_some() {
            let fate =
                *dice.one(&[Fate::Nothing, Fate::Prefix, Fate::Subset, Fate::Subset, Fate::All]);
            after(Cut { at, fate, disk: &disk, promised: &promised }, dice);
        }
    }
    disk
}

/// When the power goes: at any time; and more often when names change, and when somebody was told.
fn moments(operations: &[Operation], count: u64, dice: &mut Dice) -> Vec<usize> {
    let of = |is: fn(&Deed) -> bool| -> Vec<_> {
        let all = operations.iter().enumerate();
        all.filter(|(_, operation)| is(&operation.deed)).map(|(at, _)| at).collect()
    };
    let names =
        of(|deed| matches!(deed, Deed::Rename { .. } | Deed::Remove { .. } | Deed::Create { .. }));
    let told = of(|deed| matches!(deed, Deed::Promised(_)));
    let mut moments: Vec<_> = (0..count)
        .map(|n| match n % 3 {
            0 => dice.below(operations.len()),
            1 => (*dice.one(&names) + dice.below(4)).min(operations.len() - 1),
            _ => *dice.one(&told),
        })
        .collect();
    moments.sort_unstable();
    moments
}
