//! The wire: every protobuf message and gRPC stub, and the way from each message to a domain type.
//!
//! Wire types stop here. A handler's first line turns a message into a domain type, with
//! [`convert`] or with `TryFrom`.
//!
//! | to find | look in |
//! |---|---|
//! | the SPIFFE Workload API | [`workload`] |
//! | messages shared by SPIRE's APIs: ids, selectors, entries, bundles, SVIDs | [`spire::types`] |
//! | SPIRE's server API: agents | [`spire::server::agent::v1`] |
//! | SPIRE's server API: registration entries | [`spire::server::entry::v1`] |
//! | SPIRE's server API: bundles | [`spire::server::bundle::v1`] |
//! | SPIRE's server API: issuing SVIDs | [`spire::server::svid::v1`] |
//! | SPIRE's agent API: SVIDs for those who act for workloads | [`spire::agent::delegatedidentity::v1`] |
//! | the SPIFFE Broker API | [`broker`] |
//! | secrets for an Envoy, and how it asks for them | [`envoy`] |
//! | what a gRPC status says beyond its code | [`rpc`] |
//! | between our agents and servers: changes pushed, PSKs issued and redeemed | [`claviger::agent::v1`] |
//! | between a workload and its agent: one-time PSKs | [`claviger::psk::v1`] |
//! | between a proxy and the agent: who a program is | [`claviger::caller::v1`] |
//! | decisions on a machine, by policies that the server signed | [`claviger::policy::v1`] |
//! | for the operator's command line, beyond SPIRE's API: the server's | [`claviger::admin::v1`] |
//! | the same: an agent's | [`claviger::node::v1`] |
//! | from messages to domain types and back | [`convert`] |
//! | from bytes to messages and back | [`codec`] |
//! | how long whoever is refused is to wait | [`pushback`] |
//!
//! A message with a secret in it has no `Debug`, and neither has one that can contain it: the field
//! is marked `debug_redact` in its `.proto` file, and `build.rs` does the rest.

pub mod codec;
pub mod convert;
pub mod pushback;

/// The SPIFFE Workload API, package-less as the standard has it.
pub mod workload {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));

    /// The API's descriptors and nothing else's, for gRPC reflection on a workload's socket, where
    /// the service must not look extended (SPIFFE Workload Endpoint §7).
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/workload.bin"));
}

/// SPIRE's API, wire-compatible.
pub mod spire {
    pub use crate::packages::spire::api::{agent, server, types};
}

pub use packages::google::rpc;
pub use packages::spiffe::broker;
pub use packages::{claviger, envoy};

/// The gRPC metadata of a refusal that says which epoch of a series has begun, in decimal.
pub const NEWEST_EPOCH: &str = "claviger-newest-epoch";

/// The descriptors of every API but the Workload API, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/broker.bin"));

/// Generated modules, nested as their packages are, because they refer to each other by `super`.
mod packages {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}
