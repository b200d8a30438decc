//! Bytes that must not leak.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

/// `N` secret bytes: wiped on drop, never printed, compared in constant time.
///
/// It has no `Clone`, no `PartialEq` and no `Serialize`, so every copy and every comparison is a
/// call that review can find. The bytes are boxed: moving the value moves a pointer and leaves
/// nothing behind on the stack.
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Lets `fill` write a new secret in place.
    ///
    /// # Errors
    ///
    /// Whatever `fill` returns; the half-written bytes are wiped.
    pub fn try_fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Box::new(Zeroizing::new([0; N]));
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Copies a secret out of a buffer that the caller wipes; `None` if it does not hold `N` bytes.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != N {
            return None;
        }
        let mut copy = Box::new(Zeroizing::new([0; N]));
        copy.copy_from_slice(bytes);
        Some(Self(copy))
    }

    /// The bytes. Callers hand them to a primitive or to the wire, and keep no copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// Whether both hold the same bytes, in time that does not depend on them.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_slice(), other.0.as_slice()).is_ok()
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled_with(byte: u8) -> Secret<4> {
        Secret::copy_from(&[byte; 4]).unwrap()
    }

    #[test]
    fn debug_shows_the_size_only() {
        assert_eq!(format!("{:?}", filled_with(0x41)), "Secret<4>(..)");
    }

    #[test]
    fn equality_is_on_bytes() {
        assert!(filled_with(1).ct_eq(&filled_with(1)));
        assert!(!filled_with(1).ct_eq(&filled_with(2)));
    }

    #[test]
    fn a_buffer_of_another_length_is_no_secret() {
        assert!(Secret::<4>::copy_from(&[0; 3]).is_none());
        assert!(Secret::<4>::copy_from(&[0; 5]).is_none());
    }
}
