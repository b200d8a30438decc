//! Kubernetes: a pod shows the token that its cluster made for it, and so which node it runs on.
//!
//! The evidence is that of SPIRE's attestor of the same name, JSON with the name of the cluster and a
//! service-account token that is projected into the pod and bound to it:
//!
//! ```json
//! {"cluster": "prod", "token": "eyJhbGciOi…"}
//! ```
//!
//! The server asks the cluster's API server whether the token is genuine, and looks up the pod and its
//! node as they are now. The three answers do not wait for each other: what to look up stands in the
//! token, unverified; and that the token says so holds once the API server vouches for the token. So
//! it takes one round trip.
//!
//! | to find | look in |
//! |---|---|
//! | the evidence on the wire | `evidence` |
//! | what a token says about itself | `claims` |
//! | names and uids of objects, and names of service accounts | `names` |
//! | which token is asked about at all; what binds one to a key | `terms` |
//! | the questions to an API server, and what its silence means | `api` |
//! | reading its answers | `review`, `objects` |
//! | nodes that were looked up lately | `nodes` |
//! | keys for when the API server is away | `keys` |
//! | judging | `verifier`, and for one cluster `cluster` |
//! | what is true of a node, as selectors | `facts` |
//! | gathering | `collector`; tokens that are bound to a key: `request` |

mod api;
mod claims;
mod cluster;
mod collector;
mod config;
mod evidence;
mod facts;
mod keys;
mod names;
mod nodes;
mod objects;
mod request;
mod review;
mod terms;
mod verifier;

pub use api::OpenError;
pub use claims::{Claims, ClaimsError, Reference};
pub use collector::{Collector, CollectorConfig};
pub use config::{ClusterConfig, Config};
pub use evidence::{Evidence, MalformedEvidence};
pub use names::{MalformedName, Name, ServiceAccount, Uid};
pub use verifier::{OpenClusterError, Verifier};

#[cfg(test)]
mod fake;

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "k8s_psat";
