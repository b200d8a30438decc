//! X.509-SVIDs as files.

mod names;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use claviger_core::der;
use claviger_proto::workload::{X509svid, X509svidResponse};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::{files, pem};
use names::{Name, Names};

/// Which files are written, and how.
#[derive(Args, Debug)]
pub(super) struct Files {
    /// Writes certificates, keys and bundles into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,

    /// Names the files NAME.pem, NAME.key, NAME.bundle.pem; of several identities, the first
    #[arg(long, value_name = "NAME", requires = "write")]
    name: Option<Name>,

    /// Writes chain and key into one more file, svid.N.combined.pem, as haproxy wants them
    #[arg(long, requires = "write")]
    combined: bool,

    /// Permission bits of the files that hold a key: 0600, 0640, 0400 or 0440. For a group to read
    /// them, let DIR belong to it and set DIR's setgid bit
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = key_mode)]
    key_mode: u32,
}

impl Files {
    /// Writes `response` down, if files were asked for, and removes those of identities that it no
    /// longer has.
    ///
    /// Each file is replaced atomically. The key goes first: who reads a new certificate finds its
    /// key.
    pub(super) fn write(&self, response: &X509svidResponse) -> Result<(), Failure> {
        let Some(folder) = &self.write else { return Ok(()) };
        let (names, svids) = match &self.name {
            None => (Names::Spire, response.svids.as_slice()),
            Some(name) => (Names::Given(name), response.svids.get(..1).unwrap_or_default()),
        };
        for (n, svid) in svids.iter().enumerate() {
            self.write_svid(folder, names, n, svid)?;
            let mut federated: Vec<_> = response.federated_bundles.iter().collect();
            federated.sort();
            for (m, (_trust_domain, bundle)) in federated.iter().enumerate() {
                write_certificates(&folder.join(names.federated(n, m)), bundle)?;
            }
            remove_federated(folder, names, n, federated.len())?;
        }
        match self.name {
            None => remove_identities(folder, names, svids.len()),
            Some(_) => Ok(()),
        }
    }

    fn write_svid(
        &self,
        folder: &Path,
        names: Names<'_>,
        n: usize,
        svid: &X509svid,
    ) -> Result<(), Failure> {
        let key = pem::private_key(&svid.x509_svid_key);
        let chain = certificates(&names.chain(n), &svid.x509_svid)?;
        files::replace(&folder.join(names.key(n)), key.as_bytes(), self.key_mode)?;
        files::replace(&folder.join(names.chain(n)), chain.as_bytes(), files::PUBLIC)?;
        if self.combined {
            let both = Zeroizing::new([chain.as_bytes(), key.as_bytes()].concat());
            files::replace(&folder.join(names.combined(n)), &both, self.key_mode)?;
        }
        write_certificates(&folder.join(names.bundle(n)), &svid.bundle)
    }
}

fn write_certificates(path: &Path, concatenated: &Bytes) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    files::replace(path, certificates(&name, concatenated)?.as_bytes(), files::PUBLIC)
}

/// The text of the file `name`. A bundle may be empty: then everything is revoked, and the file says
/// so by being empty.
fn certificates(name: &str, concatenated: &Bytes) -> Result<String, Failure> {
    let certificates = match der::split(concatenated) {
        Ok(certificates) => certificates,
        Err(der::DerError::Empty) => Vec::new(),
        Err(error) => {
            return Err(Failure::failed(format_args!(
                "cannot write `{name}`: the agent's answer {error}"
            )));
        }
    };
    Ok(certificates.iter().map(|der| pem::certificate(der)).collect())
}

/// Removes the files of identity `first` and of those after it, until there is one without any.
fn remove_identities(folder: &Path, names: Names<'_>, first: usize) -> Result<(), Failure> {
    for n in first.. {
        let mut found = false;
        for name in names.of(n) {
            found |= remove(&folder.join(name))?;
        }
        if !found {
            break;
        }
        remove_federated(folder, names, n, 0)?;
    }
    Ok(())
}

