//! Which X.509-SVIDs were issued and have not ended by themselves, so that all that an identity has can be
//! withdrawn, also after a restart.
//!
//! It is written down together with the record in the audit log, before anything is signed. What has ended
//! is dropped by the ledger's sweeper.

use std::collections::HashSet;
use std::ops::Bound;

use claviger_core::grant::{IssueX509, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::svid::SerialNumber;
use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::{Order, Space, Store, StoreError, Write, json, parse};

/// How many are looked at at a time.
const PAGE: usize = 4_096;

/// One that was issued.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Issued {
    /// Its serial number.
    pub(crate) serial: SerialNumber,
    /// When it ends, at the latest.
    pub(crate) expires_at: UnixTime,
    /// Whose it is.
    pub(crate) subject: SpiffeId,
}

/// What is stored of it beside its key.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    subject: SpiffeId,
    /// The agent that has it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<SpiffeId>,
}

/// Notes that what `act` says is about to be signed at `now`, or soon.
pub(crate) fn note(act: &IssueX509, now: UnixTime) -> Write {
    let agent = match &act.requester {
        Requester::Agent(agent) => Some(agent.clone()),
        Requester::Operator { .. }
        | Requester::Admin(_)
        | Requester::Peer(_)
        | Requester::Server
        | Requester::Evidence { .. } => None,
    };
    let expires_at = now.after(act.contents.ttl.duration());
    let stored = Stored { subject: act.contents.subject.clone(), agent };
    Write::put(Space::Issued, key(expires_at, act.serial), json(&stored))
}

/// Those that have not ended at `now`, and that one of `ids` has: it is in them, or they were given to the
/// agent that it is.
pub(crate) async fn held_by(
    store: &dyn Store,
    ids: &HashSet<SpiffeId>,
    now: UnixTime,
) -> Result<Vec<Issued>, StoreError> {
    let mut held = Vec::new();
    let mut from = Bound::Included(first_alive(now).to_vec());
    loop {
        let page =
            store.scan(Space::Issued, from, Bound::Unbounded, Order::Ascending, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(held) };
        from = Bound::Excluded(last.clone());
        for (key, value) in page {
            let Stored { subject, agent } = parse(&value)?;
            let has = ids.contains(&subject) || agent.is_some_and(|agent| ids.contains(&agent));
            if let Some((expires_at, serial)) = read(&key).filter(|_| has) {
                held.push(Issued { serial, expires_at, subject });
            }
        }
    }
}

/// The least key of what has not ended at `now`.
pub(crate) fn first_alive(now: UnixTime) -> [u8; 8] {
    now.as_secs().to_be_bytes()
}

fn key(expires_at: UnixTime, serial: SerialNumber) -> Vec<u8> {
    [first_alive(expires_at).as_slice(), serial.as_bytes()].concat()
}

fn read(key: &[u8]) -> Option<(UnixTime, SerialNumber)> {
    let (ends, serial) = key.split_first_chunk::<8>()?;
    let serial = SerialNumber::from_random(serial.try_into().ok()?);
    Some((UnixTime::from_secs(u64::from_be_bytes(*ends)), serial))
}
