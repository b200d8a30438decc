//! Whether a JWT-SVID is to be believed, for callers who cannot tell themselves (SPIFFE Workload API
//! §6.2.3).

use claviger_core::id::TrustDomain;
use claviger_core::svid::jwt::JwtSvid;
use claviger_proto::convert::claims;
use claviger_proto::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use claviger_runtime::unix::Peer;
use tonic::Status;

use crate::attestation::not_attested;
use crate::streams::Desk;

/// Answers any process, also one without an identity: that one may rely on our own trust domain,
/// and on no other.
pub(super) async fn validate(
    desk: &Desk,
    peer: &Peer,
    request: ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Status> {
    let ValidateJwtsvidRequest { audience, svid } = request;
    for (field, value) in [("audience", &audience), ("svid", &svid)] {
        if value.is_empty() {
            return Err(Status::invalid_argument(format!("{field} must be specified")));
        }
    }
    let facts = desk.attestation.facts(peer).await.map_err(|error| not_attested(&error))?;
    let snapshot = desk.snapshot()?;
    let now = desk.clock.now();
    let federated = snapshot.federated_with(&snapshot.admitted(&facts, now));
    let authorities = |domain: &TrustDomain| {
        let own = (domain == snapshot.trust_domain()).then(|| snapshot.bundle());
        let served = own.or_else(|| federated.get(domain).map(|served| &***served));
        served.map(|served| &*served.bundle.jwt_authorities)
    };

    let JwtSvid { subject, claims, .. } = JwtSvid::validate(&svid, &audience, now, authorities)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;

    let claims =
        claims::to_struct(claims).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(ValidateJwtsvidResponse { spiffe_id: subject.to_string(), claims: Some(claims) })
}
