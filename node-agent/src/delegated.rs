//! SPIRE's Delegated Identity API: a program that acts for workloads of this machine gets their
//! SVIDs. It needs an identity that the operator lists, for as long as it is served.
//!
//! Entries for administrators and for nested servers are left out throughout, of certificates and
//! of tokens: a delegate acts for workloads, not for the broker.

mod answer;
mod delegation;

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::svid::jwt::Audience;
use claviger_core::time::UnixTime;
use claviger_proto::convert::{selectors, times};
use claviger_proto::spire::agent::delegatedidentity::v1 as wire;
use claviger_proto::spire::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentity;
use claviger_proto::spire::types;
use tonic::{Request, Response, Status, async_trait};

use crate::attestation::{NO_IDENTITY, not_attested, peer, process};
use crate::credentials::Snapshot;
use crate::metrics::counted;
use crate::streams::{Answer, Desk, Responses, Subject};
use crate::tokens::Tokens;

pub(crate) use answer::{delegable, entries};
use delegation::{About, Delegation, Parties};

/// The most selectors in a request.
const MAX_SELECTORS: usize = 1_000;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Delegates {
    /// Where its callers are served.
    pub(crate) desk: Desk,
    /// Who gets JWT-SVIDs.
    pub(crate) tokens: Tokens,
    /// Who may ask.
    pub(crate) authorized: Arc<BTreeSet<SpiffeId>>,
}

#[async_trait]
impl DelegatedIdentity for Delegates {
    type SubscribeToX509SVIDsStream = Responses<wire::SubscribeToX509sviDsResponse>;
    type SubscribeToX509BundlesStream = Responses<wire::SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Responses<wire::SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svi_ds(
        &self,
        request: Request<wire::SubscribeToX509sviDsRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDsStream>, Status> {
        let about =
            |message: wire::SubscribeToX509sviDsRequest| workload(message.pid, message.selectors);
        let opened = self.open(request, about, answer::x509_svids).await;
        counted("SubscribeToX509SVIDs", opened)
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<wire::SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let opened = self.open(request, |_| Ok(About::Nobody), answer::x509_bundles).await;
        counted("SubscribeToX509Bundles", opened)
    }

    async fn fetch_jwtsvi_ds(
        &self,
        request: Request<wire::FetchJwtsviDsRequest>,
    ) -> Result<Response<wire::FetchJwtsviDsResponse>, Status> {
        let about = |message: wire::FetchJwtsviDsRequest| {
            Ok((workload(message.pid, message.selectors)?, audience(message.audience)?))
        };
        counted("FetchJWTSVIDs", self.jwt_svids(request, about).await)
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<wire::SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let opened = self.open(request, |_| Ok(About::Nobody), answer::jwt_bundles).await;
        counted("SubscribeToJWTBundles", opened)
    }
}

impl Delegates {
    /// Opens a stream of what `compose` makes of each snapshot, for as long as the caller is a
    /// delegate. Only a delegate learns what is wrong with its request.
    async fn open<T, M: Clone + PartialEq + Send + 'static>(
        &self,
        request: Request<T>,
        about: impl FnOnce(T) -> Result<About, Status>,
        compose: fn(&Snapshot, &Selectors, UnixTime) -> Answer<M>,
    ) -> Result<Responses<M>, Status> {
        let caller = peer(&request)?;
        let uid = caller.uid();
        let authorized = Arc::clone(&self.authorized);
        self.delegate(&caller).await?;
        let delegation = Delegation { caller, about: about(request.into_inner())? };
        let compose = move |snapshot: &Snapshot, parties: &Parties, now: UnixTime| match authorize(
            &authorized,
            snapshot,
            &parties.caller,
            now,
        ) {
            Ok(()) => compose(snapshot, &parties.about, now),
            Err(status) => Answer::Refused(status),
        };
        self.desk.open(uid, delegation, compose).await
    }

    async fn jwt_svids<T>(
        &self,
        request: Request<T>,
        about: impl FnOnce(T) -> Result<(About, Audience), Status>,
    ) -> Result<wire::FetchJwtsviDsResponse, Status> {
        let caller = peer(&request)?;
        let uid = caller.uid();
        self.delegate(&caller).await?;
        let (about, audience) = about(request.into_inner())?;
        let delegation = Delegation { caller, about };
        let parties = delegation.facts(&self.desk.attestation).await;
        let parties = parties.map_err(|error| not_attested(&error))?;
        let snapshot = self.desk.snapshot()?;
        let entries = entries(&snapshot, &parties.about, self.desk.clock.now());
        if entries.is_empty() {
            return Err(Status::permission_denied(NO_IDENTITY));
        }

        let tokens = self.tokens.jwt_svids(uid, &entries, &audience).await?;

        if delegation.has_ended() {
            return Err(Status::permission_denied(NO_IDENTITY));
        }
        let svids = tokens.iter().map(|(entry, token)| types::Jwtsvid {
            token: token.jwt.to_string(),
            id: Some((&entry.spiffe_id).into()),
            expires_at: times::to_wire(token.expires_at),
            issued_at: times::to_wire(token.issued_at),
            hint: entry.hint.clone(),
        });
        Ok(wire::FetchJwtsviDsResponse { svids: svids.collect() })
    }

    /// Refuses a caller who is no delegate.
    async fn delegate(&self, caller: &claviger_runtime::unix::Peer) -> Result<(), Status> {
        let snapshot = self.desk.snapshot()?;
        let facts = self.desk.attestation.facts(caller).await;
        let facts = facts.map_err(|error| not_attested(&error))?;
        authorize(&self.authorized, &snapshot, &facts, self.desk.clock.now())
    }
}

/// Whether one of the caller's identities is on the list.
fn authorize(
    authorized: &BTreeSet<SpiffeId>,
    snapshot: &Snapshot,
    caller: &Selectors,
    now: UnixTime,
) -> Result<(), Status> {
    let identities = snapshot.admitted(caller, now);
    if identities.is_empty() {
        return Err(Status::permission_denied(NO_IDENTITY));
    }
    if identities.iter().any(|identity| authorized.contains(&identity.entry.spiffe_id)) {
        Ok(())
    } else {
        Err(Status::permission_denied("caller not configured as an authorized delegate"))
    }
}

/// Whom a request names: a process, or whoever would have these facts.
fn workload(pid: i32, selectors: Vec<types::Selector>) -> Result<About, Status> {
    match (pid, selectors.is_empty()) {
        (0, false) => {
            let facts = selectors::set(selectors, "selectors", MAX_SELECTORS);
            facts.map(About::Facts).map_err(|error| Status::invalid_argument(error.to_string()))
        }
        (pid, true) => process(pid).map(About::Process),
        (_, false) => Err(Status::invalid_argument("name either a pid or selectors, not both")),
    }
}

fn audience(names: Vec<String>) -> Result<Audience, Status> {
    Audience::new(names).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests;
