//! An issuer of OpenID Connect tokens, played by the demo on loopback.

use std::path::Path;
use std::sync::Arc;

use claviger_attestors::oidc;
use claviger_core::time::{Clock as _, SystemClock};
use claviger_runtime::tasks::Tasks;
use claviger_server::config::AttestorsConfig;
use serde_json::json;
use uuid::Uuid;

use super::signer::Signer;
use super::{Platform, quoted, settings, tables, web};
use crate::failure::Failure;
use crate::files;

/// Whom the token is for.
const AUDIENCE: &str = "claviger-demo";

/// Starts the issuer, and leaves a token of its own for the agent in `folder`.
pub(super) async fn start(folder: &Path, tasks: &Tasks) -> Result<(Platform, String), Failure> {
    let (listener, address) = web::bind().await?;
    let (issuer, signer) = (format!("http://{address}"), Signer::new()?);
    let now = SystemClock.now().as_secs();
    let token = signer.token(&json!({
        "iss": issuer,
        "sub": "repo:example/demo:ref:refs/heads/main",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now.saturating_add(300),
        "jti": Uuid::new_v4(),
    }))?;
    let path = folder.join("oidc-token");
    files::replace(&path, token.as_bytes(), files::SECRET)?;

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
    let agent = tables(&format!("[attestor.oidc]\ntoken-path = {}\n", quoted(&path)))?;
    let line = format!("issuer of tokens at {issuer}: the demo plays it, as a CI system's");
    Ok((Platform { server, agent: Some(agent) }, line))
}
