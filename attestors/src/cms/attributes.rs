//! Signed attributes (RFC 5652 §5.3, §11): if there are any, the signature is over them, and one of
//! them is the digest of the content.

use super::ber::{Element, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET};
use super::{CmsError, DATA};

const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];

/// The most attributes. Real documents have four.
const MAX: usize = 16;

/// Checks that the attributes speak of plain data with this `digest`. The others, such as the time at
/// which the signer says to have signed, are signed and not asked for.
pub(super) fn check(
    attributes: &Element<'_>,
    digest: &aws_lc_rs::digest::Digest,
) -> Result<(), CmsError> {
    let mut fields = attributes.inside()?;
    let mut types: Vec<&[u8]> = Vec::new();
    let mut found = (false, false);
    while !fields.is_empty() {
        let mut attribute = fields.expect(SEQUENCE)?.inside()?;
        let name = attribute.expect(OBJECT_IDENTIFIER)?.content;
        let mut values = attribute.expect(SET)?.inside()?;
        attribute.finish()?;
        if types.contains(&name) || types.len() == MAX {
            return Err(CmsError::Unsupported("an attribute comes twice, or there are too many"));
        }
        types.push(name);
        match name {
            CONTENT_TYPE => {
                if values.expect(OBJECT_IDENTIFIER)?.content != DATA {
                    return Err(CmsError::Signature);
                }
                values.finish()?;
                found.0 = true;
            }
            MESSAGE_DIGEST => {
                if values.expect(OCTET_STRING)?.content != digest.as_ref() {
                    return Err(CmsError::Signature);
                }
                values.finish()?;
                found.1 = true;
            }
            _ => {}
        }
    }
    match found {
        (true, true) => Ok(()),
        _ => Err(CmsError::Unsupported("its attributes lack the content type or the digest")),
    }
}

/// The bytes that are signed: the attributes as they came, with the tag of a SET (RFC 5652 §5.4).
pub(super) fn as_signed(attributes: &Element<'_>) -> Vec<u8> {
    let mut bytes = attributes.whole.to_vec();
    if let Some(tag) = bytes.first_mut() {
        *tag = SET;
    }
    bytes
}
