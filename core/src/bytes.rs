//! How values become bytes that are hashed or signed: every part carries its length.

/// Collects length-prefixed parts, so that no two lists of parts give the same bytes.
#[derive(Debug, Default)]
pub(crate) struct Parts(Vec<u8>);

impl Parts {
    /// Starts with `label`, which names the format and its version.
    pub(crate) fn new(label: &str) -> Self {
        Self::default().part(label.as_bytes())
    }

    /// Appends `part` after its length as two big-endian bytes.
    ///
    /// Parts are identities, names and digests, all far below the limit; a longer one is cut and
    /// its length saturates, which no accepted value can reach.
    pub(crate) fn part(mut self, part: &[u8]) -> Self {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend(part.iter().take(usize::from(length)));
        self
    }

    /// Appends a number as eight big-endian bytes.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends bytes whose number is fixed by the format.
    pub(crate) fn fixed<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let one = Parts::new("x").part(b"ab").part(b"c").finish();
        let two = Parts::new("x").part(b"a").part(b"bc").finish();
        assert_ne!(one, two);
        assert_eq!(one, b"\0\x01x\0\x02ab\0\x01c");
    }
}
