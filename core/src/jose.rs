//! JSON Web Signatures and Keys, as far as SPIFFE's tokens and bundles use them (RFC 7515, RFC 7517,
//! RFC 7518).
//!
//! | to find | look in |
//! |---|---|
//! | the nine signature algorithms that SPIFFE permits | [`algorithm`] |
//! | public keys: from and to JWK and DER, and checking signatures | [`key`] |
//! | tokens in the compact form, taken apart and put together | [`compact`] |
//!
//! Only what SPIFFE permits can be expressed: no `none`, no shared secrets, no header but `alg`,
//! `kid` and `typ`. Tokens of other issuers may have more in their headers; nothing of it is acted on.

pub mod algorithm;
pub mod compact;
pub mod key;

pub use algorithm::Algorithm;
pub use key::PublicKey;
