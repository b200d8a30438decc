//! What other systems are told: denials, what stands out, and what changes how identities stand.
//!
//! Events are read off the audit log as it grows, so that nothing is told that is not on record, and
//! whoever decides waits for nobody. They are not told again after a restart: the log is the record.
//!
//! | to find | look in |
//! |---|---|
//! | from a record to an event, and its JSON | [`notice`] |
//! | techniques of MITRE ATLAS | `atlas` |
//! | queues, trying again, and files | `export` |
//! | the other ways out | `syslog`, `otlp` |

mod atlas;
mod export;
pub mod notice;
mod otlp;
mod syslog;

use std::sync::Arc;

use claviger_attestors::fetch::RootsError;
use claviger_core::audit::Body;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::{Chain, LinesFile};
use tracing::warn;

use crate::audit::{AuditRecord, Follow};
use crate::config::EventsConfig;
use crate::journal::Journal;
use export::{Exporter, Queue};
use notice::Notice;
use otlp::Otlp;
use syslog::Syslog;

/// Begins to tell what is written into `journal` from now on.
///
/// # Errors
///
/// [`RootsError`] if nobody can vouch for the collector.
pub fn start(config: &EventsConfig, journal: &Journal, tasks: &Tasks) -> Result<(), RootsError> {
    let file = config.file.clone().map(|path| Exporter::File(LinesFile::new(path)));
    let syslog = config.syslog.clone().map(|target| Exporter::Syslog(Syslog::new(target)));
    let otlp = config.otlp.as_ref().map(Otlp::open).transpose()?.map(Exporter::Otlp);
    let exporters = [file, syslog, otlp].into_iter().flatten();
    let queues: Vec<_> = exporters.map(|exporter| Queue::start(exporter, tasks)).collect();
    if queues.is_empty() {
        return Ok(());
    }
    let head = journal.head();
    let next = head.borrow().size.saturating_add(1);
    let follow = Follow::new(Arc::clone(journal.store()), head, next);
    tasks.spawn("events", |_ends_with_the_journal| tell(follow, queues));
    Ok(())
}

/// Tells of every record until the journal has ended.
async fn tell(mut follow: Follow, queues: Vec<Queue>) -> anyhow::Result<()> {
    while let Some(page) = follow.next_page().await? {
        for notice in page.iter().filter_map(notice) {
            let notice = Arc::new(notice);
            for queue in &queues {
                queue.push(Arc::clone(&notice));
            }
        }
    }
    Ok(())
}

fn notice(record: &AuditRecord) -> Option<Notice> {
    if is_routine(&record.body) {
        return None;
    }
    match serde_json::from_slice::<Body>(&record.body) {
        Ok(body) => Notice::of(record.sequence, &body),
        Err(error) => {
            warn!(record = record.sequence, error = %Chain(&error), "cannot read a record");
            None
        }
    }
}

/// Whether a record is one of the many that nobody is told of, from its first bytes: a server issues
/// tens of thousands of SVIDs a second, and has better things to do than to read their records again.
fn is_routine(body: &[u8]) -> bool {
    let event = br#""event":""#;
    let start = body.windows(event.len()).take(64).position(|window| window == event);
    let name = start.and_then(|start| body.get(start.saturating_add(event.len())..));
    name.is_some_and(|name| {
        [&b"x509_svid_issued\""[..], b"jwt_svid_issued\"", b"wit_svid_issued\""]
            .iter()
            .any(|routine| name.starts_with(routine))
    })
}

#[cfg(test)]
mod tests;
