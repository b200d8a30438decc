//! The disk of a machine in another directory: what the witness says about itself has to be true there,
//! or every store that is looked at would be taken for a copy.

use std::fs;
use std::path::Path;

use crate::journal::witness::Witness;

/// Whether the machine went down between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Boot {
    Same,
    Another,
}

/// Makes the data in `data` the original.
pub(super) fn settle(data: &Path, boot: Boot) {
    let path = data.join("witness");
    let Ok(said) = fs::read(&path) else { return };
    Witness::settle(&path, &said, boot == Boot::Same);
}
