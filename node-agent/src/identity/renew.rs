//! Staying who one is: a new SVID at half life, or by evidence.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::svid::Validity;
use claviger_core::time::Clock;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::agent::v1::{AgentX509svidParams, RenewAgentRequest};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::Svid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use super::attest::{AttestError, attest, chain_of};
use super::enrol::{BadAnswer, advice, check};
use super::{Agent, Standing, StoredError, stored};
use crate::backoff::{Backoff, jitter};
use crate::config::{Config, OpenEvidenceError};
use crate::credentials::cache::Cache;
use crate::files::{DataDir, DataDirError};
use crate::keys::{Key, KeyError};
use crate::server::{Link, Said, is_rejection};

/// For one attempt.
const DEADLINE: Duration = Duration::from_secs(30);

/// The clock is asked again at least this often: it may be set, and the machine may sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Whatever the clock says, this part of an SVID's life passes before it is renewed: a clock that runs
/// ahead must not have an agent attest without a pause. In tenths; renewal is due at four or later.
const LEAST_TENTHS: u32 = 3;

/// Renews the agent's own SVID.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// Whose.
    pub(crate) agent: Agent,
    /// What it has to show for itself.
    pub(crate) config: Config,
    /// Where it is kept.
    pub(crate) dir: DataDir,
    /// What the agent's key opens, and the next one is to open, too.
    pub(crate) cache: Cache,
    /// Where others find the way to the server; the SVID is part of it.
    pub(crate) link: watch::Sender<Option<Link>>,
    /// Who is told when it fails.
    pub(crate) standing: Standing,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Renewal {
    /// Renews at half life until `stop` fires.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        stop.run_until_cancelled(self.renew_for_ever()).await;
        Ok(())
    }

    async fn renew_for_ever(&self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let (mut came, mut earliest) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = self.sleep_until_due(came, earliest) => {}
                () = self.standing.must_attest() => {}
            }
            match self.renew().await {
                Ok(()) => {
                    backoff.reset();
                    came = Instant::now();
                    earliest = came + self.validity().life() * LEAST_TENTHS / 10;
                }
                Err(error) => {
                    self.report(&error).await;
                    tokio::time::sleep(backoff.pause(jitter())).await;
                }
            }
        }
    }

    fn validity(&self) -> Validity {
        let svid = self.agent.identity.current();
        Validity { not_before: svid.leaf().not_before(), not_after: svid.leaf().not_after() }
    }

    /// By the clock, or by the time that has passed since the SVID `came`, whichever is sooner: a
    /// clock that was set back must not let it end.
    async fn sleep_until_due(&self, came: Instant, earliest: Instant) {
        sleep_until(earliest).await;
        let validity = self.validity();
        let due = validity.renew_at(jitter());
        let latest = came + due.since(validity.issued());
        loop {
            let left = due.since(self.clock.now()).min(latest.duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }

    /// Gets an SVID with a new key, in the way that the server wants. The old one stays in force
    /// until the new one is first used, so an answer that is lost does no harm.
    async fn renew(&self) -> Result<(), RenewError> {
        let key = Key::generate()?;
        let svid = if self.standing.is_reattestable() {
            self.attest(&key).await?
        } else {
            self.ask(&key).await?
        };
        if *svid.leaf().id() != self.agent.id {
            return Err(RenewError::OtherAgent(svid.leaf().id().to_string()));
        }
        self.cache.pass_on(&key, stored::save_svid(&self.dir, &key, svid.chain())).await?;
        self.put_to_use(svid).await;
        Ok(())
    }

    /// As whom the agent is already.
    async fn ask(&self, key: &Key) -> Result<Svid, RenewError> {
        let params = Some(AgentX509svidParams { csr: key.request()? });
        let link = self.link.borrow().clone().ok_or(RenewError::NoServer)?;
        let asked = link.ask(DEADLINE, |channel| {
            let request = RenewAgentRequest { params: params.clone() };
            async move { AgentClient::new(channel).renew_agent(request).await }
        });
        let answer = asked.await?.into_inner();
        let bundle = self.agent.server.bundle();
        Ok(check(chain_of(answer.svid), key, bundle, self.clock.as_ref())?)
    }

    /// As at the first start. An agent whose SVID is still valid goes on believing whom it believes;
    /// after that, the authorities may have changed in its absence.
    async fn attest(&self, key: &Key) -> Result<Svid, RenewError> {
        let collector = self.config.evidence()?.ok_or(RenewError::NoEvidence)?;
        let has_ended = self.agent.identity.current().leaf().not_after() < self.clock.now();
        let server = if has_ended {
            let bundle = stored::bootstrap_bundle(&self.config, &self.dir).await?;
            self.agent.server.believing(bundle)
        } else {
            self.agent.server.clone()
        };
        let earned = attest(&server, &*collector, key)
            .await
            .map_err(|source| RenewError::Attest { kind: collector.kind(), source })?;
        let svid = check(earned.chain, key, server.bundle(), self.clock.as_ref())?;
        if has_ended {
            // Until the server says which of them are still in force.
            self.agent.server.bundle().adopt(server.bundle());
        }
        self.standing.set_reattestable(earned.reattestable);
        stored::save_reattestable(&self.dir, earned.reattestable).await?;
        Ok(svid)
    }

    /// New connections present the new SVID, and everyone is told to make one.
    async fn put_to_use(&self, svid: Svid) {
        info!(not_after = %svid.leaf().not_after(), "the agent's SVID is renewed");
        self.agent.identity.replace(svid);
        self.link.send_replace(Some(self.agent.server.link(Some(&self.agent.identity))));
        self.standing.accepted().await;
    }

    async fn report(&self, error: &RenewError) {
        if let RenewError::Server(status) = error
            && is_rejection(status)
        {
            self.standing.refused(status).await;
            return;
        }
        let why = if let RenewError::Server(status) = error {
            Said(status).to_string()
        } else {
            Chain(error).to_string()
        };
        let left = self.agent.identity.current().leaf().not_after().since(self.clock.now());
        warn!(error = why, left_s = left.as_secs(), "the agent's SVID is not renewed yet");
        self.standing.renewal_failed(&why, left.as_secs());
    }
}

/// Why an SVID is not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    #[error("there is no way to the server")]
    NoServer,
    #[error("the server does not renew it")]
    Server(#[from] Status),
    #[error(
        "the server wants evidence again, and none is configured; set `[attestor.<kind>]` as it \
         was when the agent attested, and restart it"
    )]
    NoEvidence,
    #[error(transparent)]
    Open(#[from] OpenEvidenceError),
    #[error("the server does not take its evidence (`{kind}`); {advice}", advice = advice(kind))]
    Attest { kind: &'static str, source: AttestError },
    #[error(transparent)]
    BadAnswer(#[from] BadAnswer),
    #[error(
        "the evidence now makes this agent `{0}`; if that is meant, remove `identity.pem` from its \
         `data-dir` and restart it"
    )]
    OtherAgent(String),
    #[error(transparent)]
    Stored(#[from] StoredError),
}

impl From<DataDirError> for RenewError {
    fn from(error: DataDirError) -> Self {
        Self::Stored(error.into())
    }
}
