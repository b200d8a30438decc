//! Many workloads of one agent.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::secret::Secret;
use claviger_proto::claviger::psk::v1::{IssueRequest, RedeemRequest};
use claviger_proto::pushback;
use claviger_tests::bench::{millis, percentile};
use claviger_tests::workload::Workload;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tonic::{Code, Status};

use crate::{CLIENT, SERVER};

/// Connections to the agent, among which the clients are divided.
const CONNECTIONS: usize = 32;

/// The longest that a refusal may take.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How soon who was refused comes again, if nobody says when.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Clients {
    workloads: Vec<Workload>,
    attempts: Arc<AtomicU64>,
}

/// What became of the work in a span of time.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    span: Duration,
    /// How long each unit took that was done, however often it was tried.
    done: Vec<Duration>,
    issuing: Refusals,
    redeeming: Refusals,
    redeemed: usize,
}

/// What was not done.
#[derive(Debug, Default)]
struct Refusals {
    /// How long each took that was refused with a word to come back.
    refused: Vec<Duration>,
    /// Everything else, which nobody should see.
    others: Vec<Status>,
}

impl Refusals {
    fn enter(&mut self, status: Status, took: Duration) {
        match status.code() {
            Code::ResourceExhausted | Code::Unavailable => self.refused.push(took),
            _ => self.others.push(status),
        }
    }
}

/// One unit of work: what went wrong, and when it did.
enum Ended {
    Done(Duration),
    NotIssued(Status, Duration),
    NotRedeemed(Status, Duration),
}

impl Ended {
    /// How long to wait before the next try.
    fn pause(&self) -> Duration {
        match self {
            Self::Done(_) => Duration::ZERO,
            Self::NotIssued(status, _) | Self::NotRedeemed(status, _) => {
                pushback::of(status).unwrap_or(AGAIN)
            }
        }
    }
}

impl Clients {
    pub(crate) fn of(socket: &Path) -> Self {
        let workloads = (0..CONNECTIONS).map(|_| Workload::at(socket)).collect();
        Self { workloads, attempts: Arc::default() }
    }

    /// `clients` at a time, each of whom begins anew as soon as it has an answer, and waits after a refusal
    /// as long as it is told to.
    pub(crate) async fn as_fast_as_possible(&self, clients: usize, span: Duration) -> Outcomes {
        let began = Instant::now();
        let mut working = JoinSet::new();
        for (number, workload) in (0..clients).zip(self.workloads.iter().cycle()) {
            let (workload, attempts) = (workload.clone(), Arc::clone(&self.attempts));
            working.spawn(async move {
                // They do not all come in the same instant.
                sleep(Duration::from_micros(u64::try_from(number).unwrap() * 100)).await;
                let mut outcomes = Outcomes::default();
                while began.elapsed() < span {
                    let ended = work(&workload, &attempts).await;
                    let pause = ended.pause();
                    outcomes.enter(ended);
                    sleep(pause).await;
                }
                outcomes
            });
        }
        let mut all = Outcomes::default();
        while let Some(outcomes) = working.join_next().await {
            all.join(outcomes.unwrap());
        }
        Outcomes { span: began.elapsed(), ..all }
    }

    /// So many units a second, however long each takes. Who is refused comes again for as long as their
    /// `patience` lasts.
    pub(crate) async fn at_rate(
        &self,
        per_second: f64,
        span: Duration,
        patience: Duration,
    ) -> Outcomes {
        let began = Instant::now();
        let (mut working, mut all) = (JoinSet::new(), Outcomes::default());
        let mut tick = interval(Duration::from_millis(10));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut due, mut workloads) = (0.0, self.workloads.iter().cycle());
        while began.elapsed() < span {
            tick.tick().await;
            due += per_second / 100.0;
            while 1.0 <= due {
                due -= 1.0;
                let workload = workloads.next().unwrap().clone();
                let attempts = Arc::clone(&self.attempts);
                working.spawn(async move {
                    let begun = Instant::now();
                    loop {
                        let ended = work(&workload, &attempts).await;
                        if let Ended::Done(_) = ended {
                            return Ended::Done(begun.elapsed());
                        }
                        if patience <= begun.elapsed() {
                            return ended;
                        }
                        sleep(ended.pause()).await;
                    }
                });
            }
            while let Some(ended) = working.try_join_next() {
                all.enter(ended.unwrap());
            }
        }
        while let Some(ended) = working.join_next().await {
            all.enter(ended.unwrap());
        }
        Outcomes { span: began.elapsed(), ..all }
    }
}

