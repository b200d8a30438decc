//! The directory with the suite's own trust domain.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use crate::conformance::ForeignDomain;
use crate::failure::Failure;
use crate::files::{self, PUBLIC, SECRET, replace};

const ES256: &str = "es256.der";
const ED25519: &str = "ed25519.der";
/// The SPIFFE bundle to federate with.
pub(super) const BUNDLE: &str = "bundle.json";

/// Reads the keys in `folder`; where there are none yet, makes them.
pub(super) fn load(folder: &Path) -> Result<ForeignDomain, Failure> {
    if !folder.exists() {
        fs::create_dir(folder).map_err(|error| {
            Failure::failed(format_args!("cannot make `{}`: {error}", folder.display()))
                .try_this("its parent must exist and be writable")
        })?;
    }
    let paths = [folder.join(ES256), folder.join(ED25519)];
    let [es256, ed25519] = &paths;
    if !es256.exists() && !ed25519.exists() {
        let keys = ForeignDomain::generate()
            .map_err(|_unspecified| Failure::failed("the system has no randomness"))?;
        for (path, key) in paths.iter().zip(&keys) {
            replace(path, key, SECRET)?;
        }
    }
    let domain = ForeignDomain::new(&read(es256)?, &read(ed25519)?).map_err(|error| {
        Failure::failed(format_args!("the keys in `{}` are none: {error}", folder.display()))
            .try_this("remove the directory, and federate with the bundle of a new one")
    })?;
    replace(&folder.join(BUNDLE), document(&domain).as_bytes(), PUBLIC)?;
    Ok(domain)
}

/// The bundle as it goes into its file.
fn document(domain: &ForeignDomain) -> String {
    format!("{:#}\n", domain.bundle())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    /// Far more than a key has.
    const MAX: u64 = 4_096;

    files::read(path, MAX).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("foreign");
        let made = document(&load(&folder).unwrap());
        assert_eq!(document(&load(&folder).unwrap()), made);
        assert_eq!(fs::read_to_string(folder.join(BUNDLE)).unwrap(), made);
    }

    #[test]
    fn half_a_trust_domain_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path()).unwrap();
        fs::write(dir.path().join(ED25519), "x").unwrap();
        let broken = load(dir.path()).unwrap_err().to_string();
        assert!(broken.contains("remove the directory"), "{broken}");
        fs::remove_file(dir.path().join(ED25519)).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains(ED25519));
    }
}
