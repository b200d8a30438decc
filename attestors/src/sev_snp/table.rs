//! The certificates that a host hands to its guest beside a report: a table of GUIDs, and the
//! certificates behind it (AMD publication 56421, "Guest-Hypervisor Communication Block
//! Standardization", SNP extended guest request). Nothing vouches for it.

/// The table's entry for each certificate: a GUID, where it begins in the table, and its length.
const ENTRY: usize = 24;
/// The most entries, the last of them empty. There are five kinds of certificates.
const MAX_ENTRIES: usize = 32;

const VCEK: [u8; 16] = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes();
const VLEK: [u8; 16] = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1_u128.to_be_bytes();

/// A table of certificates, none of which is verified.
#[derive(Debug)]
pub struct CertificateTable<'a> {
    entries: Vec<([u8; 16], &'a [u8])>,
}

impl<'a> CertificateTable<'a> {
    /// Reads a table. What is not there at all is a table without entries.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it does not end, if an entry lies outside, in the table itself or in another,
    /// or if two have the same GUID.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        if bytes.is_empty() {
            return Ok(Self { entries: Vec::new() });
        }
        let headers = headers(bytes)?;
        let end_of_table = headers.len().saturating_add(1).saturating_mul(ENTRY);
        let mut entries = Vec::with_capacity(headers.len());
        let mut taken = Vec::with_capacity(headers.len());
        for Header { guid, begin, length } in headers {
            let end = begin.checked_add(length).ok_or(TableError::Outside)?;
            let content = bytes.get(begin..end).filter(|content| !content.is_empty());
            let content = content.ok_or(TableError::Outside)?;
            let overlaps = |(from, to): &(usize, usize)| begin < *to && *from < end;
            if begin < end_of_table || taken.iter().any(overlaps) {
                return Err(TableError::Overlap);
            }
            if entries.iter().any(|(other, _)| *other == guid) {
                return Err(TableError::Twice);
            }
            taken.push((begin, end));
            entries.push((guid, content));
        }
        Ok(Self { entries })
    }

    /// The certificate of the chip's key.
    #[must_use]
    pub fn vcek(&self) -> Option<&'a [u8]> {
        self.find(VCEK)
    }

    /// The certificate of the key that AMD lent to the operator of the cloud.
    #[must_use]
    pub fn vlek(&self) -> Option<&'a [u8]> {
        self.find(VLEK)
    }

    fn find(&self, guid: [u8; 16]) -> Option<&'a [u8]> {
        let mut found = self.entries.iter().filter(|(other, _)| *other == guid);
        found.next().map(|(_, content)| *content)
    }
}

struct Header {
    guid: [u8; 16],
    begin: usize,
    length: usize,
}

/// The entries before the empty one that ends the table.
fn headers(bytes: &[u8]) -> Result<Vec<Header>, TableError> {
    let mut headers = Vec::new();
    let (entries, _rest) = bytes.as_chunks::<ENTRY>();
    for entry in entries.iter().take(MAX_ENTRIES) {
        if entry.iter().all(|byte| *byte == 0) {
            return Ok(headers);
        }
        headers.push(header(entry).ok_or(TableError::Outside)?);
    }
    Err(TableError::Endless)
}

fn header(entry: &[u8; ENTRY]) -> Option<Header> {
    let (guid, rest) = entry.split_first_chunk()?;
    let (begin, length) = rest.split_first_chunk()?;
    let number = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).ok();
    Some(Header { guid: *guid, begin: number(*begin)?, length: number(length.try_into().ok()?)? })
}

/// These bytes are no table of certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TableError {
    /// It does not end.
    #[error("the table of certificates has no end")]
    Endless,
    /// A certificate is empty, or not in it.
    #[error("the table of certificates names one that is empty or lies outside")]
    Outside,
    /// A certificate overlaps another, or the table.
    #[error("the table of certificates overlaps its certificates, or they each other")]
    Overlap,
    /// A certificate comes twice.
    #[error("the table of certificates names one twice")]
    Twice,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sev_snp::fixture::table;

    fn refusal(bytes: &[u8]) -> TableError {
        CertificateTable::parse(bytes).unwrap_err()
    }

    #[test]
    fn a_table_has_certificates_by_their_guids() {
        let bytes = table(&[(VCEK, b"chip"), (VLEK, b"cloud"), ([7; 16], b"other")]);
        let read = CertificateTable::parse(&bytes).unwrap();
        assert_eq!((read.vcek(), read.vlek()), (Some(&b"chip"[..]), Some(&b"cloud"[..])));
        let padded = [bytes, vec![0; 4_096]].concat();
        assert_eq!(CertificateTable::parse(&padded).unwrap().vcek(), Some(&b"chip"[..]));
        for none in [table(&[]), vec![0; 4_096], Vec::new()] {
            let read = CertificateTable::parse(&none).unwrap();
            assert_eq!((read.vcek(), read.vlek()), (None, None));
        }
    }

    #[test]
    fn the_guids_are_those_of_the_specification() {
        let guid = |text: &str| uuid::Uuid::parse_str(text).unwrap().into_bytes();
        assert_eq!(VCEK, guid("63da758d-e664-4564-adc5-f4b93be8accd"));
        assert_eq!(VLEK, guid("a8074bc2-a25a-483e-aae6-39c045a0b8a1"));
    }

    #[test]
    fn a_table_that_means_two_things_is_refused() {
        assert_eq!(refusal(&table(&[(VCEK, b"one"), (VCEK, b"two")])), TableError::Twice);
        assert_eq!(refusal(&table(&[(VCEK, b"")])), TableError::Outside);
        let edited = |at: usize, bytes: [u8; 4]| {
            let mut edited = table(&[(VCEK, b"one"), (VLEK, b"two")]);
            edited[at..at + 4].copy_from_slice(&bytes);
            refusal(&edited)
        };
        for (at, bytes, error) in [
            (16, [0; 4], TableError::Overlap),
            (16, [71, 0, 0, 0], TableError::Overlap),
            (16, [74, 0, 0, 0], TableError::Overlap),
            (16, [255; 4], TableError::Outside),
            (20, [255; 4], TableError::Outside),
            (20, [4, 0, 0, 0], TableError::Overlap),
            (44, [4, 0, 0, 0], TableError::Outside),
        ] {
            assert_eq!(edited(at, bytes), error, "{at} {bytes:?}");
        }
    }

    #[test]
    fn a_table_has_an_end() {
        assert_eq!(refusal(&[1; 23]), TableError::Endless);
        assert_eq!(refusal(&[0; 23]), TableError::Endless);
        assert_eq!(refusal(&[1; ENTRY * 40]), TableError::Endless);
        let whole = table(&[(VCEK, b"one")]);
        for length in 1..whole.len() {
            refusal(&whole[..length]);
        }
    }
}
