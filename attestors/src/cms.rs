//! Documents signed by PKCS#7, which is now CMS (RFC 5652): what clouds sign statements about their
//! machines with.
//!
//! | to find | look in |
//! |---|---|
//! | what is accepted, and whose signature it is | here |
//! | the algorithms | `algorithm` |
//! | the signed attributes | `attributes` |
//! | the encoding, which is BER as AWS writes it | `ber` |
//!
//! A small part of CMS: one signer who is named by issuer and serial number, RSA with SHA-2, the
//! content inside, and nothing that is not signed but the certificates. Whose certificate counts is
//! for the caller to say: this module checks that it is the one that the signer names, and never goes
//! by its place among others. There is one way to the content, and it leads past the signature.

mod algorithm;
mod attributes;
pub(crate) mod ber;

#[cfg(test)]
pub(crate) mod fixture;

use claviger_core::time::UnixTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::VerifyError;

use algorithm::{Digest, RSA_ENCRYPTION};
use ber::{
    CONTEXT_0, CONTEXT_1, Element, INTEGER, NotBer, OBJECT_IDENTIFIER, OCTET_STRING, Reader,
    SEQUENCE, SET,
};

/// `id-data` (RFC 5652 §4): content that is just bytes.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// `id-signedData` (RFC 5652 §5.1).
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// Version 1 of SignedData and SignerInfo: plain content, and a signer named by issuer and serial.
const V1: &[u8] = &[1];

/// A signed document, taken apart. Nothing in it is verified, so its content can't be had from it.
#[derive(Debug)]
pub struct SignedData<'a> {
    certificates: Vec<&'a [u8]>,
    content: Vec<u8>,
    signer: SignerInfo<'a>,
}

/// RFC 5652 §5.3.
#[derive(Debug)]
struct SignerInfo<'a> {
    issuer: &'a [u8],
    serial: &'a [u8],
    digest: Digest,
    attributes: Option<Element<'a>>,
    signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    /// The largest document, in bytes. Real ones have 1 to 4 KiB.
    pub const MAX: usize = 32 << 10;
    /// The most certificates in a document.
    pub const MAX_CERTIFICATES: usize = 8;

    /// Takes `document` apart: a ContentInfo that holds a SignedData, and nothing after it.
    ///
    /// # Errors
    ///
    /// [`CmsError::TooLarge`], [`CmsError::Encoding`] or [`CmsError::Unsupported`].
    pub fn parse(document: &'a [u8]) -> Result<Self, CmsError> {
        if Self::MAX < document.len() {
            return Err(CmsError::TooLarge);
        }
        let mut outer = Reader::new(document);
        let mut info = outer.expect(SEQUENCE)?.inside()?;
        outer.finish()?;
        if info.expect(OBJECT_IDENTIFIER)?.content != SIGNED_DATA {
            return Err(CmsError::Unsupported("its content type is not SignedData"));
        }
        let mut explicit = info.expect(CONTEXT_0)?.inside()?;
        info.finish()?;
        let data = explicit.expect(SEQUENCE)?.inside()?;
        explicit.finish()?;
        Self::parse_fields(data)
    }

    /// RFC 5652 §5.1, from the version on.
    fn parse_fields(mut data: Reader<'a>) -> Result<Self, CmsError> {
        if data.expect(INTEGER)?.content != V1 {
            return Err(CmsError::Unsupported("its version is not 1"));
        }
        let mut digests = data.expect(SET)?.inside()?;
        let announced = Digest::parse(&digests.expect(SEQUENCE)?)?;
        digests.finish()?;
        let content = content(&data.expect(SEQUENCE)?)?;
        let mut certificates = Vec::new();
        if let Some(bag) = data.optional(CONTEXT_0)? {
            let mut bag = bag.inside()?;
            while !bag.is_empty() {
                if certificates.len() == Self::MAX_CERTIFICATES {
                    return Err(CmsError::Unsupported("it holds too many certificates"));
                }
                certificates.push(bag.expect(SEQUENCE)?.whole);
            }
        }
        if data.optional(CONTEXT_1)?.is_some() {
            return Err(CmsError::Unsupported("it holds revocation lists"));
        }
        let mut signers = data.expect(SET)?.inside()?;
        data.finish()?;
        if signers.is_empty() {
            return Err(CmsError::Unsupported("it has no signer"));
        }
        let signer = SignerInfo::parse(&signers.expect(SEQUENCE)?)?;
        if !signers.is_empty() {
            return Err(CmsError::Unsupported("it has more than one signer"));
        }
        if signer.digest != announced {
            return Err(CmsError::Unsupported("its signer does not use the digest it announces"));
        }
        // A signature over attributes is one over the same bytes as content: this document may be
        // another one's attributes.
        if signer.attributes.is_none() && content.first() == Some(&SET) {
            return Err(CmsError::Unsupported("its content looks like signed attributes"));
        }
        Ok(Self { certificates, content, signer })
    }

    /// The certificates that came with the document, in DER. Anybody can have put them there.
    #[must_use]
    pub fn certificates(&self) -> &[&'a [u8]] {
        &self.certificates
    }

    /// Whether the signer says that `certificate` is theirs. That is a claim until
    /// [`verify`](Self::verify).
    #[must_use]
    pub fn names(&self, certificate: &X509Certificate<'_>) -> bool {
        certificate.issuer().as_raw() == self.signer.issuer
            && certificate.raw_serial() == self.signer.serial
    }

    /// The one certificate in the document that the signer names.
    ///
    /// # Errors
    ///
    /// [`CmsError::Signer`] if none is, or if several are.
    pub fn signing_certificate(&self) -> Result<&'a [u8], CmsError> {
        let mut named = self.certificates.iter().filter(|der| {
            X509Certificate::from_der(der).is_ok_and(|(_, certificate)| self.names(&certificate))
        });
        match (named.next(), named.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(CmsError::Signer),
        }
    }

    /// The content: exactly the bytes that the key of `certificate` (DER) has signed. Whether that
    /// certificate is to be believed, the caller has to know.
    ///
    /// # Errors
    ///
    /// [`CmsError::Signer`] if the signer names another certificate, [`CmsError::Validity`] if it is
    /// not valid at `now`, [`CmsError::Signature`] if it was not its key that signed this.
    pub fn verify(self, certificate: &[u8], now: UnixTime) -> Result<Vec<u8>, CmsError> {
        let (rest, certificate) =
            X509Certificate::from_der(certificate).map_err(|_detail| CmsError::Signer)?;
        if !rest.is_empty() || !self.names(&certificate) {
            return Err(CmsError::Signer);
        }
        let (from, to) = (certificate.validity().not_before, certificate.validity().not_after);
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < from.timestamp() || to.timestamp() < now {
            return Err(CmsError::Validity);
        }
        let key = certificate.public_key();
        if key.algorithm.algorithm.as_bytes() != RSA_ENCRYPTION {
            return Err(CmsError::Unsupported("its signer's key is not an RSA key"));
        }
        let signed = match &self.signer.attributes {
            Some(attributes) => {
                attributes::check(attributes, &self.signer.digest.of(&self.content))?;
                attributes::as_signed(attributes)
            }
            None => self.content.clone(),
        };
        let key = key.subject_public_key.data.as_ref();
        self.signer.digest.verify(key, &signed, self.signer.signature)?;
        Ok(self.content)
    }
}

