//! A certificate or a list of revoked ones, taken apart to the byte: what is signed, and the signature
//! (RFC 5280 §4.1 and §5.1).
//!
//! The library that reads certificates takes some other tags for the ones that belong there, and a name
//! of the algorithm outside of what is signed for another than inside. Nothing that nobody signed may
//! differ unnoticed: so this is read as well before a signature is believed.

use crate::cms::ber::{BIT_STRING, CONTEXT_0, INTEGER, NotBer, Reader, SEQUENCE};

/// What is signed, and the signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// What is signed: with its tag and its length.
    pub(crate) content: &'a [u8],
    /// The signature, a whole number of bytes.
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes `whole` apart. The algorithm is named twice, and has to be the same to the last byte: the
    /// outer name is not signed.
    pub(crate) fn parse(whole: &'a [u8]) -> Result<Self, NotBer> {
        let mut document = Reader::new(whole);
        let mut parts = document.expect(SEQUENCE)?.inside()?;
        document.finish()?;
        let content = parts.expect(SEQUENCE)?;
        let outside = parts.expect(SEQUENCE)?;
        let signature = parts.expect(BIT_STRING)?;
        parts.finish()?;
        let mut fields = content.inside()?;
        // The version of a certificate, and its serial number; or the version of a list.
        fields.optional(CONTEXT_0)?;
        fields.expect(INTEGER)?;
        match (fields.expect(SEQUENCE)?.whole == outside.whole, signature.content) {
            (true, [0, signature @ ..]) => Ok(Self { content: content.whole, signature }),
            _ => Err(NotBer),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate() -> Vec<u8> {
        let params = CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn what_is_signed_and_the_signature_are_parts_of_the_whole() {
        let whole = certificate();
        let Signed { content, signature } = Signed::parse(&whole).unwrap();
        assert!(whole.ends_with(signature));
        assert!(whole[4..].starts_with(content));
    }

    /// The bytes that a signature does not cover: the frame, and what lies behind what is signed.
    #[test]
    fn no_byte_of_the_frame_can_be_another() {
        let whole = certificate();
        let Signed { content, signature } = Signed::parse(&whole).unwrap();
        let (begin, end) = (4, whole.len() - signature.len());
        let frame = (0..begin).chain(begin + content.len()..end);
        for at in frame {
            for bit in 0..8 {
                let mut other = whole.clone();
                other[at] ^= 1 << bit;
                Signed::parse(&other).unwrap_err();
            }
        }
        Signed::parse(&[&whole[..], &[0]].concat()).unwrap_err();
    }
}
