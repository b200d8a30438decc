//! The key that a ClientHello names.
//!
//! Every refusal looks the same from outside, so that whoever sends ClientHellos learns nothing from
//! it; the log says more.

use std::collections::BTreeSet;

use claviger_core::id::SpiffeId;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskBinding, PskHash, Purpose, Run, SeriesEpoch};
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1 as server;
use claviger_proto::claviger::psk::v1::{RedeemRequest, RedeemResponse};
use claviger_runtime::unix::Peer;
use tonic::Status;
use tracing::{info, warn};

use super::{PskBroker, base};
use crate::server::{Said, is_refusal};

const ATTEMPT_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// The most identities that the server looks at for one redemption.
const MAX_ACCEPTORS: usize = 64;

pub(super) async fn redeem(
    broker: &PskBroker,
    peer: &Peer,
    request: RedeemRequest,
) -> Result<RedeemResponse, RedeemError> {
    check(&request)?;
    let acceptors = acceptors(broker, peer, &request.spiffe_id).await?;
    let RedeemRequest { attempt_id, identity, transcript_hash, binder, spiffe_id: _ } = request;
    let acceptor_ids = acceptors.iter().map(ToString::to_string).collect();
    let request =
        server::RedeemPskRequest { attempt_id, identity, transcript_hash, binder, acceptor_ids };

    let answer = broker
        .ask(&broker.redeeming, |mut server| {
            let request = request.clone();
            async move { server.redeem_psk(request).await }
        })
        .await
        .map_err(RedeemError::Server)?;

    if peer.has_changed() {
        return Err(RedeemError::Refused("the acceptor has exited, or runs another program"));
    }
    let redeemed = derive(&acceptors, answer)?;
    let RedeemResponse { client_id, server_id, .. } = &redeemed;
    let parties: Vec<SpiffeId> =
        [client_id, server_id].into_iter().filter_map(|id| id.parse().ok()).collect();
    if broker.is_quarantined(&parties) {
        return Err(RedeemError::Refused("one of the two is in quarantine"));
    }
    Ok(redeemed)
}

/// Lengths and forms; what they are worth is for the server to say.
fn check(request: &RedeemRequest) -> Result<(), RedeemError> {
    let proof = (request.transcript_hash.len(), request.binder.len());
    if request.attempt_id.len() != ATTEMPT_LEN {
        return Err(RedeemError::Refused("the attempt id does not have 16 bytes"));
    }
    if request.identity.parse::<WireIdentity>().is_err() {
        return Err(RedeemError::Refused("the identity is not one of ours"));
    }
    if proof != (HASH_LEN, HASH_LEN) && proof != (0, 0) {
        return Err(RedeemError::Refused("transcript hash and binder have 32 bytes each, or none"));
    }
    Ok(())
}

/// The identities that the caller accepts connections as.
async fn acceptors(
    broker: &PskBroker,
    peer: &Peer,
    named: &str,
) -> Result<BTreeSet<SpiffeId>, RedeemError> {
    let identities = broker.desk.identities(peer).await.map_err(RedeemError::Caller)?;
    let acceptors: BTreeSet<SpiffeId> = identities
        .iter()
        .map(|entry| entry.spiffe_id.clone())
        .filter(|id| named.is_empty() || id.to_string() == named)
        .collect();
    match acceptors.len() {
        0 => Err(RedeemError::Refused("the caller has no such identity")),
        1..=MAX_ACCEPTORS => Ok(acceptors),
        _ => Err(RedeemError::Refused("the caller has more than 64 identities and names none")),
    }
}

/// The key, bound to the acceptor as this agent knows it.
fn derive(
    acceptors: &BTreeSet<SpiffeId>,
    answer: server::RedeemPskResponse,
) -> Result<RedeemResponse, RedeemError> {
    let server::RedeemPskResponse {
        base: bytes,
        client_id,
        server_id,
        purpose,
        not_after,
        run,
        series,
        epoch,
    } = answer;
    let base = base(bytes).ok_or(RedeemError::BadAnswer("no base"))?;
    let client: SpiffeId =
        client_id.parse().map_err(|_no_id| RedeemError::BadAnswer("no client"))?;
    let purpose: Purpose =
        purpose.parse().map_err(|_no_purpose| RedeemError::BadAnswer("no purpose"))?;
    let run: Option<Run> = match run.as_str() {
        "" => None,
        run => Some(run.parse().map_err(|_no_run| RedeemError::BadAnswer("no run"))?),
    };
    let series = SeriesEpoch::from_wire(&series, epoch)
        .map_err(|_no_series| RedeemError::BadAnswer("no epoch of a series"))?;
    let acceptor = acceptors.iter().find(|id| id.to_string() == server_id);
    let server = acceptor.ok_or(RedeemError::BadAnswer("an acceptor that was not named"))?.clone();
    let not_after = UnixTime::from_secs(not_after);
    let hash = PskHash::Sha256;
    let binding = PskBinding { client, server, purpose, not_after, hash, run, series, bits: None };
    let psk = base.psk(&binding);
    info!(client = %binding.client, server = %binding.server, purpose = %binding.purpose, "PSK redeemed");
    let (series, epoch) = SeriesEpoch::to_wire(binding.series.as_ref());
    Ok(RedeemResponse {
        key: psk.0.expose().to_vec(),
        client_id: binding.client.to_string(),
        server_id: binding.server.to_string(),
        purpose: binding.purpose.to_string(),
        not_after: not_after.as_secs(),
        run: binding.run.map(String::from).unwrap_or_default(),
        series,
        epoch,
    })
}

