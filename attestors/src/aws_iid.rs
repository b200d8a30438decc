//! EC2: an instance shows the identity document that its metadata service signed.
//!
//! The evidence is that of SPIRE's attestor of the same name, JSON with what the metadata service says:
//!
//! ```json
//! {"document": "{\"accountId\":…}", "signature": "", "rsa2048": "MIAGCSqGSIb3DQEHAqCAMIAC…"}
//! ```
//!
//! Only `rsa2048` counts: a PKCS#7 document that carries what it signs. The certificate of its signer
//! is one of those that AWS publishes, one for each region; it is found by the name that the signature
//! gives, and then the region in the document has to be that certificate's. Nothing is asked of AWS.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | whose signature counts, and where | `regions`, `regions.txt` |
//! | what the document says | `identity` |
//! | judging | `verifier` |
//! | gathering | `collector` |

mod collector;
mod config;
mod identity;
mod regions;
mod verifier;

pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::Config;
pub use identity::Identity;
pub use regions::OpenError;
pub use verifier::{Evidence, Verifier};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "aws_iid";

#[cfg(test)]
mod tests;