/// Removes the bundles `first` and after of identity `n`, until there is none.
fn remove_federated(
    folder: &Path,
    names: Names<'_>,
    n: usize,
    first: usize,
) -> Result<(), Failure> {
    for m in first.. {
        if !remove(&folder.join(names.federated(n, m)))? {
            break;
        }
    }
    Ok(())
}

/// Whether the file was there.
fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::failed(format_args!(
            "cannot remove `{}`, which belongs to no identity any more: {error}",
            path.display()
        ))),
    }
}

/// A key that everybody may read is no key.
fn key_mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ (0o400 | 0o440 | 0o600 | 0o640)) => Ok(mode),
        _ => Err("write 0600 or 0400, or 0640 or 0440 for a group to read it, too"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const CERTIFICATE: Bytes = Bytes::from_static(&[0x30, 0x01, 0xaa]);

    fn files(folder: &Path) -> Files {
        Files { write: Some(folder.into()), name: None, combined: false, key_mode: 0o600 }
    }

    fn response(identities: usize, federated: &[&str]) -> X509svidResponse {
        let svid = X509svid {
            spiffe_id: "spiffe://a.org/x".into(),
            x509_svid: [CERTIFICATE, CERTIFICATE].concat().into(),
            x509_svid_key: b"key".as_slice().into(),
            bundle: CERTIFICATE,
            hint: String::new(),
        };
        X509svidResponse {
            svids: vec![svid; identities],
            crl: Vec::new(),
            federated_bundles: federated.iter().map(|&id| (id.to_owned(), CERTIFICATE)).collect(),
        }
    }

    fn listing(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_named_as_spires_and_keys_are_for_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let response = response(1, &["spiffe://b.org"]);
        files(dir.path()).write(&response).unwrap();
        files(dir.path()).write(&response).unwrap();

        let want = ["bundle.0.pem", "federated_bundle.0.0.pem", "svid.0.key", "svid.0.pem"];
        assert_eq!(listing(dir.path()), want);
        assert_eq!(mode(&dir.path().join("svid.0.key")), 0o600);
        assert_eq!(mode(&dir.path().join("svid.0.pem")), 0o644);
        let chain = fs::read_to_string(dir.path().join("svid.0.pem")).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    }

    #[test]
    fn what_belongs_to_no_identity_any_more_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("svid.9.pem"), "somebody else's").unwrap();
        let files = Files { combined: true, ..files(dir.path()) };
        files.write(&response(3, &["spiffe://b.org", "spiffe://c.org"])).unwrap();
        files.write(&response(1, &["spiffe://c.org"])).unwrap();
        let want = [
            "bundle.0.pem",
            "federated_bundle.0.0.pem",
            "svid.0.combined.pem",
            "svid.0.key",
            "svid.0.pem",
            "svid.9.pem",
        ];
        assert_eq!(listing(dir.path()), want);
    }

    #[test]
    fn the_first_identity_can_be_given_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let name = "web".parse().unwrap();
        let files =
            Files { name: Some(name), combined: true, key_mode: 0o640, ..files(dir.path()) };
        files.write(&response(2, &["spiffe://b.org"])).unwrap();
        let want =
            ["web.bundle.pem", "web.combined.pem", "web.federated.0.pem", "web.key", "web.pem"];
        assert_eq!(listing(dir.path()), want);
        assert_eq!(mode(&dir.path().join("web.combined.pem")), 0o640);
        let both = fs::read_to_string(dir.path().join("web.combined.pem")).unwrap();
        let marks: Vec<_> = both.lines().filter(|line| line.starts_with("-----B")).collect();
        let (certificate, key) = ("-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----");
        assert_eq!(marks, [certificate, certificate, key]);
    }

    #[test]
    fn nobody_else_is_given_a_key() {
        assert_eq!(key_mode("0640"), Ok(0o640));
        for refused in ["0644", "777", "0", "rw"] {
            assert!(key_mode(refused).unwrap_err().contains("0600"), "{refused}");
        }
    }
}
