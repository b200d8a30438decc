//! The server: verifies evidence, decides by policy, writes down what it is about to do, and issues.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator writes in `server.toml` | [`config`] |
//! | starting a server, and what it consists of | [`run`] |
//! | the gRPC services, one file each | [`api`] |
//! | who is registered, and telling agents what changes | [`registry`] |
//! | the kinds of evidence that are judged | [`verifiers`] |
//! | who may get what | [`policy`] |
//! | how often something may be done, and what a human has to approve of | [`limits`], [`approvals`] |
//! | how much the server takes on at a time | [`load`] |
//! | how much identities are risked, and which are in quarantine | [`standings`] |
//! | the signing authorities: the only code that signs | [`ca`] |
//! | what strangers are told: keys, over HTTPS | [`public`] |
//! | what programs without an agent are given, through the same door | [`direct`] |
//! | decisions for gateways, and signals of risk, over HTTPS between SVIDs | `control` |
//! | keys for machines that are no TLS stacks of ours (ETSI QKD 014, SKIP), over the same HTTPS | [`keys`] |
//! | what may happen once: PSKs and join tokens | [`ledger`] |
//! | the one task that writes | [`journal`] |
//! | the audit log, and checkpoints of it | [`audit`] |
//! | what other systems are told of what is in it | [`events`] |
//! | the spans of time for which the ledger is complete | [`epoch`] |
//! | where all of it is kept | [`store`], [`storage`] |
//! | a witness of the logs of others, which is a program of its own | [`witness`] |
//! | every metric by name | [`metrics`] |

pub mod api;
pub mod approvals;
pub mod audit;
pub mod ca;
pub mod config;
mod control;
pub mod direct;
pub mod epoch;
pub mod events;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod load;
pub mod metrics;
mod peer;
pub mod policy;
pub mod public;
pub mod registry;
pub mod run;
pub mod standings;
pub mod storage;
pub mod store;
pub mod verifiers;
pub mod witness;
