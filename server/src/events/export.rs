//! Getting events out: to a file, to syslog, to a collector of OpenTelemetry.
//!
//! Each way out has a queue and a task of its own, so that one that is stuck holds up nobody. What
//! fails is tried again, later and later; meanwhile the queue fills, and what finds no room is counted.

use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::fetch::FetchError;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::{Chain, LinesFile};
use metrics::counter;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::notice::Notice;
use super::otlp::Otlp;
use super::syslog::Syslog;
use crate::metrics as names;

/// How many events may wait. Denials come at some thousand a minute at most; an event is about 1 KiB.
const QUEUE: usize = 4_096;

/// The most events that are sent at once.
const BATCH: usize = 256;

/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long after a failed attempt the next one comes, at first and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A way out.
#[derive(Debug)]
pub(super) enum Exporter {
    /// Lines of JSON.
    File(LinesFile),
    /// RFC 5424.
    Syslog(Syslog),
    /// OTLP over HTTP, as JSON.
    Otlp(Otlp),
}

/// Events were not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// The operating system says why.
    #[error("the events cannot be written")]
    Io(#[from] std::io::Error),
    /// The collector did not take them.
    #[error("the collector did not take the events")]
    Collector(#[from] FetchError),
    /// They cannot be written down.
    #[error("the events cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// It took too long.
    #[error("the events were not taken within {DEADLINE:?}")]
    Late,
}

impl ExportError {
    /// Whether the same events will fail again.
    fn is_final(&self) -> bool {
        match self {
            Self::Collector(error) => error.is_final(),
            Self::Json(_) => true,
            Self::Io(_) | Self::Late => false,
        }
    }
}

impl Exporter {
    const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Otlp(_) => "otlp",
        }
    }

    async fn send(&mut self, notices: &[Arc<Notice>]) -> Result<(), ExportError> {
        let sending = async {
            match self {
                Self::File(file) => Ok(file.append(&lines(notices)?).await?),
                Self::Syslog(syslog) => syslog.send(notices).await,
                Self::Otlp(otlp) => otlp.send(notices).await,
            }
        };
        timeout(DEADLINE, sending).await.unwrap_or(Err(ExportError::Late))
    }
}

/// The lines of JSON of `notices`.
fn lines(notices: &[Arc<Notice>]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for notice in notices {
        serde_json::to_writer(&mut lines, notice)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The way into an exporter's queue.
#[derive(Debug)]
pub(super) struct Queue {
    name: &'static str,
    notices: mpsc::Sender<Arc<Notice>>,
}

impl Queue {
    /// Starts `exporter`.
    pub(super) fn start(exporter: Exporter, tasks: &Tasks) -> Self {
        let (notices, waiting) = mpsc::channel(QUEUE);
        let name = exporter.name();
        tasks.spawn("event exporter", |stop| run(exporter, waiting, stop));
        Self { name, notices }
    }

    /// Queues an event, or counts that there is no room.
    pub(super) fn push(&self, notice: Arc<Notice>) {
        if self.notices.try_send(notice).is_err() {
            counter!(names::EVENTS_DROPPED, "exporter" => self.name).increment(1);
        }
    }
}

/// Sends what comes until nothing can come any more.
async fn run(
    mut exporter: Exporter,
    mut waiting: mpsc::Receiver<Arc<Notice>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    while 0 < waiting.recv_many(&mut batch, BATCH).await {
        deliver(&mut exporter, &batch, &stop).await;
        batch.clear();
    }
    Ok(())
}

/// Sends `batch`, again and again until it is taken; once it is time to stop, once more.
async fn deliver(exporter: &mut Exporter, batch: &[Arc<Notice>], stop: &CancellationToken) {
    let (name, count) = (exporter.name(), batch.len().try_into().unwrap_or(u64::MAX));
    let mut pause = PAUSE;
    loop {
        let Err(error) = exporter.send(batch).await else {
            counter!(names::EVENTS_SENT, "exporter" => name).increment(count);
            if PAUSE < pause {
                info!(exporter = name, "events are sent again");
            }
            return;
        };
        counter!(names::EVENTS_FAILED, "exporter" => name).increment(1);
        warn!(exporter = name, error = %Chain(&error), "events are not sent");
        if error.is_final() || stop.is_cancelled() {
            counter!(names::EVENTS_DROPPED, "exporter" => name).increment(count);
            return;
        }
        // Woken early by the stop, it tries once more.
        stop.run_until_cancelled(sleep(pause)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}
