//! The broker's vocabulary and its decisions, free of I/O.
//!
//! Nothing here opens a socket, reads a clock or spawns a task: time, randomness and bytes come in
//! as arguments, values and errors go out. That is what lets every rule of the system be tested by
//! calling a function.
//!
//! | to find | look in |
//! |---|---|
//! | trust domains and SPIFFE IDs | [`id`] |
//! | facts about a process or a node | [`selector`] |
//! | who is entitled to which identity | [`entry`] |
//! | why somebody gets no identity, and what they lack | [`reason`] |
//! | what a verifier vouches for | [`evidence`] |
//! | what X.509-, JWT- and WIT-SVIDs contain, and when they are renewed | [`svid`] |
//! | the keys that speak for a trust domain, and their JSON form | [`bundle`] |
//! | signed tokens and public keys (JWS, JWK) | [`jose`] |
//! | certificates as bytes | [`der`] |
//! | one-time TLS 1.3 keys: identity, derivation, binder | [`psk`] |
//! | things that may happen once | [`once`] |
//! | what a human approves of, by its name | [`approval`] |
//! | questions to the policies, and their answers | [`decision`] |
//! | what stands out among decisions, and where a caller says that a question comes from | [`anomaly`] |
//! | how much an identity is risked, and whether it is in quarantine | [`standing`] |
//! | which policies are in force, in the server's signed words | [`policies`] |
//! | permission to act, and proof that it was written down | [`grant`] |
//! | the audit log: events, Merkle tree, proofs, signed checkpoints | [`audit`] |
//! | what ties a sealed secret to the evidence that earned it | [`seal`] |
//! | key material that must not leak | [`secret`] |
//! | points in time | [`time`] |

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod anomaly;
pub mod approval;
pub mod audit;
pub mod bundle;
pub mod decision;
pub mod der;
pub mod entry;
pub mod evidence;
pub mod grant;
pub mod id;
pub mod jose;
pub mod once;
pub mod policies;
pub mod psk;
pub mod reason;
pub mod seal;
pub mod secret;
pub mod selector;
pub mod standing;
pub mod svid;
pub mod time;

mod bytes;
