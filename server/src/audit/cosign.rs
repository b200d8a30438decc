//! Signatures of witnesses under our checkpoints ([tlog-witness](https://c2sp.org/tlog-witness)): asked
//! for when the log has grown, and not when it has not.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_attestors::fetch::{Fetch, FetchError, RootsError};
use claviger_core::audit::note::Signature;
use claviger_core::audit::proof::Wanted;
use claviger_core::audit::{Sequence, SignedCheckpoint};
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use http::StatusCode;
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Checkpoints, tiles};
use crate::config::{AuditConfig, WitnessConfig};
use crate::journal::Journal;
use crate::metrics as names;
use crate::store::StoreError;

/// How often witnesses are asked while the log grows.
const EVERY: Duration = Duration::from_secs(10);

/// How long after one did not sign it is asked again, if nothing is written.
const AGAIN: Duration = Duration::from_secs(60);

/// Asks the witnesses in `config`, if there are any, until `tasks` stop.
///
/// # Errors
///
/// [`RootsError`] if nobody can vouch for a witness's HTTPS.
pub(crate) fn start(
    config: &AuditConfig,
    checkpoints: &Arc<Checkpoints>,
    journal: &Journal,
    tasks: &Tasks,
) -> Result<(), RootsError> {
    if config.witnesses.is_empty() {
        return Ok(());
    }
    let asked = |config: &WitnessConfig| Asked { config: config.clone(), size: 0 };
    let cosigning = Cosigning {
        fetch: Fetch::open(config.ca_file.as_deref())?,
        witnesses: config.witnesses.iter().map(asked).collect(),
        checkpoints: Arc::clone(checkpoints),
        journal: journal.clone(),
    };
    tasks.spawn("witnesses", |stop| cosigning.run(stop));
    Ok(())
}

/// Keeps asking.
#[derive(Debug)]
struct Cosigning {
    fetch: Fetch,
    witnesses: Vec<Asked>,
    checkpoints: Arc<Checkpoints>,
    journal: Journal,
}

/// A witness, and the size that it has signed last, as far as we know.
#[derive(Debug)]
struct Asked {
    config: WitnessConfig,
    size: Sequence,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
enum CosignError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("cannot prove that the log continues")]
    Store(#[from] StoreError),
    /// Others have seen more of the log than there is.
    #[error(
        "it has signed {witnessed} records, and this log has {records}: this server is a restored \
         backup, or there is another one with its key"
    )]
    Ahead { witnessed: Sequence, records: Sequence },
    #[error("it answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("its answer is not its signature on the checkpoint")]
    Answer,
}

