//! Why a connection was not carried, for metrics and the log. Strangers learn nothing of it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claviger_core::time::Clock;
use claviger_runtime::place::ServerAddr;
use claviger_runtime::slots::Full;
use claviger_runtime::telemetry::Chain;
use tokio::time::Instant;
use tonic::Code;
use tracing::{debug, warn};

use crate::acceptor::AcceptError;
use crate::access::{Access, Turned};
use crate::backend::HandshakeError;
use crate::broker::IssueError;
use crate::callers::NotACaller;
use crate::client_hello::HelloError;
use crate::connector::ConnectError;
use crate::metrics;
use crate::mtls::MtlsError;
use crate::proxies::RequestError;
use crate::redeem::RedeemError;
use crate::route::Mode;
use crate::tunnels::{AnswerError, DialError};

/// Why a connection was not carried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// There are too many connections.
    #[error("there are {0} connections, and may be no more; see `limits.connections`")]
    Full(usize),
    /// There are too many handshakes.
    #[error("too many handshakes; see `limits.handshakes` and `limits.handshakes-per-address`")]
    Handshakes(#[from] Full),
    /// The program may not use the door.
    #[error(transparent)]
    Caller(#[from] NotACaller),
    /// The door does not lead where the program wants to go.
    #[error("`{0}` is no destination of this way out; see `outbound.destination`")]
    Destination(String),
    /// The program does not say where it wants to go.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Nobody is there, or not in time.
    #[error("cannot reach {at}")]
    Unreachable {
        /// Where.
        at: ServerAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// There is no way out.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// There is no way in.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The shim stops.
    #[error("the shim is stopping")]
    Stopping,
}

impl Refused {
    /// The value of a metric's label.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::Handshakes(full) => match full {
                Full::Overall(_) => "handshakes-full",
                Full::PerCaller(_) => "address-full",
            },
            Self::Caller(_) => "caller",
            Self::Destination(_) => "destination",
            Self::Request(_) => "request",
            Self::Unreachable { .. } => "unreachable",
            Self::Dial(error) => dial(error),
            Self::Answer(error) => answer(error),
            Self::Stopping => "stopping",
        }
    }
}

fn dial(error: &DialError) -> &'static str {
    match error {
        DialError::Key(IssueError::Broker(status)) if status.code() == Code::PermissionDenied => {
            "key-denied"
        }
        DialError::Key(IssueError::Broker(_) | IssueError::Malformed(_)) => "no-key",
        DialError::Psk(ConnectError::TooSlow) => "slow",
        DialError::Psk(ConnectError::Handshake(error)) => handshake(error),
        DialError::Psk(ConnectError::Denied(_)) => "denied",
        DialError::Mtls(error) => mtls(error),
        DialError::Profile(_) => "profile",
        DialError::NoSvids => "no-svid",
        DialError::Observed => "observed",
    }
}

fn answer(error: &AnswerError) -> &'static str {
    match error {
        AnswerError::Psk(error) => accept(error),
        AnswerError::Mtls(error) => mtls(error),
        AnswerError::Profile(_) => "profile",
        AnswerError::NoBroker => "no-broker",
        AnswerError::NoSvids => "no-svid",
        AnswerError::Observed => "observed",
    }
}

fn accept(error: &AcceptError) -> &'static str {
    match error {
        AcceptError::TooSlow(_) => "slow",
        AcceptError::Read(_) | AcceptError::Silent => "hung-up",
        AcceptError::Hello(HelloError::NotTls) => "not-tls",
        AcceptError::Hello(HelloError::TooLong) => "oversized",
        AcceptError::Hello(_) => "client-hello",
        AcceptError::Redeem(RedeemError::Refused) => "key-refused",
        AcceptError::Redeem(RedeemError::Unavailable(_) | RedeemError::Malformed(_)) => {
            "broker-unavailable"
        }
        AcceptError::Handshake(error) => handshake(error),
        AcceptError::Denied(_) => "denied",
        AcceptError::Unwanted(_) => "unwanted",
        AcceptError::NoRandomness => "no-randomness",
    }
}

fn mtls(error: &MtlsError) -> &'static str {
    match error {
        MtlsError::NoSvid(_) => "no-svid",
        MtlsError::TooSlow => "slow",
        MtlsError::Handshake(_)
        | MtlsError::NotTls13
        | MtlsError::Nameless
        | MtlsError::Leaf(_)
        | MtlsError::SetUp(_) => "handshake",
        MtlsError::WrongPeer { .. } => "wrong-peer",
        MtlsError::Unwanted(_) => "unwanted",
        MtlsError::Denied(_) => "denied",
    }
}

