//! The algorithms that are believed: RSA (PKCS #1 v1.5) with SHA-2. No SHA-1, no keys below 2048
//! bits, and no choice for whoever sends the document.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};

use super::CmsError;
use super::ber::{Element, NULL, OBJECT_IDENTIFIER};

/// `rsaEncryption` (RFC 8017 appendix C): a signature whose digest is said elsewhere.
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const SHA384_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const SHA512_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const ID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ID_SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const ID_SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];

/// A digest (RFC 5754 §2), which is also the one in the signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    /// A DigestAlgorithmIdentifier. Azure names the whole signature algorithm in its place.
    pub(super) fn parse(identifier: &Element<'_>) -> Result<Self, CmsError> {
        match oid(identifier)? {
            ID_SHA256 | SHA256_WITH_RSA => Ok(Self::Sha256),
            ID_SHA384 => Ok(Self::Sha384),
            ID_SHA512 => Ok(Self::Sha512),
            _ => Err(CmsError::Unsupported("its digest is not of the SHA-2 family")),
        }
    }

    /// Refuses a SignatureAlgorithmIdentifier that is not RSA with this digest (RFC 5754 §3.2).
    pub(super) fn check_signature_algorithm(
        self,
        identifier: &Element<'_>,
    ) -> Result<(), CmsError> {
        let with_rsa = match self {
            Self::Sha256 => SHA256_WITH_RSA,
            Self::Sha384 => SHA384_WITH_RSA,
            Self::Sha512 => SHA512_WITH_RSA,
        };
        let named = oid(identifier)?;
        if named == RSA_ENCRYPTION || named == with_rsa {
            Ok(())
        } else {
            Err(CmsError::Unsupported("its signature is not RSA with the digest it announces"))
        }
    }

    pub(super) fn of(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        };
        digest::digest(algorithm, bytes)
    }

    /// Whether `signature` is one over `message` by the RSA `key` (an RSAPublicKey).
    pub(super) fn verify(
        self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CmsError> {
        let parameters: &RsaParameters = match self {
            Self::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        };
        UnparsedPublicKey::new(parameters, key)
            .verify(message, signature)
            .map_err(|_unspecified| CmsError::Signature)
    }
}

/// The name in an AlgorithmIdentifier without parameters: they are absent or NULL.
fn oid<'a>(identifier: &Element<'a>) -> Result<&'a [u8], CmsError> {
    let mut fields = identifier.inside()?;
    let name = fields.expect(OBJECT_IDENTIFIER)?.content;
    if fields.optional(NULL)?.is_some_and(|null| !null.content.is_empty()) || !fields.is_empty() {
        return Err(CmsError::Unsupported("an algorithm has parameters"));
    }
    Ok(name)
}
