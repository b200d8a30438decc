//! OpenID Connect tokens of CI jobs and of anything else that an issuer vouches for: GitHub Actions,
//! GitLab, Buildkite, and whoever publishes keys.
//!
//! | to find | look in |
//! |---|---|
//! | which issuers are believed, and about what | [`config`] |
//! | what the tokens of well-known issuers say | [`profile`] |
//! | how claims become selectors | `facts` |
//! | judging a token | [`verifier`] |
//! | getting one, on the node or in the job | [`collector`] |
//!
//! The evidence is the token in its compact form. It is used up when it is accepted: a job asks its
//! issuer for another. A token whose audience names a key (see [`audience`](crate::jwks::audience))
//! earns something for that key only; any other is bearer evidence, and marked so.

pub mod collector;
pub mod config;
pub mod profile;
pub mod verifier;

mod facts;

pub use collector::{Collector, CollectorConfig, GithubTokens};
pub use config::{Config, Issuer};
pub use profile::Profile;
pub use verifier::{OpenError, Presented, Verifier};

/// The name of this kind of evidence on the wire, and of its selectors.
pub const KIND: &str = "oidc";