fn handshake(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Refused => "refused-by-peer",
        HandshakeError::Io(_) => "hung-up",
        HandshakeError::Tls(_) | HandshakeError::Unauthenticated => "handshake",
    }
}

/// Counts and logs what one route refuses. Every refusal is counted; in the log and in the access records there
/// are so many in a span of time, and how many there were besides, so that a stranger cannot fill the disk.
#[derive(Debug)]
pub(crate) struct Ledger {
    route: String,
    direction: &'static str,
    mode: Mode,
    access: Access,
    clock: Arc<dyn Clock>,
    spell: Mutex<Spell>,
}

/// What was logged of late.
#[derive(Debug)]
struct Spell {
    since: Instant,
    said: u32,
    withheld: u64,
}

/// How long a spell is, and how many lines there may be in one.
const SPELL: (Duration, u32) = (Duration::from_secs(10), 20);

impl Ledger {
    /// That of the route of this name, with its access records.
    pub(crate) fn new(
        (route, direction, mode): (String, &'static str, Mode),
        access: Access,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let spell = Spell { since: Instant::now(), said: 0, withheld: 0 };
        Self { route, direction, mode, access, clock, spell: Mutex::new(spell) }
    }

    /// Somebody at `remote` was refused.
    pub(crate) fn enter(&self, remote: &impl fmt::Display, why: &Refused) {
        let (route, direction, reason) = (&self.route, self.direction, why.label());
        metrics::refused(route, reason);
        match self.may_say() {
            Some(withheld) => {
                warn!(route, direction, %remote, reason, withheld, error = %Chain(why), "refused");
                let at = (route.as_str(), direction, self.mode.as_str());
                let (remote, why) = (remote.to_string(), (reason, Chain(why).to_string()));
                self.access.write_turned(&Turned::away(
                    at,
                    remote,
                    why,
                    withheld,
                    self.clock.now(),
                ));
            }
            None => debug!(route, direction, %remote, reason, error = %Chain(why), "refused"),
        }
    }

    /// Whether there is room in the log; then, how many were withheld since there was last.
    fn may_say(&self) -> Option<u64> {
        let (span, most) = SPELL;
        let mut spell = self.spell.lock().unwrap_or_else(PoisonError::into_inner);
        if span <= spell.since.elapsed() {
            spell.since = Instant::now();
            spell.said = 0;
        }
        if most <= spell.said {
            spell.withheld = spell.withheld.saturating_add(1);
            return None;
        }
        spell.said = spell.said.saturating_add(1);
        Some(std::mem::take(&mut spell.withheld))
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::time::SystemClock;
    use claviger_runtime::tasks::{Drain, Tasks};
    use serde_json::Value;

    use super::*;

    fn ledger(access: Access) -> Ledger {
        Ledger::new(("db".to_owned(), "inbound", Mode::Psk), access, Arc::new(SystemClock))
    }

    #[tokio::test]
    async fn who_is_refused_has_a_record_as_long_as_there_are_few() {
        let dir = tempfile::tempdir().unwrap();
        let (path, tasks) = (dir.path().join("access.jsonl"), Tasks::default());
        let ledger = ledger(Access::open(Some(path.clone()), &tasks));
        for _ in 0..=SPELL.1 {
            ledger.enter(&"192.0.2.7:1234", &AnswerError::from(AcceptError::Silent).into());
        }
        drop(ledger);
        tasks.stop();
        assert_eq!(tasks.drained(Duration::from_secs(10)).await, Drain::Clean);
        let lines = std::fs::read_to_string(path).unwrap();
        assert_eq!(lines.lines().count(), usize::try_from(SPELL.1).unwrap());
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        for (name, is) in [
            ("route", "db"),
            ("direction", "inbound"),
            ("mode", "psk"),
            ("remote", "192.0.2.7:1234"),
            ("refused", "hung-up"),
        ] {
            assert_eq!(first[name], is, "{name}");
        }
        assert_eq!(first["withheld"], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_has_so_many_lines_and_says_how_many_it_has_not() {
        let ledger = ledger(Access::Log);
        for _ in 0..SPELL.1 {
            assert_eq!(ledger.may_say(), Some(0));
        }
        assert_eq!(ledger.may_say(), None);
        assert_eq!(ledger.may_say(), None);
        tokio::time::advance(SPELL.0).await;
        assert_eq!(ledger.may_say(), Some(2));
        assert_eq!(ledger.may_say(), Some(0));
    }
}