async fn work(workload: &Workload, attempts: &AtomicU64) -> Ended {
    let began = Instant::now();
    let request = IssueRequest {
        peer: SERVER.to_owned(),
        purpose: "load".to_owned(),
        spiffe_id: CLIENT.to_owned(),
        ..IssueRequest::default()
    };
    let issued = match workload.broker().issue(Workload::request(request)).await {
        Ok(issued) => issued.into_inner(),
        Err(status) => return Ended::NotIssued(status, began.elapsed()),
    };
    let psk = Psk(Secret::copy_from(&issued.key).unwrap());
    let transcript = [7; 32];
    let attempt = attempts.fetch_add(1, Ordering::Relaxed);
    let offer = RedeemRequest {
        attempt_id: u128::from(attempt).to_be_bytes().to_vec(),
        identity: issued.identity,
        transcript_hash: transcript.to_vec(),
        binder: binder::compute(&psk, &transcript).to_vec(),
        spiffe_id: SERVER.to_owned(),
    };
    let halfway = Instant::now();
    match workload.broker().redeem(Workload::request(offer)).await {
        Ok(_redeemed) => Ended::Done(began.elapsed()),
        Err(status) => Ended::NotRedeemed(status, halfway.elapsed()),
    }
}

impl Outcomes {
    fn enter(&mut self, ended: Ended) {
        match ended {
            Ended::Done(took) => {
                self.redeemed += 1;
                self.done.push(took);
            }
            Ended::NotIssued(status, took) => self.issuing.enter(status, took),
            Ended::NotRedeemed(status, took) => self.redeeming.enter(status, took),
        }
    }

    fn join(&mut self, other: Self) {
        self.done.extend(other.done);
        self.redeemed += other.redeemed;
        for (all, more) in
            [(&mut self.issuing, other.issuing), (&mut self.redeeming, other.redeeming)]
        {
            all.refused.extend(more.refused);
            all.others.extend(more.others);
        }
    }

    /// Units that were done.
    pub(crate) fn done(&self) -> u64 {
        u64::try_from(self.done.len()).unwrap()
    }

    /// The same in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.done.len() as f64 / self.span.as_secs_f64()
    }

    pub(crate) fn refused(&self) -> usize {
        self.issuing.refused.len() + self.redeeming.refused.len()
    }

    pub(crate) fn failed(&self) -> usize {
        self.refused() + self.issuing.others.len() + self.redeeming.others.len()
    }

    pub(crate) fn all_well(&self) -> bool {
        self.failed() == 0 && !self.done.is_empty()
    }

    pub(crate) fn only_refused(&self) -> bool {
        self.issuing.others.is_empty() && self.redeeming.others.is_empty()
    }

    pub(crate) fn refusals_are_fast(&self) -> bool {
        let all = [&self.issuing.refused[..], &self.redeeming.refused].concat();
        percentile_of(all, 99).is_none_or(|p99| p99 <= AT_ONCE)
    }

    /// Of the redemptions a smaller part is refused than of the calls for keys.
    pub(crate) fn redemptions_go_first(&self) -> bool {
        let begun = self.redeemed + self.redeeming.refused.len();
        let asked = begun + self.issuing.refused.len();
        // a/b < c/d, in whole numbers.
        self.redeeming.refused.len() * asked < self.issuing.refused.len() * begun
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} done, {:.0} a second", self.done.len(), self.per_second())?;
        for (name, percent) in [("p50", 50), ("p99", 99)] {
            if let Some(took) = percentile_of(self.done.clone(), percent) {
                write!(f, ", {name} {:.1} ms", millis(took))?;
            }
        }
        let [issuing, redeeming] = [&self.issuing, &self.redeeming];
        for (name, refusals) in [("issuing", issuing), ("redeeming", redeeming)] {
            if let Some(p99) = percentile_of(refusals.refused.clone(), 99) {
                let (count, p99) = (refusals.refused.len(), millis(p99));
                write!(f, "; {name} refused {count} times, p99 {p99:.0} ms")?;
            }
            if let Some(status) = refusals.others.first() {
                write!(f, "; {name} failed {} times, first {status}", refusals.others.len())?;
            }
        }
        Ok(())
    }
}

/// What `percent` of all do not exceed.
fn percentile_of(mut all: Vec<Duration>, percent: usize) -> Option<Duration> {
    all.sort_unstable();
    (!all.is_empty()).then(|| percentile(&all, percent))
}