impl<'a> SignerInfo<'a> {
    fn parse(element: &Element<'a>) -> Result<Self, CmsError> {
        let mut fields = element.inside()?;
        // Version 3 names the signer by a key identifier, which two certificates may share.
        if fields.expect(INTEGER)?.content != V1 {
            return Err(CmsError::Unsupported(
                "its signer is not named by issuer and serial number",
            ));
        }
        let mut sid = fields.expect(SEQUENCE)?.inside()?;
        let issuer = sid.expect(SEQUENCE)?.whole;
        let serial = sid.expect(INTEGER)?.content;
        sid.finish()?;
        let digest = Digest::parse(&fields.expect(SEQUENCE)?)?;
        let attributes = fields.optional(CONTEXT_0)?;
        digest.check_signature_algorithm(&fields.expect(SEQUENCE)?)?;
        let signature = fields.expect(OCTET_STRING)?.content;
        if !fields.is_empty() {
            return Err(CmsError::Unsupported("it has attributes that are not signed"));
        }
        Ok(Self { issuer, serial, digest, attributes, signature })
    }
}

/// The bytes in an EncapsulatedContentInfo (RFC 5652 §5.2): one OCTET STRING, or the pieces of one.
fn content(element: &Element<'_>) -> Result<Vec<u8>, CmsError> {
    let mut fields = element.inside()?;
    if fields.expect(OBJECT_IDENTIFIER)?.content != DATA {
        return Err(CmsError::Unsupported("its content is not plain data"));
    }
    let Some(explicit) = fields.optional(CONTEXT_0)? else {
        return Err(CmsError::Unsupported("its content is elsewhere"));
    };
    fields.finish()?;
    let mut explicit = explicit.inside()?;
    let content = explicit.octets()?;
    explicit.finish()?;
    Ok(content)
}

/// Why a document is worth nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CmsError {
    /// It is larger than [`SignedData::MAX`].
    #[error("the document is larger than {} bytes", SignedData::MAX)]
    TooLarge,
    /// It is not CMS.
    #[error("the document is not a CMS SignedData")]
    Encoding,
    /// It is CMS that nobody needs here.
    #[error("the document is not accepted: {0}")]
    Unsupported(&'static str),
    /// The signer is nobody that counts.
    #[error("the certificate that the document's signer names is not there, or is there twice")]
    Signer,
    /// The signer's certificate is not valid yet, or no longer.
    #[error("the certificate of the document's signer is not valid now")]
    Validity,
    /// The content or the attributes are not what was signed.
    #[error("the document's signature does not verify")]
    Signature,
}

impl CmsError {
    /// What this means for evidence that the document is part of.
    pub(crate) fn in_evidence(self) -> VerifyError {
        match self {
            Self::TooLarge | Self::Encoding => VerifyError::Malformed,
            Self::Unsupported(_) | Self::Signer | Self::Validity | Self::Signature => {
                VerifyError::not_genuine(self.to_string())
            }
        }
    }
}

impl From<NotBer> for CmsError {
    fn from(NotBer: NotBer) -> Self {
        Self::Encoding
    }
}

#[cfg(test)]
mod tests;
