//! `claviger psk series`: keys of which those of a later epoch void those of the earlier.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose, Series};
use claviger_core::time::{Clock as _, SystemClock};
use claviger_proto::claviger::psk::v1::{IssueRequest, IssueResponse};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::Code;

use super::{Psk, ttl};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::workload::Agent;

/// Between two attempts while nobody can be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("when").required(true).multiple(true)
    .args(["epoch", "every", "per_connection"]))]
pub(crate) struct Draw {
    /// The series, as you like to call it: 1 to 128 characters of A-Z a-z 0-9 . _ : / -
    #[arg(value_name = "NAME")]
    series: Series,

    /// The SPIFFE ID of the server to connect to
    #[arg(long, value_name = "ID")]
    peer: SpiffeId,

    /// What the connections are for, as the policy knows it
    #[arg(long, value_name = "WORD")]
    purpose: Purpose,

    /// One key of this epoch, at least 1; with --per-connection, the epoch of all its keys
    #[arg(long, value_name = "N")]
    epoch: Option<NonZeroU64>,

    /// A new epoch and one key of it, now and each time so much time has passed, such as `30s`
    #[arg(long, value_name = "INTERVAL", value_parser = interval, conflicts_with_all = ["epoch", "per_connection"])]
    every: Option<Duration>,

    /// A key for each line on standard input, whatever is in it, until that ends
    #[arg(long)]
    per_connection: bool,

    /// How long each key waits to be used, at most 300; 60 if not given, or the interval if shorter
    #[arg(long, value_name = "SECONDS", value_parser = ttl)]
    ttl: Option<PskTtl>,

    /// Which of this process's identities is to be the client; the first if not given
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

/// As `claviger psk issue` prints it, and `"series":"…","epoch":N`.
#[derive(Serialize)]
struct Drawn {
    #[serde(flatten)]
    psk: Psk,
    series: Series,
    epoch: NonZeroU64,
}

impl Draw {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        match (self.every, self.per_connection) {
            (Some(every), _) => self.each_interval(&agent, every, console).await,
            (None, true) => self.each_line(&agent, console).await,
            (None, false) => {
                // The group sees to it that there is one.
                let epoch = self.epoch.unwrap_or(NonZeroU64::MIN);
                self.draw(&agent, epoch, console).await
            }
        }
    }