/// Why a key is not handed out.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedeemError {
    #[error("{0}")]
    Refused(&'static str),
    #[error("the caller is not known")]
    Caller(#[source] Status),
    #[error("the server does not redeem the key")]
    Server(#[source] Status),
    #[error("the server's answer is of no use: {0}")]
    BadAnswer(&'static str),
}

impl From<RedeemError> for Status {
    fn from(error: RedeemError) -> Self {
        let refused = || Self::permission_denied("refused");
        let away = || Self::unavailable("the server cannot be reached; try again");
        match error {
            RedeemError::Refused(_) | RedeemError::BadAnswer(_) => {
                warn!(%error, "PSK not redeemed");
                refused()
            }
            RedeemError::Caller(status) | RedeemError::Server(status) => {
                warn!(code = %status.code(), error = %Said(&status), "PSK not redeemed");
                // Without a decision, the same attempt may be repeated.
                if is_refusal(&status) { refused() } else { away() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn request() -> RedeemRequest {
        RedeemRequest {
            attempt_id: vec![1; 16],
            identity: WireIdentity::from_bytes([2; 16]).to_string(),
            transcript_hash: vec![3; 32],
            binder: vec![4; 32],
            spiffe_id: String::new(),
        }
    }

    fn answer(server_id: &str) -> server::RedeemPskResponse {
        server::RedeemPskResponse {
            base: vec![5; 32],
            client_id: "spiffe://example.org/client".to_owned(),
            server_id: server_id.to_owned(),
            purpose: "test".to_owned(),
            not_after: 7,
            ..server::RedeemPskResponse::default()
        }
    }

    #[test]
    fn lengths_are_checked_before_anybody_is_asked() {
        check(&request()).unwrap();
        check(&RedeemRequest { transcript_hash: vec![], binder: vec![], ..request() }).unwrap();
        for bad in [
            RedeemRequest { attempt_id: vec![1; 15], ..request() },
            RedeemRequest { identity: "p1.short".to_owned(), ..request() },
            RedeemRequest { binder: vec![], ..request() },
            RedeemRequest { transcript_hash: vec![3; 33], ..request() },
        ] {
            let status = Status::from(check(&bad).unwrap_err());
            assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "refused"));
        }
    }

    #[test]
    fn the_key_is_bound_to_one_of_the_callers_identities() {
        let acceptors: BTreeSet<SpiffeId> = ["spiffe://example.org/a", "spiffe://example.org/b"]
            .map(|id| id.parse().unwrap())
            .into();
        let a = derive(&acceptors, answer("spiffe://example.org/a")).unwrap();
        let b = derive(&acceptors, answer("spiffe://example.org/b")).unwrap();
        assert_eq!((a.server_id.as_str(), a.key.len()), ("spiffe://example.org/a", 32));
        assert_ne!(a.key, b.key);
        let in_run = server::RedeemPskResponse {
            run: "ci:7:1".to_owned(),
            ..answer("spiffe://example.org/a")
        };
        let in_run = derive(&acceptors, in_run).unwrap();
        assert_eq!(in_run.run, "ci:7:1");
        assert_ne!(in_run.key, a.key);
        let other = derive(&acceptors, answer("spiffe://example.org/c"));
        assert!(matches!(other, Err(RedeemError::BadAnswer(_))));
        for bad in [
            server::RedeemPskResponse { base: vec![5; 31], ..answer("spiffe://example.org/a") },
            server::RedeemPskResponse {
                client_id: "x".to_owned(),
                ..answer("spiffe://example.org/a")
            },
            server::RedeemPskResponse {
                purpose: String::new(),
                ..answer("spiffe://example.org/a")
            },
            server::RedeemPskResponse { epoch: 1, ..answer("spiffe://example.org/a") },
            server::RedeemPskResponse {
                run: "two words".to_owned(),
                ..answer("spiffe://example.org/a")
            },
        ] {
            assert!(derive(&acceptors, bad).is_err());
        }
    }

    #[test]
    fn a_server_that_is_away_has_refused_nobody() {
        let status = |status| Status::from(RedeemError::Server(status));
        assert_eq!(status(Status::unavailable("x")).code(), Code::Unavailable);
        assert_eq!(status(Status::not_found("x")).message(), "refused");
        assert_eq!(status(Status::permission_denied("x")).message(), "refused");
    }
}
