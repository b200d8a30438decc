//! X.509-SVIDs as files, named as SPIRE's `api fetch` names them.

use std::path::Path;

use bytes::Bytes;
use claviger_proto::convert::der;
use claviger_proto::workload::X509svidResponse;

use crate::failure::Failure;
use crate::{files, pem};

/// Writes `svid.N.key`, `svid.N.pem`, `bundle.N.pem` and `federated_bundle.N.M.pem` into `folder`.
///
/// Each file is replaced atomically. The key goes first: who reads a new certificate finds its key.
pub(super) fn write(folder: &Path, response: &X509svidResponse) -> Result<(), Failure> {
    for (n, svid) in response.svids.iter().enumerate() {
        let key = pem::private_key(&svid.x509_svid_key);
        files::replace(&folder.join(format!("svid.{n}.key")), key.as_bytes(), files::SECRET)?;
        write_certificates(&folder.join(format!("svid.{n}.pem")), &svid.x509_svid)?;
        write_certificates(&folder.join(format!("bundle.{n}.pem")), &svid.bundle)?;
        let mut federated: Vec<_> = response.federated_bundles.iter().collect();
        federated.sort();
        for (m, (_trust_domain, bundle)) in federated.into_iter().enumerate() {
            write_certificates(&folder.join(format!("federated_bundle.{n}.{m}.pem")), bundle)?;
        }
    }
    Ok(())
}

fn write_certificates(path: &Path, concatenated: &Bytes) -> Result<(), Failure> {
    // A bundle may be empty: then everything is revoked, and the file says so by being empty.
    let certificates = match der::split(concatenated) {
        Ok(certificates) => certificates,
        Err(der::DerError::Empty) => Vec::new(),
        Err(error) => {
            let name = path.file_name().unwrap_or_default().display();
            return Err(Failure::failed(format_args!(
                "cannot write `{name}`: the agent's answer {error}"
            )));
        }
    };
    let text: String = certificates.iter().map(|der| pem::certificate(der)).collect();
    files::replace(path, text.as_bytes(), files::PUBLIC)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use claviger_proto::workload::X509svid;

    use super::*;

    #[test]
    fn files_are_named_as_spires_and_keys_are_for_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = Bytes::from_static(&[0x30, 0x01, 0xaa]);
        let svid = X509svid {
            spiffe_id: "spiffe://a.org/x".into(),
            x509_svid: [certificate.clone(), certificate.clone()].concat().into(),
            x509_svid_key: b"key".as_slice().into(),
            bundle: certificate.clone(),
            hint: String::new(),
        };
        let response = X509svidResponse {
            svids: vec![svid],
            crl: Vec::new(),
            federated_bundles: [("spiffe://b.org".to_owned(), certificate)].into(),
        };
        write(dir.path(), &response).unwrap();
        write(dir.path(), &response).unwrap();

        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let want = ["bundle.0.pem", "federated_bundle.0.0.pem", "svid.0.key", "svid.0.pem"];
        assert_eq!(names, want);
        let mode =
            |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("svid.0.key"), mode("svid.0.pem")), (0o600, 0o644));
        let chain = fs::read_to_string(dir.path().join("svid.0.pem")).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
}