    /// An epoch is the second at which its interval begins. So two that run at the same time are in the
    /// same epoch, and one that is started again, whatever its interval, goes on after the one before.
    async fn each_interval(
        &self,
        agent: &Agent,
        every: Duration,
        console: Console,
    ) -> Result<(), Failure> {
        loop {
            let (epoch, left) = epoch_at(now(), every);
            self.draw(agent, epoch, console).await?;
            tokio::time::sleep(left).await;
            // The clock may lag behind the timer by a moment.
            while epoch_at(now(), every).0 == epoch {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// All keys are of the epoch that was named, or of one that begins now.
    async fn each_line(&self, agent: &Agent, console: Console) -> Result<(), Failure> {
        let epoch = self.epoch.unwrap_or_else(|| epoch_at(now(), Duration::from_secs(1)).0);
        let mut input = BufReader::new(tokio::io::stdin());
        loop {
            let read = input.fill_buf().await?;
            let (length, lines) = (read.len(), read.iter().filter(|byte| **byte == b'\n').count());
            if length == 0 {
                return Ok(());
            }
            input.consume(length);
            for _ in 0..lines {
                self.draw(agent, epoch, console).await?;
            }
        }
    }

    async fn draw(
        &self,
        agent: &Agent,
        epoch: NonZeroU64,
        console: Console,
    ) -> Result<(), Failure> {
        let issued = self.issue(agent, epoch).await?;
        let (psk, series) = (Psk::from(issued), self.series.clone());
        console.answer(&Drawn { psk, series, epoch })
    }

    /// Asks until somebody answers, if more keys follow.
    async fn issue(&self, agent: &Agent, epoch: NonZeroU64) -> Result<IssueResponse, Failure> {
        let request = IssueRequest {
            peer: self.peer.to_string(),
            purpose: self.purpose.to_string(),
            ttl_seconds: self.ttl().into(),
            spiffe_id: self.spiffe_id.as_ref().map(SpiffeId::to_string).unwrap_or_default(),
            series: self.series.to_string(),
            epoch: epoch.get(),
        };
        let doing = format!("get a key of epoch {epoch} of `{}`", self.series);
        let goes_on = self.every.is_some() || self.per_connection;
        loop {
            let answer = agent.psk_broker().issue(request.clone()).await;
            match answer {
                Err(status) if goes_on && status.code() == Code::Unavailable => {
                    console::remark(format_args!("{}; trying again", status.message()));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) if status.code() == Code::FailedPrecondition => {
                    let failure = agent.refused(&doing, &status);
                    return Err(failure.try_this("ask for a later epoch"));
                }
                answer => return agent.ask(&doing, async { answer }).await,
            }
        }
    }

    /// What no key outlives anyway is not asked for.
    fn ttl(&self) -> PskTtl {
        self.ttl.unwrap_or_else(|| {
            let interval = self.every.and_then(|every| u32::try_from(every.as_secs()).ok());
            let shorter = interval.and_then(|secs| PskTtl::try_from(secs).ok());
            shorter.map_or_else(PskTtl::default, |ttl| ttl.min(PskTtl::default()))
        })
    }
}

fn now() -> u64 {
    SystemClock.now().as_secs()
}

/// The epoch at the second `now`, and how long it lasts from there.
fn epoch_at(now: u64, every: Duration) -> (NonZeroU64, Duration) {
    let every = every.as_secs().max(1);
    let into = now.checked_rem(every).unwrap_or_default();
    let epoch = NonZeroU64::new(now.saturating_sub(into)).unwrap_or(NonZeroU64::MIN);
    (epoch, Duration::from_secs(every.saturating_sub(into)))
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval =
        humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let sound = Duration::from_secs(1) <= interval
        && interval <= MAX_INTERVAL
        && interval.subsec_nanos() == 0;
    if sound { Ok(interval) } else { Err("an interval is 1s to 1d, in whole seconds".to_owned()) }
}

impl std::fmt::Display for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.psk)?;
        write!(f, "series    {}\nepoch     {}", self.series, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_the_beginning_of_its_interval() {
        let every = Duration::from_secs(30);
        let at = |now| epoch_at(now, every);
        assert_eq!(at(1_800_000_000), (NonZeroU64::new(1_800_000_000).unwrap(), every));
        assert_eq!(at(1_800_000_029).0, at(1_800_000_000).0);
        assert_eq!(at(1_800_000_029).1, Duration::from_secs(1));
        assert!(at(1_800_000_000).0 < at(1_800_000_030).0);
        // Started again with another interval, and a clock that was never set.
        assert!(at(1_800_000_030).0 <= epoch_at(1_800_000_090, Duration::from_secs(45)).0);
        assert_eq!(at(0).0, NonZeroU64::MIN);
    }

    #[test]
    fn an_interval_is_some_whole_seconds() {
        assert_eq!(interval("1m 30s").unwrap(), Duration::from_secs(90));
        for bad in ["", "30", "0s", "500ms", "1500ms", "2days"] {
            interval(bad).unwrap_err();
        }
    }

    #[test]
    fn people_and_programs_see_series_and_epoch() {
        let issued =
            IssueResponse { identity: "p1.x".into(), key: vec![1; 2], ..Default::default() };
        let drawn = Drawn {
            psk: issued.into(),
            series: "train".parse().unwrap(),
            epoch: NonZeroU64::new(7).unwrap(),
        };
        assert!(drawn.to_string().ends_with("series    train\nepoch     7"), "{drawn}");
        let json = serde_json::to_string(&drawn).unwrap();
        assert!(json.starts_with(r#"{"identity":"p1.x","key":"0101","#), "{json}");
        assert!(json.ends_with(r#""not_after":0,"series":"train","epoch":7}"#), "{json}");
    }
}
