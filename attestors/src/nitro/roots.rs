//! Whom a chain of certificates has to begin with.

use std::path::Path;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::files;

/// The root of AWS' Nitro attestation PKI, `CN=aws.nitro-enclaves`, valid until 2049. AWS publishes it as
/// `https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip`. NitroTPMs are certified by
/// it, too. Its SHA-256 is `641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b`.
pub(super) const AWS: &[u8] = include_bytes!("roots/aws_nitro_enclaves_g1.der");

/// The largest file with a root, in bytes.
const MAX_FILE: usize = 8 << 10;

/// The certificate in the file at `path`, in PEM or DER: as DER.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let bytes = files::read(path, MAX_FILE)?;
    let der = if bytes.starts_with(b"-----BEGIN ") {
        pem::parse(&*bytes)?.into_contents()
    } else {
        bytes.to_vec()
    };
    match X509Certificate::from_der(&der) {
        Ok(([], _certificate)) => Ok(der),
        Ok(_) | Err(_) => Err("it holds no certificate in PEM or DER".into()),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_root_is_the_one_that_aws_publishes() {
        let fingerprint = hex::encode(digest(&SHA256, AWS));
        assert_eq!(fingerprint, "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b");
    }

    #[test]
    fn a_root_is_read_from_pem_and_der_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", AWS));
        for text in [AWS, pem.as_bytes()] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), AWS);
        }
        for text in [&b"-----BEGIN "[..], &[AWS, &[0]].concat(), b""] {
            std::fs::write(&path, text).unwrap();
            read(&path).unwrap_err();
        }
    }
}
