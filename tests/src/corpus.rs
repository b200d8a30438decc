//! Real documents, which are not ours to publish: they lie outside of the repository.

use std::path::{Path, PathBuf};

/// The folder with real evidence, `shared/evidence`, beside the checkout or beside a folder around it.
/// None if it isn't there, which is said loudly.
///
/// # Panics
///
/// If it isn't there, and this is CI.
#[must_use]
pub fn evidence() -> Option<PathBuf> {
    let folder = Path::new("shared/evidence");
    let around = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = around.map(|parent| parent.join(folder)).find(|folder| folder.is_dir());
    if found.is_none() {
        let ci = std::env::var_os("CI").is_some();
        assert!(
            !ci,
            "the real documents are missing: no `{}` beside the checkout",
            folder.display()
        );
        #[expect(clippy::print_stderr, reason = "what was not tested must be seen")]
        {
            eprintln!("NOT TESTED against real documents: no `{}`", folder.display());
        }
    }
    found
}
