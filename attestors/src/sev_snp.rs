//! SEV-SNP: a virtual machine whose memory its host can't read shows the report that AMD's security
//! processor signed.
//!
//! The node begins with `{}` and is sent a nonce of 32 bytes. Its answer is JSON:
//!
//! ```json
//! {"report": "AwAAAAAA…", "endorsement": "MIIFQzCC…"}
//! ```
//!
//! `report` is an ATTESTATION_REPORT (AMD publication 56860, table 23) whose REPORT_DATA is the digest
//! of the [`Binding`](claviger_core::evidence::Binding), and zeros. `endorsement` is the certificate of
//! the key that signed it, DER: a VCEK, which is one chip's, or a VLEK, which AMD lent to the operator
//! of a cloud (publication 57230).
//!
//! The verifier is our own. The crate `sev` brings another implementation of RSA and of P-384 along,
//! and verifies signatures only: neither dates nor revocation, and no field of the report against its
//! certificate.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | the layout of a report | `report` |
//! | what a guest may be subjected to | `guest_policy` |
//! | versions of firmware | `tcb` |
//! | generations of processors | `product` |
//! | AMD's certificates | `roots`, `roots/` |
//! | the certificate of a VCEK or a VLEK | `endorsement` |
//! | what AMD revoked | `crl` |
//! | the rules, one after the other | `appraise` |
//! | what a report says, for entries, the record and people | `facts` |
//! | judging | `verifier`, [`inspect`] |
//! | certificates that come with a report | `table`, `kds` |
//! | gathering | `collector` |

mod appraise;
mod certificate;
mod collector;
mod config;
mod crl;
mod endorsement;
mod facts;
mod guest_policy;
mod inspection;
mod kds;
mod product;
mod report;
mod roots;
mod table;
mod tcb;
mod verifier;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::{Config, MinimumTcb};
pub use facts::REGISTERS;
pub use guest_policy::Requirement;
pub use inspection::inspect;
pub use product::Product;
pub use report::{Firmware, NotAReport, ParseFirmwareError, Report};
pub use roots::RootsError;
pub use table::{CertificateTable, TableError};
pub use verifier::{OpenError, Verifier};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "sev_snp";
