//! An issuer of OpenID Connect tokens, played by the demo on loopback.

use std::path::Path;
use std::sync::Arc;

use claviger_attestors::oidc;
use claviger_core::time::{Clock as _, SystemClock};
use claviger_node_agent::config::Attestors;
use claviger_runtime::tasks::Tasks;
use claviger_server::config::AttestorsConfig;
use serde_json::json;
use uuid::Uuid;

use super::signer::Signer;
use super::{Platform, settings, web};
use crate::failure::Failure;
use crate::files;

/// Whom the token is for.
const AUDIENCE: &str = "claviger-demo";

/// Starts the issuer, which leaves tokens for the agent in `folder`.
pub(super) async fn start(folder: &Path, tasks: &Tasks) -> Result<(Platform, String), Failure> {
    let (listener, address) = web::bind().await?;
    let (issuer, signer) = (format!("http://{address}"), Signer::new()?);
    let document = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
    let keys = signer.keys()?;
    let answers: web::Answers = Arc::new(move |question, _body| match question {
        "GET /.well-known/openid-configuration" => Some(document.clone()),
        "GET /keys" => Some(keys.clone()),
        _ => None,
    });
    web::serve(listener, None, answers, tasks);

    let config: oidc::Config = settings(json!({"demo": {"issuer": issuer, "audience": AUDIENCE}}))?;
    let server = AttestorsConfig { oidc: Some(config), ..AttestorsConfig::default() };
    let line = format!("issuer of tokens at {issuer}: the demo plays it, as a CI system's");
    let token_path = folder.join("oidc-token");
    let agent = Attestors::played(oidc::KIND, move || {
        // As a CI system does for each job: a token works once, and not if it is older than the server.
        let token = token(&signer, &issuer).map_err(|failure| failure.to_string())?;
        files::replace(&token_path, token.as_bytes(), files::SECRET)
            .map_err(|failure| failure.to_string())?;
        Ok(Box::new(oidc::Collector::open(oidc::CollectorConfig {
            token_path: token_path.clone(),
        })))
    });
    Ok((Platform { server, agent: Some(agent) }, line))
}

/// A new token of `issuer`'s.
fn token(signer: &Signer, issuer: &str) -> Result<String, Failure> {
    let now = SystemClock.now().as_secs();
    signer.token(&json!({
        "iss": issuer,
        "sub": "repo:example/demo:ref:refs/heads/main",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now.saturating_add(300),
        "jti": Uuid::new_v4(),
    }))
}
