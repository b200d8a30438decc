//! Certificates and keys as text (RFC 7468), so that an operator can look at them with any tool.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use zeroize::Zeroizing;

/// What a file of ours holds.
#[derive(Default)]
pub(crate) struct Contents {
    /// The private key, PKCS#8 DER.
    pub(crate) key: Option<Zeroizing<Vec<u8>>>,
    /// The certificates, in the order of the file.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// Reads every section. Text between sections is a comment; a section of another kind is not.
pub(crate) fn read(text: &[u8]) -> Result<Contents, PemError> {
    let mut contents = Contents::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section?;
        if kind == SectionKind::Certificate {
            contents.certificates.push(der.into());
        } else if kind == SectionKind::PrivateKey && contents.key.is_none() {
            contents.key = Some(der.into());
        } else {
            drop(Zeroizing::new(der));
            return Err(PemError::Unexpected(kind));
        }
    }
    Ok(contents)
}

/// The text for `certificates`, after the private key, if there is one.
pub(crate) fn write(key: Option<&[u8]>, certificates: &[CertificateDer<'_>]) -> Zeroizing<Vec<u8>> {
    let sections = key.map(|key| ("PRIVATE KEY", key)).into_iter();
    let sections = sections.chain(certificates.iter().map(|der| ("CERTIFICATE", der.as_ref())));
    let sections: Vec<_> = sections.collect();
    // Room for all of it, so that no copy of the key is left behind by growing.
    let room =
        sections.iter().map(|(_, der)| der.len().saturating_mul(2).saturating_add(128)).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    for (label, der) in sections {
        text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(der));
        for line in encoded.as_bytes().chunks(64) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    }
    text
}

/// A file does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It is not PEM.
    #[error("is not PEM")]
    Syntax(#[from] pem::Error),
    /// It holds something that has no place there.
    #[error("holds a section `{0:?}` that has no place there")]
    Unexpected(SectionKind),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_as_they_went() {
        let certificates = [vec![1; 100], vec![], vec![2; 48]].map(CertificateDer::from);
        let text = write(Some(&[7; 33]), &certificates);
        assert!(
            text.len() <= text.capacity() && text.starts_with(b"-----BEGIN PRIVATE KEY-----\n")
        );
        let contents = read(&text).unwrap();
        assert_eq!(contents.key.unwrap().as_slice(), [7; 33]);
        assert_eq!(contents.certificates, certificates);
        assert!(read(&write(None, &certificates)).unwrap().key.is_none());
    }

    #[test]
    fn what_has_no_place_there_is_refused() {
        let once = write(Some(&[1]), &[]);
        let twice = [once.as_slice(), once.as_slice()].concat();
        assert!(matches!(read(&twice), Err(PemError::Unexpected(SectionKind::PrivateKey))));
        let crl = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        assert!(matches!(read(crl), Err(PemError::Unexpected(SectionKind::Crl))));
        assert!(matches!(read(b"-----BEGIN CERTIFICATE-----\nAA"), Err(PemError::Syntax(_))));
    }
}
