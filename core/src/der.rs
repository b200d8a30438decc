//! Certificates as bytes: one, or several one after the other as the Workload API has them.
//!
//! Only the outermost frame is read. It decides where one certificate ends and the next begins, so
//! that nothing can be smuggled in behind a certificate that somebody else has looked at.

use bytes::Bytes;

/// The most certificates in one field.
pub const MAX_CERTIFICATES: usize = 256;

/// The largest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 65_536;

const SEQUENCE: u8 = 0x30;

/// Why bytes are not a row of certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DerError {
    /// There is none.
    #[error("holds no certificate")]
    Empty,
    /// There are more than [`MAX_CERTIFICATES`].
    #[error("holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// There is something after the one certificate.
    #[error("holds more than one certificate")]
    Trailing,
    /// No DER SEQUENCE starts here.
    #[error("byte {at} does not begin a DER certificate")]
    Frame {
        /// Offset of the byte.
        at: usize,
    },
    /// The certificate that starts here ends after the bytes do.
    #[error("the certificate at byte {at} is cut short")]
    Truncated {
        /// Offset of the certificate.
        at: usize,
    },
    /// The certificate that starts here is larger than [`MAX_CERTIFICATE`].
    #[error("the certificate at byte {at} is larger than {MAX_CERTIFICATE} bytes")]
    TooLarge {
        /// Offset of the certificate.
        at: usize,
    },
}

/// The certificates in `concatenated`, which share its memory; at least one.
///
/// # Errors
///
/// [`DerError`] if the bytes are anything else.
pub fn split(concatenated: &Bytes) -> Result<Vec<Bytes>, DerError> {
    let mut rest = concatenated.clone();
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(DerError::TooMany);
        }
        let at = concatenated.len().saturating_sub(rest.len());
        let length = frame(&rest, at)?;
        certificates.push(rest.split_to(length));
    }
    if certificates.is_empty() { Err(DerError::Empty) } else { Ok(certificates) }
}

/// Whether `der` is one certificate and nothing else.
///
/// # Errors
///
/// [`DerError`] if it is anything else.
pub fn check_one(der: &[u8]) -> Result<(), DerError> {
    if der.is_empty() {
        return Err(DerError::Empty);
    }
    if frame(der, 0)? < der.len() { Err(DerError::Trailing) } else { Ok(()) }
}

/// The length of the DER SEQUENCE that begins `bytes`, header included (X.690 §8.1.3, §10.1); `at`
/// is its offset, for the error.
fn frame(bytes: &[u8], at: usize) -> Result<usize, DerError> {
    let (&[tag, first], rest) = bytes.split_first_chunk().ok_or(DerError::Truncated { at })?;
    if tag != SEQUENCE {
        return Err(DerError::Frame { at });
    }
    let (header, content) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81 => (3, long::<1>(rest, at, 0x80)?),
        0x82 => (4, long::<2>(rest, at, 0x100)?),
        0x83 => (5, long::<3>(rest, at, 0x1_0000)?),
        // Indefinite, reserved, or far beyond the bound.
        _ => return Err(DerError::Frame { at }),
    };
    let length = content.saturating_add(header);
    if MAX_CERTIFICATE < length {
        return Err(DerError::TooLarge { at });
    }
    if bytes.len() < length {
        return Err(DerError::Truncated { at });
    }
    Ok(length)
}

/// A length of `N` bytes, which is DER only if it would not fit fewer.
fn long<const N: usize>(bytes: &[u8], at: usize, least: usize) -> Result<usize, DerError> {
    let octets: &[u8; N] = bytes.first_chunk().ok_or(DerError::Truncated { at })?;
    let length = octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
    if length < least { Err(DerError::Frame { at }) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SEQUENCE with `length` bytes in it.
    fn sequence(length: usize) -> Vec<u8> {
        let octets = length.to_be_bytes();
        let mut der = vec![SEQUENCE];
        match length {
            0..0x80 => der.push(octets[7]),
            0x80..0x100 => der.extend([0x81, octets[7]]),
            0x100..0x1_0000 => der.extend([0x82, octets[6], octets[7]]),
            _ => der.extend([0x83, octets[5], octets[6], octets[7]]),
        }
        der.resize(der.len() + length, 0xaa);
        der
    }

    #[test]
    fn certificates_are_taken_apart_where_they_end() {
        let parts = [0, 0x7f, 0x80, 0xff, 0x100, 0xffff - 4].map(sequence);
        let whole = Bytes::from(parts.concat());
        assert_eq!(split(&whole).unwrap(), parts);
        for part in parts {
            assert_eq!(check_one(&part), Ok(()));
        }
    }

    #[test]
    fn nothing_rides_along_behind_a_certificate() {
        assert_eq!(check_one(&[sequence(3), sequence(3)].concat()), Err(DerError::Trailing));
        assert_eq!(check_one(&[0x30, 0x00, 0x00]), Err(DerError::Trailing));
        let tail = Bytes::from([sequence(3), vec![0x00, 0x00]].concat());
        assert_eq!(split(&tail), Err(DerError::Frame { at: 5 }));
    }

    #[test]
    fn a_frame_that_is_not_der_is_refused() {
        let frame_error = Err(DerError::Frame { at: 0 });
        assert_eq!(check_one(b"-----BEGIN CERTIFICATE-----"), frame_error);
        assert_eq!(check_one(&[0x30, 0x80, 0x00, 0x00]), frame_error);
        assert_eq!(check_one(&[0x30, 0x81, 0x01, 0xaa]), frame_error);
        assert_eq!(check_one(&[0x30, 0x82, 0x00, 0x80]), frame_error);
        assert_eq!(check_one(&[0x30, 0x84, 0, 0, 0, 1, 0xaa]), frame_error);
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = sequence(0x100);
        for length in 1..whole.len() {
            assert_eq!(check_one(&whole[..length]), Err(DerError::Truncated { at: 0 }));
        }
    }

    #[test]
    fn number_and_size_are_bounded() {
        assert_eq!(split(&Bytes::new()), Err(DerError::Empty));
        assert_eq!(check_one(&[]), Err(DerError::Empty));
        assert_eq!(check_one(&sequence(MAX_CERTIFICATE)), Err(DerError::TooLarge { at: 0 }));
        assert_eq!(split(&Bytes::from(sequence(1).repeat(256))).map(|all| all.len()), Ok(256));
        assert_eq!(split(&Bytes::from(sequence(1).repeat(257))), Err(DerError::TooMany));
    }
}
