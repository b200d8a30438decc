//! What can be asked for: one file for each noun.

pub(crate) mod agent;
pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod bundle;
#[cfg(feature = "ci")]
pub(crate) mod ci;
pub(crate) mod conformance;
#[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
pub(crate) mod demo;
#[cfg(all(feature = "server", feature = "agent"))]
pub(crate) mod dev;
pub(crate) mod entry;
#[cfg(feature = "evidence")]
pub(crate) mod evidence;
#[cfg(feature = "shim")]
pub(crate) mod exec;
pub(crate) mod healthcheck;
pub(crate) mod jwt;
pub(crate) mod policy;
pub(crate) mod psk;
pub(crate) mod quarantine;
#[cfg(feature = "evidence")]
pub(crate) mod references;
pub(crate) mod risk;
#[cfg(feature = "server")]
pub(crate) mod server;
#[cfg(feature = "shim")]
pub(crate) mod shim;
pub(crate) mod svid;
pub(crate) mod token;
pub(crate) mod why;
pub(crate) mod wit;

mod selection;
