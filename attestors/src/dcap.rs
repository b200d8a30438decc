//! Intel's quotes (DCAP, Data Center Attestation Primitives): what the kinds [`tdx`](crate::tdx) and
//! [`sgx`](crate::sgx) have in common.
//!
//! The processor signs a report for a quoting enclave on the same machine; that signs it with a key of
//! its own, for which another enclave of Intel's vouches with the platform's key, for which Intel's root
//! vouches (the PCK certificate). How good the platform is, Intel says in signed and dated collateral.
//!
//! | to find | look in |
//! |---|---|
//! | the format of a quote | `quote`, `report` |
//! | whether it is genuine | `authentic`, `chain` |
//! | what the certificate of a platform says | `pck` |
//! | how far the platform is to be trusted | `appraise`, `tcb`, `identity`, `status` |
//! | what Intel says, and where it comes from | `collateral`, `source`, `service` |
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | what both verifiers have, both collectors, and both readers for people | `desk`, `collector`, `inspection` |

mod appraise;
mod authentic;
mod bytes;
mod chain;
mod collateral;
pub(crate) mod collector;
mod config;
mod desk;
mod identity;
pub(crate) mod inspection;
mod pck;
mod quote;
mod report;
mod service;
mod source;
mod status;
mod tcb;
mod wire;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::fmt;

pub use appraise::{Standing, Terms, appraise};
pub use authentic::{Authentic, authenticate};
pub use chain::{ChainError, Roots};
pub use collateral::Collateral;
pub use config::{CollateralConfig, TcbPolicy};
pub use desk::OpenError;
pub(crate) use desk::{Desk, Judgement, describe, test_root_problem};
pub(crate) use inspection::recognise;
pub use pck::Pck;
pub use quote::{Body, Quote, QuoteError};
pub use report::{DomainReport, EnclaveReport, MoreOfDomain};
pub use service::{OpenServiceError, Service};
pub use source::{CollateralError, CollateralSource, Folder, Wanted};
pub use status::TcbStatus;
pub use wire::Presented;

/// What a quote is of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Tee {
    /// An SGX enclave.
    Sgx,
    /// A TDX virtual machine.
    Tdx,
}

impl Tee {
    /// Its name in lower case, as Intel's service has it in its paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of Intel's authorities issued the certificate of a platform.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Ca {
    /// That of platforms with several processors.
    Platform,
    /// That of processors.
    Processor,
}

impl Ca {
    /// Its name, as Intel's service has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}
