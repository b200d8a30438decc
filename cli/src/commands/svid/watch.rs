//! `claviger svid watch`.

use std::fmt;
use std::time::Duration;

use claviger_proto::workload::X509svidRequest;
use claviger_runtime::tasks::ShutdownSignals;
use serde::Serialize;
use tonic::{Code, Status};

use super::view::{Svid, Svids};
use super::{DOING, Fetch};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::times;
use crate::workload::Agent;

/// Follows the stream until SIGINT or SIGTERM, which is how one asks it to end.
pub(super) async fn run(fetch: &Fetch, console: Console) -> Result<(), Failure> {
    let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
    tokio::select! {
        failed = follow(fetch, console) => failed,
        _ = signals.next() => Ok(()),
    }
}

/// Prints update after update. When the stream ends it is opened again, as SPIFFE Workload
/// Endpoint §6 advises: an agent may be restarted, an identity may not be there yet.
async fn follow(fetch: &Fetch, console: Console) -> Result<(), Failure> {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);

    // An agent that was never there is a mistake; one that went away comes back.
    let agent = Agent::connect(&fetch.socket, console).await?;
    let mut pause = FIRST_PAUSE;
    let mut updates: u64 = 0;
    loop {
        let before = updates;
        let status = stream(fetch, &agent, console, &mut updates).await?;
        if matches!(status.code(), Code::InvalidArgument | Code::Unimplemented) {
            return Err(agent.refused(DOING, &status));
        }
        if before < updates {
            pause = FIRST_PAUSE;
        }
        let secs = pause.as_secs();
        console::remark(format_args!("{}; asking again in {secs} s", describe(&status)));
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Prints the updates of one stream, until it ends.
async fn stream(
    fetch: &Fetch,
    agent: &Agent,
    console: Console,
    updates: &mut u64,
) -> Result<Status, Failure> {
    let mut stream = match agent.workload_api().fetch_x509svid(X509svidRequest {}).await {
        Ok(opened) => opened.into_inner(),
        Err(status) => return Ok(status),
    };
    loop {
        match stream.message().await {
            Ok(Some(response)) => {
                *updates = updates.saturating_add(1);
                let Svids { svids } = fetch.take(&response)?;
                console.answer(&Update { update: *updates, svids })?;
            }
            Ok(None) => return Ok(Status::unavailable("the agent ended the stream")),
            Err(status) => return Ok(status),
        }
    }
}

fn describe(status: &Status) -> String {
    let what = if status.code() == Code::PermissionDenied {
        "no identity"
    } else if status.code() == Code::Unavailable {
        "the agent is away"
    } else {
        status.code().description()
    };
    format!("{what}: {}", status.message())
}

/// `{"update":1,"svids":[…]}`, or one line.
#[derive(Debug, Serialize)]
struct Update {
    update: u64,
    svids: Vec<Svid>,
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "update {}:", self.update)?;
        for (n, svid) in self.svids.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let Svid { spiffe_id, serial_number, .. } = svid;
            let end = times::show(svid.expires_at);
            write!(f, "{comma} {spiffe_id} until {end} (serial {serial_number})")?;
        }
        Ok(())
    }
}
