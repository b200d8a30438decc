//! The agent's broker of one-time PSKs, over its Unix socket.
//!
//! Nothing is presented: the agent knows from the kernel which process is asking.

#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{ParseRunError, PskTtl, Purpose, Run, SeriesEpoch};
use claviger_core::secret::Secret;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::psk::v1::psk_broker_client::PskBrokerClient;
use claviger_proto::claviger::psk::v1::{
    IssueRequest, IssueResponse, RedeemRequest, RedeemResponse,
};
use claviger_proto::{NEWEST_EPOCH, pushback};
use claviger_runtime::unix::SocketPathError;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::debug;
use zeroize::Zeroize;

use crate::agent::{channel, with_header};
use crate::connector::Issued;
use crate::redeem::{Offer, Redeem, RedeemError, Redeemed};

/// How long one call may take: less than half a handshake, so that it can be repeated.
const CALL: Duration = Duration::from_secs(4);

/// Between a lost call and its repetition: time for an agent to come back.
const PAUSE: Duration = Duration::from_millis(100);

/// Talks to the broker on an agent's socket. Clones share the connection.
#[derive(Clone, Debug)]
pub struct BrokerClient {
    broker: PskBrokerClient<Channel>,
    identity: Option<SpiffeId>,
}

impl BrokerClient {
    /// A client of the agent that serves the socket at `path`. It connects when it is first used,
    /// and again whenever the connection is lost.
    ///
    /// # Errors
    ///
    /// [`SocketPathError`] if no socket can be there.
    pub fn new(path: PathBuf) -> Result<Self, SocketPathError> {
        let broker = PskBrokerClient::new(channel(path, Some(CALL))?);
        Ok(Self { broker, identity: None })
    }

    /// The same, acting as one of the caller's identities where it has several.
    #[must_use]
    pub fn acting_as(self, identity: SpiffeId) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// A key for one connection to `peer`.
    ///
    /// # Errors
    ///
    /// [`IssueError`] if the policy forbids it, or nobody could be asked.
    pub async fn issue(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        ttl: PskTtl,
    ) -> Result<Issued, IssueError> {
        self.issue_in(peer, purpose, ttl, None).await
    }

    /// A key for one connection to `peer`, of an epoch of a series: the first of an epoch voids what is
    /// unspent of all earlier ones.
    ///
    /// # Errors
    ///
    /// [`IssueError`]; [`IssueError::newest_epoch`] says if a later epoch has begun.
    pub async fn issue_of(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        ttl: PskTtl,
        series: &SeriesEpoch,
    ) -> Result<Issued, IssueError> {
        self.issue_in(peer, purpose, ttl, Some(series)).await
    }

    async fn issue_in(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        ttl: PskTtl,
        series: Option<&SeriesEpoch>,
    ) -> Result<Issued, IssueError> {
        let (series, epoch) = SeriesEpoch::to_wire(series);
        let request = IssueRequest {
            peer: peer.to_string(),
            purpose: purpose.to_string(),
            ttl_seconds: ttl.into(),
            spiffe_id: self.spiffe_id(),
            series,
            epoch,
        };
        let response = self.broker.clone().issue(with_header(request)).await?.into_inner();
        let issued = issued(response).map_err(IssueError::Malformed)?;
        if issued.server == *peer && issued.purpose == *purpose {
            Ok(issued)
        } else {
            Err(IssueError::Malformed("server_id"))
        }
    }

    /// Spends a key by its name alone, for a TLS stack that shows no more than that; the policy
    /// must permit it.
    ///
    /// # Errors
    ///
    /// [`RedeemError`]: there is no key for this connection.
    pub async fn redeem_by_identity(
        &self,
        identity: WireIdentity,
    ) -> Result<Redeemed, RedeemError> {
        let mut attempt = [0; 16];
        rand::fill(&mut attempt).map_err(|error| RedeemError::Unavailable(error.into()))?;
        self.redeem_request(&RedeemRequest {
            attempt_id: attempt.into(),
            identity: identity.to_string(),
            transcript_hash: Vec::new(),
            binder: Vec::new(),
            spiffe_id: self.spiffe_id(),
        })
        .await
    }

