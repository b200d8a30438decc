//! Tokens that are bound to a key.
//!
//! An agent whose service account may create tokens for itself asks for one whose audience names the
//! key. The API server signs that, so what it gives away is of no use with any other key. It is bound
//! to the same pod as the agent's own token.

use std::time::Duration;

use claviger_core::evidence::Binding;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::api::{ApiError, ApiServer};
use super::claims::{Claims, ClaimsError};
use crate::jwks::audience::bound;

/// How long the token is to last, in seconds; the least that Kubernetes grants.
const LIFETIME: i64 = 600;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A token for the same as `token`, and bound as `binding` says.
pub(super) async fn bound_token(
    api: &ApiServer,
    token: &str,
    binding: &Binding,
) -> Result<Zeroizing<String>, RequestError> {
    let claims = Claims::read(token)?;
    let spec = TokenRequestSpec {
        audiences: claims.audiences.iter().map(|audience| bound(audience, binding)).collect(),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(claims.pod.name.to_string()),
            uid: Some(claims.pod.uid.to_string()),
        }),
        expiration_seconds: Some(LIFETIME),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = timeout(PATIENCE, api.token(&claims.account, &request)).await;
    let answer = answer.unwrap_or(Err(ApiError::Late(PATIENCE)))?;
    let status = answer.status.ok_or(RequestError::Empty)?;
    Ok(Zeroizing::new(status.token))
}

/// Why there is no such token.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("the pod's own token cannot be used")]
    Claims(#[from] ClaimsError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the API server's answer has no token in it")]
    Empty,
}
