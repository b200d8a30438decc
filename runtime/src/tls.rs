//! TLS 1.3 between live X.509-SVIDs.
//!
//! | item                                 | is                                                     |
//! |--------------------------------------|--------------------------------------------------------|
//! | [`verify_svid`], [`Leaf`]            | the validation of an X.509-SVID, and what it says      |
//! | [`TrustBundle`], [`Identity`]        | whom we believe and who we are, both replaceable       |
//! | [`Trust`]                            | several bundles, and what was revoked                  |
//! | [`Mutual`]                           | both ends between two programs, whatever they speak    |
//! | [`server_config`], [`client_config`] | rustls, set up so that only this validation counts     |
//! | [`TlsIncoming`], [`connector`]       | the two ends, as tonic takes them                      |
//! | [`local_tls`]                        | one end, over a Unix socket                            |
//! | [`web_server_config`]                | the exception: serving strangers, who know no SPIFFE   |
//! | [`own_web_server_config`]            | the same for strangers who have our bundle, both ends  |
//! | [`mutual_web_server_config`]         | HTTP/1.1 for those who have an SVID, both ends         |
//!
//! What is not offered cannot be attacked: no TLS 1.2, no session resumption in either direction
//! (a resumed session would skip the validation), no early data.

mod authority;
mod bundle;
mod config;
mod connect;
mod handshake;
mod identity;
mod incoming;
mod leaf;
mod local;
mod mutual;
mod stream;
mod svid;
mod trust;
mod verifier;
mod web;

#[cfg(test)]
mod fixture;

pub use authority::AuthorityError;
pub use bundle::{BundleError, TrustBundle};
pub use config::{client_config, mutual_web_server_config, server_config};
pub use connect::{ConnectError, connector};
pub use handshake::HandshakeError;
pub use identity::{Identity, Svid, SvidKeyError};
pub use incoming::{BindError, Limits, TlsIncoming};
pub use leaf::{Leaf, LeafError};
pub use local::{LocalTlsPeer, LocalTlsStream, local_tls};
pub use mutual::Mutual;
pub use stream::{Accepted, TlsPeer, TlsStream};
pub use svid::{SvidError, verify_svid, verify_svid_by};
pub use trust::{Trust, TrustError};
pub use web::{
    WebCertificate, WebCertificateError, mutual_web_client_config, own_web_client_config,
    own_web_server_config, web_server_config,
};