    /// Asks, and asks once more if the answer was lost: the attempt is the same, so the server
    /// gives the same answer.
    async fn redeem_request(&self, request: &RedeemRequest) -> Result<Redeemed, RedeemError> {
        let mut broker = self.broker.clone();
        let answer = match broker.redeem(with_header(request.clone())).await {
            Err(status) if !is_answer(&status) => {
                debug!(%status, "repeating a lost redemption");
                tokio::time::sleep(PAUSE).await;
                broker.redeem(with_header(request.clone())).await
            }
            answer => answer,
        };
        match answer {
            Ok(response) => redeemed(response.into_inner()).map_err(RedeemError::Malformed),
            Err(status) if is_answer(&status) => {
                debug!(%status, "redemption refused");
                Err(RedeemError::Refused)
            }
            Err(status) => Err(RedeemError::Unavailable(status.into())),
        }
    }

    fn spiffe_id(&self) -> String {
        self.identity.as_ref().map(SpiffeId::to_string).unwrap_or_default()
    }
}

#[async_trait]
impl Redeem for BrokerClient {
    async fn redeem(&self, offer: &Offer) -> Result<Redeemed, RedeemError> {
        let redeemed = self
            .redeem_request(&RedeemRequest {
                attempt_id: offer.attempt.into(),
                identity: offer.identity.to_string(),
                transcript_hash: offer.transcript.into(),
                binder: offer.binder.into(),
                spiffe_id: self.spiffe_id(),
            })
            .await?;
        match &self.identity {
            Some(identity) if redeemed.server != *identity => {
                Err(RedeemError::Malformed("server_id"))
            }
            _ => Ok(redeemed),
        }
    }
}

/// Whether the broker decided, rather than got lost on the way.
fn is_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::ResourceExhausted
    )
}

/// The key in a message, which is wiped there.
fn take_key(bytes: &mut Vec<u8>) -> Result<Psk, &'static str> {
    let key = Secret::copy_from(bytes);
    bytes.zeroize();
    key.map(Psk).ok_or("key")
}

fn issued(mut response: IssueResponse) -> Result<Issued, &'static str> {
    Ok(Issued {
        psk: take_key(&mut response.key)?,
        identity: response.identity.parse().map_err(|_error| "identity")?,
        client: response.client_id.parse().map_err(|_error| "client_id")?,
        server: response.server_id.parse().map_err(|_error| "server_id")?,
        purpose: response.purpose.parse().map_err(|_error| "purpose")?,
        not_after: UnixTime::from_secs(response.not_after),
        // An agent speaks for processes, not for runs of them.
        run: None,
    })
}

fn redeemed(mut response: RedeemResponse) -> Result<Redeemed, &'static str> {
    Ok(Redeemed {
        psk: take_key(&mut response.key)?,
        client: response.client_id.parse().map_err(|_error| "client_id")?,
        server: response.server_id.parse().map_err(|_error| "server_id")?,
        purpose: response.purpose.parse().map_err(|_error| "purpose")?,
        not_after: UnixTime::from_secs(response.not_after),
        run: run(&response.run)?,
    })
}

fn run(name: &str) -> Result<Option<Run>, &'static str> {
    let named = Some(name).filter(|name| !name.is_empty());
    named.map(str::parse).transpose().map_err(|_no_run: ParseRunError| "run")
}

/// Why no key was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The broker refused, or could not be asked; the status says which.
    #[error("the broker issued no key")]
    Broker(#[from] Status),
    /// The broker's answer is not what was asked for.
    #[error("the broker's answer has a malformed or unexpected `{0}`")]
    Malformed(&'static str),
}

impl IssueError {
    /// The epoch of the series that has begun, if that is why: ask for a key of that one, or of a later.
    #[must_use]
    pub fn newest_epoch(&self) -> Option<NonZeroU64> {
        let Self::Broker(status) = self else { return None };
        let newest = status.metadata().get(NEWEST_EPOCH)?.to_str().ok()?.parse().ok()?;
        (status.code() == Code::FailedPrecondition).then_some(newest)
    }

    /// How long to wait before asking again, if the broker says so.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let Self::Broker(status) = self else { return None };
        pushback::of(status)
    }
}
