//! How an acceptor turns what a ClientHello shows into a key and a name.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_core::id::SpiffeId;
use claviger_core::psk::binder::{Binder, TranscriptHash};
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{Purpose, Run};
use claviger_core::time::UnixTime;

/// Whoever can spend a PSK for the acceptor: [`BrokerClient`](crate::BrokerClient), or a fake.
#[async_trait]
pub trait Redeem: fmt::Debug + Send + Sync + 'static {
    /// Verifies the binder and spends the key. Repeating an offer, attempt and all, is safe.
    ///
    /// # Errors
    ///
    /// [`RedeemError`]: there is no key for this connection.
    async fn redeem(&self, offer: &Offer) -> Result<Redeemed, RedeemError>;
}

#[async_trait]
impl Redeem for Arc<dyn Redeem> {
    async fn redeem(&self, offer: &Offer) -> Result<Redeemed, RedeemError> {
        (**self).redeem(offer).await
    }
}

/// What a ClientHello shows, and in which attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Random, new for each connection: tells a repetition after a lost answer from a replay.
    pub attempt: [u8; 16],
    /// The PSK's name.
    pub identity: WireIdentity,
    /// The hash that the binder is made over.
    pub transcript: TranscriptHash,
    /// The proof that the client holds the key.
    pub binder: Binder,
}

/// A PSK that now is spent.
#[derive(Debug)]
pub struct Redeemed {
    /// The key.
    pub psk: Psk,
    /// Who is calling.
    pub client: SpiffeId,
    /// As whom the acceptor was called.
    pub server: SpiffeId,
    /// What for.
    pub purpose: Purpose,
    /// The last second at which it could have been redeemed.
    pub not_after: UnixTime,
    /// Which run of the client is calling, if the key is for one only.
    pub run: Option<Run>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// Spent, expired, unknown, for another server, forbidden, or the binder is wrong. The broker
    /// does not say which; the server's audit log does.
    #[error("the key was refused; the server's audit log says why")]
    Refused,
    /// Nobody could be asked.
    #[error("the broker cannot be reached; check the agent and its connection to the server")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The broker's answer is not one.
    #[error("the broker's answer has a malformed `{0}`")]
    Malformed(&'static str),
}