impl Cosigning {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut head = self.journal.head();
        while let Some(all) = stop.run_until_cancelled(self.ask_all()).await {
            let grown = async {
                tokio::time::sleep(EVERY).await;
                head.changed().await
            };
            let again = async {
                if all {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(AGAIN).await;
            };
            let ended = tokio::select! {
                () = stop.cancelled() => true,
                grown = grown => grown.is_err(),
                () = again => false,
            };
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// Asks every witness to sign the log as it is now. Returns whether all did.
    async fn ask_all(&mut self) -> bool {
        let mut signed = self.checkpoints.sign_now();
        let (mut all, mut any) = (true, false);
        for asked in &mut self.witnesses {
            let name = asked.config.key.name().to_owned();
            let answer = asked.sign(&self.fetch, &self.journal, &signed).await;
            let outcome = if answer.is_ok() { "signed" } else { "failed" };
            counter!(names::COSIGNATURES, "witness" => name.clone(), "outcome" => outcome)
                .increment(1);
            match answer {
                Ok(signature) => {
                    any = true;
                    signed.note_mut().add(signature);
                }
                Err(error) => {
                    all = false;
                    warn!(witness = name, error = %Chain(&error), "a checkpoint is not witnessed");
                }
            }
        }
        if any {
            info!(size = signed.checkpoint().head.size, "checkpoint witnessed");
            self.checkpoints.remember_witnessed(signed);
        }
        all
    }
}

impl Asked {
    async fn sign(
        &mut self,
        fetch: &Fetch,
        journal: &Journal,
        signed: &SignedCheckpoint,
    ) -> Result<Signature, CosignError> {
        let records = signed.checkpoint().head.size;
        // The second time with the size that the witness names: it remembers more than we do.
        for _attempt in 0..2 {
            let body = request(journal, self.size, signed).await?;
            let (status, answer) = fetch.post_text(&self.config.endpoint, body).await?;
            let answer = String::from_utf8_lossy(&answer);
            match status {
                StatusCode::OK => {
                    self.size = records;
                    return self.signature(&answer, signed).ok_or(CosignError::Answer);
                }
                StatusCode::CONFLICT => {
                    let witnessed: Sequence =
                        answer.trim_end().parse().map_err(|_no_size| refused(status, &answer))?;
                    if records < witnessed {
                        return Err(CosignError::Ahead { witnessed, records });
                    }
                    if witnessed == self.size {
                        return Err(refused(status, &answer));
                    }
                    self.size = witnessed;
                }
                _ => return Err(refused(status, &answer)),
            }
        }
        Err(CosignError::Answer)
    }

    /// The witness's own signature among those in `answer`, verified.
    fn signature(&self, answer: &str, signed: &SignedCheckpoint) -> Option<Signature> {
        let key = &self.config.key;
        let mut note = signed.note().clone();
        Signature::parse_lines(answer).ok()?.into_iter().for_each(|line| note.add(line));
        note.verify(key).ok()?;
        note.by(key).next().cloned()
    }
}

fn refused(status: StatusCode, answer: &str) -> CosignError {
    CosignError::Refused { status, detail: answer.chars().take(200).collect() }
}

/// The body of `add-checkpoint` for a witness that signed `old` records last.
async fn request(
    journal: &Journal,
    old: Sequence,
    signed: &SignedCheckpoint,
) -> Result<String, StoreError> {
    let size = signed.checkpoint().head.size;
    let path = match Wanted::consistency(old, size) {
        Some(wanted) => tiles::resolve(&**journal.store(), &wanted, size).await?,
        None => Vec::new(),
    };
    let mut body = format!("old {old}\n");
    for hash in path {
        body.push_str(&STANDARD.encode(hash.as_bytes()));
        body.push('\n');
    }
    body.push('\n');
    body.push_str(&signed.note().to_string());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use claviger_attestors::fetch::{Endpoint, Plain};
    use claviger_core::audit::Event;
    use claviger_core::audit::note::VerifierKey;

    use super::*;
    use crate::journal::Change;
    use crate::storage::fixture::{Life, NOW, TestClock};
    use crate::store::memory::MemoryStore;
    use crate::witness::{self, Settings};

    async fn witness(dir: &Path, name: &str, log: VerifierKey, tasks: &Tasks) -> WitnessConfig {
        let settings = Settings {
            name: format!("witness.example/{name}"),
            folder: dir.join(name),
            listen: ([127, 0, 0, 1], 0).into(),
            logs: vec![log],
        };
        let running = witness::start(settings, TestClock::at(NOW), tasks).await.unwrap();
        let url = format!("http://{}/add-checkpoint", running.address);
        let endpoint = Endpoint::parse(&url, Plain::Loopback).unwrap();
        WitnessConfig { endpoint, key: running.key }
    }

    fn cosigning(life: &Life, witnesses: &[WitnessConfig]) -> Cosigning {
        let asked = |config: &WitnessConfig| Asked { config: config.clone(), size: 0 };
        Cosigning {
            fetch: Fetch::plain().unwrap(),
            witnesses: witnesses.iter().map(asked).collect(),
            checkpoints: Arc::clone(&life.storage.checkpoints),
            journal: life.storage.journal.clone(),
        }
    }

    async fn say(life: &Life, times: usize) {
        let events = vec![Event::ServerStarted { epoch: 1 }; times];
        let change = Change { events, ..Change::default() };
        life.storage.journal.commit(change).await.unwrap();
    }

    #[tokio::test]
    async fn checkpoints_are_witnessed_as_the_log_grows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let clock = TestClock::at(NOW);
        let life = Life::over(store, &dir.path().join("server"), &clock).await.unwrap();
        let checkpoints = Arc::clone(&life.storage.checkpoints);
        let (log, tasks) = (checkpoints.key().clone(), Tasks::default());
        let one = witness(dir.path(), "w1", log.clone(), &tasks).await;
        let other = witness(dir.path(), "w2", log.clone(), &tasks).await;
        let witnesses = [one.clone(), other.clone()];
        assert!(checkpoints.witnessed().is_none());

        let mut asking = cosigning(&life, &witnesses);
        for grown in [300, 1, 0, 700] {
            say(&life, grown).await;
            assert!(asking.ask_all().await);
            let signed = checkpoints.witnessed().unwrap();
            let reached = life.storage.journal.head().borrow().size;
            assert_eq!(signed.checkpoint().head.size, reached);
            assert!(witnesses.iter().all(|w| signed.note().verify(&w.key).unwrap().is_some()));
        }
        // After a restart it does not know what they have signed: they tell.
        say(&life, 5).await;
        assert!(cosigning(&life, &witnesses).ask_all().await);

        // One that does not know the log: the other's signature is kept nevertheless.
        let stranger = witness(dir.path(), "w3", one.key.clone(), &tasks).await;
        say(&life, 5).await;
        assert!(!cosigning(&life, &[stranger.clone(), one.clone()]).ask_all().await);
        let signed = checkpoints.witnessed().unwrap();
        assert!(
            signed.note().verify(&one.key).is_ok() && signed.note().verify(&stranger.key).is_err()
        );
        tasks.stop();
    }

    #[tokio::test]
    async fn a_restored_server_is_not_witnessed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let clock = TestClock::at(NOW);
        let path = dir.path().join("server");
        let life = Life::over(Arc::<MemoryStore>::clone(&store), &path, &clock).await.unwrap();
        let tasks = Tasks::default();
        let log = life.storage.checkpoints.key().clone();
        let config = witness(dir.path(), "w1", log, &tasks).await;
        let backup = Arc::new(store.copy());
        say(&life, 10).await;
        assert!(cosigning(&life, std::slice::from_ref(&config)).ask_all().await);
        life.stop().await;

        let life = Life::over(backup, &path, &clock).await.unwrap();
        let mut asking = cosigning(&life, &[config]);
        let signed = asking.checkpoints.sign_now();
        let journal = life.storage.journal.clone();
        let answer = asking.witnesses[0].sign(&asking.fetch, &journal, &signed).await;
        let error = answer.unwrap_err();
        assert!(matches!(error, CosignError::Ahead { .. }), "{error}");
        // As long as before, with other records: the proof shows that they do not continue each other.
        say(&life, 50).await;
        let signed = asking.checkpoints.sign_now();
        let answer = asking.witnesses[0].sign(&asking.fetch, &journal, &signed).await;
        let Err(CosignError::Refused { status, .. }) = answer else { panic!("it was signed") };
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(life.storage.checkpoints.witnessed().is_none());
        tasks.stop();
    }
}
