//! How far agents have taken in how identities stand.

use claviger_core::id::SpiffeId;
use metrics::histogram;
use tokio::time::Instant;

use super::{Subscribers, Subscription, Waiting};
use crate::metrics as names;
use crate::registry::Registry;
use crate::registry::entries::Key;

impl Registry {
    /// The newest change to how identities stand that `agent` has taken in; 0 if it is not connected.
    #[must_use]
    pub fn taken_in(&self, agent: &SpiffeId) -> u64 {
        self.read().subscribers.taken_in(Key::of_id(agent))
    }

    /// Every connected agent, which is to take in change number `version` to how identities stand.
    #[must_use]
    pub fn waiting_for_standings(&self, version: u64) -> Vec<Waiting> {
        self.read().subscribers.waiting_for_standings(version)
    }
}

impl Subscribers {
    fn taken_in(&self, agent: Key) -> u64 {
        self.connected.get(&agent).map_or(0, |subscriber| *subscriber.standings.borrow())
    }

    fn waiting_for_standings(&self, version: u64) -> Vec<Waiting> {
        let waiting = |subscriber: &super::Subscriber| Waiting {
            agent: subscriber.agent.clone(),
            sequence: version,
            acked: subscriber.standings.subscribe(),
        };
        self.connected.values().map(waiting).collect()
    }
}

impl Subscription {
    /// The agent is being told how identities stand, up to change number `version`.
    pub fn tell_standings(&mut self, version: u64) {
        self.told = Some((version, Instant::now()));
    }

    /// The agent has taken in how identities stand up to change number `version`. What it was not told,
    /// it cannot know.
    pub fn ack_standings(&mut self, version: u64) {
        let Some((told, at)) = self.told else { return };
        let version = version.min(told);
        let news = self.handset.standings.send_if_modified(|acked| {
            let later = *acked < version;
            *acked = version.max(*acked);
            later
        });
        if news && version == told {
            histogram!(names::STANDINGS_SECONDS).record(at.elapsed());
        }
    }
}
