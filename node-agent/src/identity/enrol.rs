//! Becoming somebody: evidence in, SVID out.

use std::time::Duration;

use claviger_attestors::{NodeCollector, join_token};
use claviger_core::time::Clock;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{Svid, SvidError, SvidKeyError, TrustBundle, verify_svid_by};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::attest::{AttestError, Earned, attest};
use super::stored;
use crate::backoff::{Backoff, jitter};
use crate::config::{Config, OpenEvidenceError};
use crate::files::{DataDir, DataDirError};
use crate::keys::{Key, KeyError};
use crate::server::Server;

/// Attests until the server answers, and remembers the identity that is earned. Also says whether
/// the evidence can be shown again.
pub(super) async fn enrol(
    config: &Config,
    dir: &DataDir,
    server: &Server,
    clock: &dyn Clock,
    stop: &CancellationToken,
) -> Result<(Svid, bool), EnrolError> {
    let collector = config.evidence()?.ok_or(EnrolError::NoEvidence)?;
    let key = prepare_key(dir).await?;
    let Earned { chain, reattestable } = stop
        .run_until_cancelled(attest_until_answered(server, &*collector, &key))
        .await
        .ok_or(EnrolError::Stopped)??;
    let svid = check(chain, &key, server.bundle(), clock)?;
    stored::save_reattestable(dir, reattestable).await?;
    stored::save_svid(dir, &key, svid.chain()).await?;
    Ok((svid, reattestable))
}

/// The key of an attempt that did not end, or a new one. What works once works for one key only.
async fn prepare_key(dir: &DataDir) -> Result<Key, EnrolError> {
    if let Some(key) = stored::load(dir).await.ok().and_then(|stored| stored.unused_key) {
        return Ok(key);
    }
    let key = Key::generate()?;
    stored::save_key(dir, &key).await?;
    Ok(key)
}

async fn attest_until_answered(
    server: &Server,
    collector: &dyn NodeCollector,
    key: &Key,
) -> Result<Earned, EnrolError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
    let kind = collector.kind();
    loop {
        let error = match attest(server, collector, key).await {
            Ok(earned) => return Ok(earned),
            Err(error) => error,
        };
        if error.is_final() {
            let server = server.places().named().to_string();
            return Err(EnrolError::Refused { server, kind, source: error });
        }
        let pause = backoff.pause(jitter());
        warn!(
            server = %server.places().named(),
            kind,
            error = %Chain(&error),
            pause_ms = pause.as_millis(),
            "cannot attest yet"
        );
        tokio::time::sleep(pause).await;
    }
}

/// Whether what the server sent makes this agent somebody: an SVID for `key` that names an agent,
/// and that the trust domain's authorities vouch for.
pub(super) fn check(
    chain: Vec<CertificateDer<'static>>,
    key: &Key,
    bundle: &TrustBundle,
    clock: &dyn Clock,
) -> Result<Svid, BadAnswer> {
    let svid = Svid::new(chain, key.pkcs8())?;
    let id = verify_svid_by(svid.chain(), bundle, clock)?;
    if !id.path().starts_with("/spire/agent/") {
        return Err(BadAnswer::NotAnAgent(id.to_string()));
    }
    Ok(svid)
}

/// What to do when the server does not take evidence of `kind`.
pub(super) fn advice(kind: &str) -> &'static str {
    if kind == join_token::KIND {
        "a join token works once and not for long, so run `claviger token generate` on the server \
         and try with a new one"
    } else {
        "it does not say why to strangers: its log does, and `claviger audit tail` there; compare \
         `[attestor]` here with `[attestors]` there"
    }
}

/// Why an agent did not become somebody.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is nothing to attest with.
    #[error(
        "this agent has no valid identity and nothing to attest with; configure what this machine \
         has to show for itself as `[attestor.<kind>]`, or run `claviger token generate` on the \
         server, and set `join-token-file` or `join-token`"
    )]
    NoEvidence,
    /// What is configured does not give evidence.
    #[error(transparent)]
    Open(#[from] OpenEvidenceError),
    /// The server does not believe us.
    #[error(
        "the server at {server} refuses this agent by its evidence (`{kind}`); {advice}",
        advice = advice(kind)
    )]
    Refused {
        /// Where the server is.
        server: String,
        /// The kind of the evidence.
        kind: &'static str,
        /// What went wrong.
        source: AttestError,
    },
    /// What the server sent can't be used.
    #[error(transparent)]
    BadAnswer(#[from] BadAnswer),
    /// No key.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    /// The key or the identity can't be kept.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The process is ending.
    #[error("stopped before the server answered")]
    Stopped,
}

/// What the server sent is not an agent's SVID.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// It is no SVID, or not for our key.
    #[error("the server sent an SVID that is not for this agent's key")]
    Svid(#[from] SvidKeyError),
    /// Nobody vouches for it.
    #[error("the server sent an SVID that its trust domain does not vouch for")]
    Untrusted(#[from] SvidError),
    /// It names something else.
    #[error("the server sent an SVID for `{0}`, which is no agent")]
    NotAnAgent(String),
}
