//! Asking the server for a token, and checking its answer.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::svid::jwt::{Audience, JwtSvid, TokenError};
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::spire::server::svid::v1::NewJwtsvidRequest;
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_runtime::telemetry::Chain;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Key, NoToken, Token};
use crate::credentials::{ServedBundle, Snapshot};
use crate::metrics;
use crate::server::{Link, Said};

/// For the server's answer: a process waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// One question to the server.
pub(super) struct Request {
    pub(super) link: Option<Link>,
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) key: Key,
}

impl Request {
    /// The token. It is asked for once: whoever wants to try again does so.
    pub(super) async fn send(self) -> Result<Arc<Token>, NoToken> {
        let entry = Arc::clone(&self.key.entry);
        let answer = match tokio::time::timeout(DEADLINE, self.ask()).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                warn!(entry = %entry.id, seconds = DEADLINE.as_secs(), "no JWT-SVID in time");
                Err(NoToken::Unreachable)
            }
        };
        match &answer {
            Ok(_) => metrics::jwt_svid("server"),
            Err(_) => metrics::jwt_svid_failed(),
        }
        answer
    }

    async fn ask(mut self) -> Result<Arc<Token>, NoToken> {
        let link = self.link.take().ok_or(NoToken::Unreachable)?;
        let Key { entry, audience } = self.key.clone();
        let message = NewJwtsvidRequest {
            entry_id: entry.id.to_string(),
            audience: audience.names().to_vec(),
        };
        let asked = link.ask(DEADLINE, |channel| {
            let message = message.clone();
            async move { SvidClient::new(channel).new_jwtsvid(message).await }
        });
        let answer = asked.await.map_err(|status| {
            let (code, error) = (status.code(), Said(&status));
            warn!(entry = %entry.id, id = %entry.spiffe_id, %code, %error, "no JWT-SVID");
            NoToken::said(&status)
        })?;
        let jwt = Zeroizing::new(answer.into_inner().svid.unwrap_or_default().token);
        self.accept(jwt).await.map_err(|error| {
            warn!(entry = %entry.id, id = %entry.spiffe_id, error = %Chain(&error), "no JWT-SVID");
            NoToken::Useless
        })
    }

    /// Makes sure that `jwt` is what was asked for. It may be signed by a key so new that the word
    /// of it is still on its way.
    async fn accept(&mut self, jwt: Zeroizing<String>) -> Result<Arc<Token>, Unexpected> {
        let Key { entry, audience } = &self.key;
        let svid = loop {
            let snapshot = self.snapshots.borrow_and_update().clone();
            let snapshot = snapshot.ok_or(Unexpected::NoBundle)?;
            match check(&jwt, entry, audience, self.clock.now(), snapshot.bundle()) {
                Err(Unexpected::Token(TokenError::UnknownKey)) => {
                    self.snapshots.changed().await.map_err(|_stopping| Unexpected::NoBundle)?;
                }
                checked => break checked?,
            }
        };
        let issued_at = svid.claims.get("iat").and_then(Value::as_u64).unwrap_or_default();
        let (issued_at, expires_at) = (UnixTime::from_secs(issued_at), svid.expires_at);
        Ok(Arc::new(Token { jwt, key_id: svid.key_id, expires_at, issued_at }))
    }
}

fn check(
    jwt: &str,
    entry: &Entry,
    audience: &Audience,
    now: UnixTime,
    own: &ServedBundle,
) -> Result<JwtSvid, Unexpected> {
    let bundle = &own.bundle;
    let [first, ..] = audience.names() else { return Err(Unexpected::Audience) };
    let svid = JwtSvid::validate(jwt, first, now, |domain| {
        (*domain == bundle.trust_domain).then_some(&*bundle.jwt_authorities)
    })?;
    if svid.subject != entry.spiffe_id {
        return Err(Unexpected::Subject(svid.subject.to_string()));
    }
    if svid.claims.get("aud") != Some(&Value::from(audience.names())) {
        return Err(Unexpected::Audience);
    }
    Ok(svid)
}

/// Why the server's answer is of no use.
#[derive(Debug, thiserror::Error)]
enum Unexpected {
    #[error("the server sent something else than a JWT-SVID of our trust domain")]
    Token(#[from] TokenError),
    #[error("the server sent a JWT-SVID for `{0}`")]
    Subject(String),
    #[error("the server sent a JWT-SVID for another audience")]
    Audience,
    #[error("the trust domain's keys are not known")]
    NoBundle,
}
