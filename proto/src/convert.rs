//! From messages to domain types and back.
//!
//! A message that means nothing is refused with a [`FieldError`], never repaired. The way back
//! cannot fail.
//!
//! | to convert | look in |
//! |---|---|
//! | SPIFFE IDs and trust domain names | [`ids`] |
//! | selectors | [`selectors`] |
//! | registration entries, and what a mask selects of them | [`entries`] |
//! | bundles | [`bundles`] |
//! | the claims of a token | [`claims`] |
//! | how identities stand | [`standings`] |
//! | points in time | [`times`] |

pub mod bundles;
pub mod claims;
pub mod entries;
pub mod ids;
pub mod selectors;
pub mod standings;
pub mod times;

mod error;

pub use error::{FieldError, Problem};
