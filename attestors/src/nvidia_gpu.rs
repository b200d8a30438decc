//! Evidence of NVIDIA's GPUs and NVSwitches in confidential-computing mode: what they measured of their
//! own firmware and driver, signed by a key that only the device has.
//!
//! Each device answers one SPDM request `GET_MEASUREMENTS` (DMTF DSP0274, version 1.1) that carries a
//! nonce of 32 bytes. What is signed is the request and the response, by a key that NVIDIA's device
//! root vouches for. The nonce is the short form of the [`Binding`](claviger_core::evidence::Binding),
//! so the evidence earns a certificate for one key and no other.
//!
//! The node first says how many devices it has (`{"devices": 8}`). The verifier asks for them one
//! after the other, all with one nonce, and gets each as NVIDIA's SDKs write it; see `wire`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages, NVIDIA's JSON among them | `wire` |
//! | what a device signs | `report`, `opaque` |
//! | the certificates that lead to NVIDIA's root | `chain` |
//! | whether they were revoked or are on hold | `revocation`, `ocsp` |
//! | the rules | `rules` |
//! | the server's side | `verifier` |
//! | the node's side | `collector`, `nvml` |
//! | evidence in a file, for people | `inspection` |

mod chain;
mod collector;
mod config;
mod inspection;
mod nvml;
mod ocsp;
mod opaque;
mod report;
mod revocation;
mod rules;
mod verifier;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorConfig};
pub use config::{Config, Revocation};
pub use inspection::inspect;
pub use ocsp::Response as OcspResponse;
pub use report::{Malformed, Measurement, Report};
pub use rules::REGISTERS;
pub use verifier::{OpenError, Verifier};
pub use wire::{Evidence, MAX_DEVICES};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "nvidia_gpu";
