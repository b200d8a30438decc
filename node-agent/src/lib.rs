//! The agent: attests the processes of one machine, keeps their credentials fresh and serves them.
//!
//! | to find | look in |
//! |---|---|
//! | how it all starts | [`run`] |
//! | what an operator can set | [`config`] |
//! | who the agent is: attestation, renewal, what it remembers | [`identity`] |
//! | the way to the server | `server` |
//! | the way to the server for enclaves on this machine | [`relay`] |
//! | time where the machine's clock belongs to somebody else | [`clock`] |
//! | what the server says of entries, bundle and audit log, as it changes | `sync` |
//! | how identities stand: risk and quarantine, as the server says | `standings` |
//! | entries, SVIDs, and when each is renewed | `credentials` |
//! | JWT-SVIDs, made on demand and remembered | `tokens` |
//! | who calls, and which identities that earns | `attestation` |
//! | what every service that answers from snapshots shares: streams, and whom they are about | `streams` |
//! | the SPIFFE Workload API | `workload_api` |
//! | Envoy's secret discovery service | `sds` |
//! | the admin socket: why a process has its identities, and no others | `admin`, `explain` |
//! | SVIDs for those who act for workloads: SPIRE's Delegated Identity, the SPIFFE Broker API | `delegated`, `broker` |
//! | one-time PSKs | `psk_broker` |
//! | who a program is, for a proxy beside it | `callers` |
//! | the policies that the server signed | `policies` |
//! | decisions by them, and they themselves, for programs on this machine | `policy_desk` |
//!
//! Data flows one way: `sync` hears of an entry, `credentials` gets an SVID for it and publishes a
//! snapshot, and the services answer from the snapshot. No request waits for the server but those
//! for PSKs, and those for JWT-SVIDs that are not remembered.

pub mod clock;
pub mod config;
pub mod identity;
pub mod relay;
pub mod run;

mod admin;
mod attestation;
mod backoff;
mod broker;
mod callers;
mod credentials;
mod delegated;
mod details;
mod explain;
mod files;
mod grpc_health;
mod keys;
mod metrics;
mod pem;
mod policies;
mod policy_desk;
mod psk_broker;
mod sds;
mod server;
mod standings;
mod streams;
mod sync;
mod tokens;
mod workload_api;

#[cfg(test)]
mod world;

pub use attestation::OpenAttestorsError;
pub use files::DataDirError;
pub use keys::KeyError;
pub use pem::PemError;
pub use policies::LoadPoliciesError;
pub use standings::LoadStandingsError;
pub use sync::{Alarm, LoadWitnessError};
