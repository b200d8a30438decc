//! Where servers are, and which of them works.
//!
//! They all do the same: what one knows, all know. Whoever asks begins with the one that answered last, and
//! goes on to the next when it does not. The first of all is any of them, so that a fleet of agents does not
//! meet at one server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_runtime::place::{ServerAddr, ServerAddrs};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::backoff::jitter;

/// How long it may take to find out what addresses a name has.
const LOOK_UP: Duration = Duration::from_secs(2);

/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 16;

/// Into how many parts the time for an answer is divided, at most, so that several servers can be asked.
const PARTS: usize = 3;

/// Where the servers are. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    named: ServerAddrs,
    /// What each that is named led to when somebody last looked.
    known: Mutex<Vec<Vec<ServerAddr>>>,
    /// The one that answered last.
    chosen: watch::Sender<Option<ServerAddr>>,
    /// Where the first round begins.
    first: usize,
}

impl Places {
    /// Those that are named.
    pub(crate) fn new(named: ServerAddrs) -> Self {
        let known = Mutex::new(named.iter().map(|name| vec![name.clone()]).collect());
        let (chosen, first) = (watch::Sender::default(), jitter().into());
        Self(Arc::new(Inner { named, known, chosen, first }))
    }

    /// As they are named.
    pub(crate) fn named(&self) -> &ServerAddrs {
        &self.0.named
    }

    /// One way round all of them, beginning with the one that answered last.
    pub(crate) fn round(&self) -> Round {
        Round { places: self.clone(), tried: Vec::new() }
    }

    /// The server there has answered.
    pub(crate) fn choose(&self, place: &ServerAddr) {
        let has_moved = self.0.chosen.send_if_modified(|chosen| {
            let is_another = chosen.as_ref() != Some(place);
            if is_another {
                *chosen = Some(place.clone());
            }
            is_another
        });
        if has_moved {
            info!(server = %place, "talking to");
        }
    }

    /// Waits until another than the server at `place` is the one that answered last.
    pub(crate) async fn leave(&self, place: &ServerAddr) {
        let mut chosen = self.0.chosen.subscribe();
        let another = chosen.wait_for(|now| now.as_ref().is_some_and(|now| now != place));
        if another.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether there is only one, as far as is known.
    pub(crate) fn is_one(&self) -> bool {
        self.count() == 1
    }

    /// How long to wait for one of them where the answer is wanted within `deadline`: so long that there is
    /// time to ask another.
    pub(crate) fn patience(&self, deadline: Duration) -> Duration {
        let parts = u32::try_from(self.count().clamp(1, PARTS)).unwrap_or(1);
        deadline / parts
    }

    /// All of them, as names lead to them now. A name that leads nowhere leads to where it did.
    pub(crate) async fn look_up(&self) -> Vec<ServerAddr> {
        let looking = self.0.named.iter().map(|name| timeout(LOOK_UP, name.each()));
        let found = join_all(looking).await;
        let mut known = self.known();
        for ((name, known), found) in self.0.named.iter().zip(&mut *known).zip(found) {
            match found {
                Ok(Ok(mut each)) => {
                    each.truncate(MOST_ADDRESSES);
                    *known = each;
                }
                Ok(Err(error)) => debug!(server = %name, %error, "the name leads nowhere"),
                Err(_elapsed) => debug!(server = %name, "no word about the name"),
            }
        }
        known.iter().flatten().cloned().collect()
    }

    fn count(&self) -> usize {
        self.known().iter().map(Vec::len).sum()
    }

    fn known(&self) -> MutexGuard<'_, Vec<Vec<ServerAddr>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One way round all servers, each of them once.
#[derive(Debug)]
pub(crate) struct Round {
    places: Places,
    tried: Vec<ServerAddr>,
}

impl Round {
    /// The next one; `None` once there is no other.
    pub(crate) async fn next(&mut self) -> Option<ServerAddr> {
        let chosen = match self.tried.is_empty() {
            true => self.places.0.chosen.borrow().clone(),
            false => None,
        };
        let next = match chosen {
            Some(chosen) => Some(chosen),
            None => self.after(&self.places.look_up().await),
        };
        self.tried.extend(next.clone());
        next
    }

    /// The one of `all` that follows the last one.
    fn after(&self, all: &[ServerAddr]) -> Option<ServerAddr> {
        let last = self.tried.last().and_then(|last| all.iter().position(|place| place == last));
        let begin = match last {
            Some(last) => last.saturating_add(1),
            None => self.places.0.first.checked_rem(all.len()).unwrap_or(0),
        };
        let (before, behind) = all.split_at_checked(begin).unwrap_or((all, &[]));
        behind.iter().chain(before).find(|place| !self.tried.contains(place)).cloned()
    }

    /// All have been tried but the last one, which may be asked again when it is its turn.
    pub(crate) fn begin_anew(&mut self) {
        self.tried.drain(..self.tried.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Places {
        let named = toml_list(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        Places::new(named)
    }

    fn toml_list(addrs: &[&str]) -> ServerAddrs {
        serde_json::from_value(addrs.to_vec().into()).unwrap()
    }

    async fn rest_of(mut round: Round) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(place) = round.next().await {
            all.push(place.to_string());
        }
        all
    }

    #[tokio::test]
    async fn a_round_meets_each_server_once_and_begins_with_the_one_that_answered_last() {
        let places = three();
        let mut first = rest_of(places.round()).await;
        first.sort();
        assert_eq!(first, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        places.choose(&"127.0.0.1:2".parse().unwrap());
        let round = rest_of(places.round()).await;
        assert_eq!(round, ["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1"]);
    }

    #[tokio::test]
    async fn a_round_begun_anew_goes_on_with_the_others_and_comes_not_back() {
        let places = three();
        places.choose(&"127.0.0.1:3".parse().unwrap());
        let mut round = places.round();
        for _two in 0..2 {
            round.next().await.unwrap();
        }
        round.begin_anew();
        assert_eq!(rest_of(round).await, ["127.0.0.1:2", "127.0.0.1:3"]);
    }

    #[tokio::test]
    async fn fleets_begin_at_any_of_them() {
        let mut begun = std::collections::BTreeSet::new();
        for _agent in 0..200 {
            begun.insert(three().round().next().await.unwrap().to_string());
        }
        assert_eq!(begun.len(), 3, "{begun:?}");
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_tried_as_it_is() {
        let places = Places::new(toml_list(&["nobody.invalid:1"]));
        assert!(places.is_one());
        assert_eq!(rest_of(places.round()).await, ["nobody.invalid:1"]);
    }

    #[tokio::test]
    async fn time_is_left_to_ask_another() {
        let deadline = Duration::from_secs(6);
        assert_eq!(three().patience(deadline), Duration::from_secs(2));
        assert_eq!(Places::new(toml_list(&["127.0.0.1:1"])).patience(deadline), deadline);
    }
}
