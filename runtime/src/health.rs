//! What works and what does not.
//!
//! Each part of a process reports its own state under its own name; the process is ready when all
//! of its parts are. [`Endpoint`] answers the questions of supervisors and of Prometheus.

mod endpoint;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tokio::sync::watch;

pub use endpoint::{BindEndpointError, Endpoint};

/// The health of a process. Clones see and change the same value.
#[derive(Clone, Debug, Default)]
pub struct Health(watch::Sender<Parts>);

type Parts = BTreeMap<&'static str, State>;

impl Health {
    /// A new part of the process, which is starting. Parts are named in the program text, so there
    /// are few; a name that is taken names the same part.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part { name, health: self.clone() };
        part.set(State::Starting);
        part
    }

    /// The state of every part, now.
    #[must_use]
    pub fn report(&self) -> Report {
        Report(self.0.borrow().clone())
    }

    /// The state of every part, as soon as it is another than `last`.
    pub async fn changed_from(&self, last: &Report) -> Report {
        let mut reports = self.0.subscribe();
        match reports.wait_for(|parts| *parts != last.0).await {
            Ok(parts) => Report(parts.clone()),
            // All senders are gone; but `self` is one.
            Err(_closed) => self.report(),
        }
    }

    /// Waits until every part can do its work.
    pub async fn ready(&self) {
        let mut reports = self.0.subscribe();
        // It fails only when all senders are gone, and `self` is one.
        drop(reports.wait_for(is_ready).await);
    }
}

/// One part of a process, such as `store`.
#[derive(Clone, Debug)]
pub struct Part {
    name: &'static str,
    health: Health,
}

impl Part {
    /// Says how this part is doing.
    pub fn set(&self, state: State) {
        self.health.0.send_if_modified(|parts| {
            let before = parts.insert(self.name, state);
            before.as_ref() != parts.get(self.name)
        });
    }
}

/// How a part of a process is doing. Reasons are written for operators and hold no secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It can't do its work yet.
    Starting,
    /// It does its work.
    Ready,
    /// It still does its work, but an operator should know why not for long.
    Degraded(String),
    /// It can't do its work.
    Failed(String),
}

impl State {
    /// Whether the part does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Ready | Self::Degraded(_) => true,
            Self::Starting | Self::Failed(_) => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::Degraded(reason) => write!(f, "degraded: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// The state of every part of a process at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report(Parts);

impl Report {
    /// Whether every part does its work. A process that has not named its parts is not ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        is_ready(&self.0)
    }

    /// The parts by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &State)> {
        self.0.iter().map(|(name, state)| (*name, state))
    }

    /// `{"ready":false,"parts":{"store":"starting"}}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        /// A type, so that the order of its keys does not hang on a feature of `serde_json`.
        #[derive(Serialize)]
        struct Answer<'a> {
            ready: bool,
            parts: BTreeMap<&'a str, String>,
        }

        let parts = self.parts().map(|(name, state)| (name, state.to_string())).collect();
        #[expect(clippy::expect_used, reason = "keys are strings, and nothing in it can fail")]
        serde_json::to_string(&Answer { ready: self.is_ready(), parts }).expect("JSON")
    }
}

fn is_ready(parts: &Parts) -> bool {
    !parts.is_empty() && parts.values().all(State::is_ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_not_ready() {
        assert!(!Health::default().report().is_ready());
    }

    #[test]
    fn every_part_must_be_ready() {
        let health = Health::default();
        let (store, server) = (health.part("store"), health.part("server"));
        store.set(State::Ready);
        assert!(!health.report().is_ready());
        server.set(State::Degraded("the server is away".to_owned()));
        assert!(health.report().is_ready());
        store.set(State::Failed("the disk is full".to_owned()));
        assert!(!health.report().is_ready());
        assert_eq!(
            health.report().to_json(),
            r#"{"ready":false,"parts":{"server":"degraded: the server is away","store":"failed: the disk is full"}}"#
        );
    }

    #[tokio::test]
    async fn whoever_watches_sees_the_next_state() {
        let health = Health::default();
        let store = health.part("store");
        let starting = health.report();
        let (changed, ()) =
            tokio::join!(health.changed_from(&starting), async { store.set(State::Ready) });
        assert!(changed.is_ready());
    }

    #[tokio::test]
    async fn whoever_waits_is_told() {
        let health = Health::default();
        let store = health.part("store");
        tokio::join!(health.ready(), async { store.set(State::Ready) });
        assert!(health.report().is_ready());
    }
}
