//! `claviger svid watch`.

use std::fmt;
use std::time::Duration;

use claviger_proto::workload::{X509svidRequest, X509svidResponse};
use claviger_runtime::tasks::ShutdownSignals;
use serde::Serialize;
use tonic::{Code, Status};

use super::reload::Reloader;
use super::view::{Svid, Svids};
use super::{DOING, Watch};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::times;
use crate::workload::Agent;

/// Follows the stream until SIGINT or SIGTERM, which is how one asks it to end.
pub(super) async fn run(watch: &Watch, console: Console) -> Result<(), Failure> {
    let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
    // An agent that was never there is a mistake; one that went away comes back.
    let agent = Agent::connect(&watch.fetch.socket, console).await?;
    let reloader = Reloader::new(&watch.reload);
    let mut follower = Follower { watch, agent, console, reloader, updates: 0, last: None };
    tokio::select! {
        failed = follower.follow() => failed,
        _ = signals.next() => Ok(()),
    }
}

struct Follower<'a> {
    watch: &'a Watch,
    agent: Agent,
    console: Console,
    reloader: Reloader<'a>,
    updates: u64,
    /// What the files say: an agent that comes back says the same again.
    last: Option<X509svidResponse>,
}

impl Follower<'_> {
    /// Takes update after update. When the stream ends it is opened again, as SPIFFE Workload
    /// Endpoint §6 advises: an agent may be restarted, an identity may not be there yet.
    async fn follow(&mut self) -> Result<(), Failure> {
        const FIRST_PAUSE: Duration = Duration::from_secs(1);
        const LONGEST_PAUSE: Duration = Duration::from_secs(30);

        let mut pause = FIRST_PAUSE;
        loop {
            let before = self.updates;
            let status = self.stream().await?;
            if matches!(status.code(), Code::InvalidArgument | Code::Unimplemented) {
                return Err(self.agent.refused(DOING, &status));
            }
            if before < self.updates {
                pause = FIRST_PAUSE;
            }
            let secs = pause.as_secs();
            console::remark(format_args!("{}; asking again in {secs} s", describe(&status)));
            self.reloader.until(tokio::time::sleep(pause)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Takes the updates of one stream, until it ends.
    async fn stream(&mut self) -> Result<Status, Failure> {
        let opened = self.agent.workload_api().fetch_x509svid(X509svidRequest {}).await;
        let mut stream = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => return Ok(status),
        };
        loop {
            match self.reloader.until(stream.message()).await {
                Ok(Some(response)) => self.update(response).await?,
                Ok(None) => return Ok(Status::unavailable("the agent ended the stream")),
                Err(status) => return Ok(status),
            }
        }
    }

    /// Writes one update down, tells of it, and has it read.
    async fn update(&mut self, response: X509svidResponse) -> Result<(), Failure> {
        let response = match self.watch.fetch.choice.narrow(response) {
            Ok(response) => response,
            Err(none_fits) => {
                console::remark(format_args!("warning: {none_fits}; waiting for it"));
                return Ok(());
            }
        };
        if self.last.as_ref() == Some(&response) {
            return Ok(());
        }
        self.updates = self.updates.saturating_add(1);
        let Svids { svids } = self.watch.fetch.take(&response)?;
        self.console.answer(&Update { update: self.updates, svids })?;
        self.last = Some(response);
        self.reloader.tell().await;
        Ok(())
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
