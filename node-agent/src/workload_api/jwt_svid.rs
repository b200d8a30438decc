//! JWT-SVIDs for the caller (SPIFFE Workload API §6.2.1).

use claviger_core::id::SpiffeId;
use claviger_core::svid::jwt::Audience;
use claviger_proto::workload::{Jwtsvid, JwtsvidRequest, JwtsvidResponse};
use claviger_runtime::unix::Peer;
use tonic::Status;

use super::WorkloadApi;
use super::answer::Hints;
use crate::attestation::NO_IDENTITY;

/// What a process asks for.
struct Asked {
    audience: Audience,
    named: Option<SpiffeId>,
}

pub(super) async fn fetch(
    api: &WorkloadApi,
    peer: &Peer,
    request: JwtsvidRequest,
) -> Result<JwtsvidResponse, Status> {
    let Asked { audience, named } = request.try_into()?;
    let mut entries = api.desk.identities(peer).await?;
    entries.retain(|entry| named.as_ref().is_none_or(|named| entry.spiffe_id == *named));

    let tokens = api.tokens.jwt_svids(peer.uid(), &entries, &audience).await?;

    // The server may have taken its time.
    if peer.has_changed() {
        return Err(Status::permission_denied(NO_IDENTITY));
    }
    let mut hints = Hints::default();
    let svids = tokens.iter().map(|(entry, token)| Jwtsvid {
        spiffe_id: entry.spiffe_id.to_string(),
        svid: token.jwt.to_string(),
        hint: hints.next(entry),
    });
    Ok(JwtsvidResponse { svids: svids.collect() })
}

impl TryFrom<JwtsvidRequest> for Asked {
    type Error = Status;

    fn try_from(request: JwtsvidRequest) -> Result<Self, Status> {
        let JwtsvidRequest { audience, spiffe_id } = request;
        let audience =
            Audience::new(audience).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Self { audience, named: super::named(&spiffe_id)? })
    }
}
