//! Direct attestation from within a CI job: a token in, a credential out, in one call.
//!
//! | to find | look in |
//! |---|---|
//! | where the job's token comes from | [`token`] |
//! | the server, and how it is known to be the right one | [`server`] |
//! | asking, and asking again | [`call`] |
//! | one-time keys: one, or one for each connection of a route | [`key`], `keys` |
//! | what the server says when it gives nothing | [`problem`] |
//! | masks, and files that hand variables to later steps | [`github`] |

pub(crate) mod call;
pub(crate) mod github;
pub(crate) mod key;
#[cfg(feature = "shim")]
pub(crate) mod keys;
pub(crate) mod problem;
pub(crate) mod server;
pub(crate) mod token;
