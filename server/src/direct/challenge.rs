//! `POST /v1/challenge`: a nonce for evidence that carries one.
//!
//! Handing one out costs no memory, so nobody can use it up: a challenge says by itself when it was
//! made, under a tag that only this server can make. When it is used, the ledger remembers it, as it
//! remembers everything that works once; so it works once whichever door it comes through, and also
//! after a restart. The tag's key goes with the epoch of the ledger: where the ledger may have
//! forgotten something, no challenge of before is in force.
//!
//! ```text
//! challenge = u64(when it was made) ‖ 8 random bytes ‖ the first 16 bytes of a tag over both
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_attestors::{ConsumeError, ConsumeOnce as _, Nonce, Once};
use claviger_core::time::UnixTime;
use http::Response;
use http_body_util::Full;
use serde::Serialize;
use tokio::time::Instant;

use super::Inner;
use super::call::Call;
use super::fault::Fault;
use super::refusal::Refusal;
use super::{reply, wire};
use crate::ledger::Ledger;

/// How long a challenge waits to be used.
const LIFE: Duration = Duration::from_secs(60);

/// What the ledger calls it.
const KIND: &str = "challenge";

/// What is given.
#[derive(Serialize)]
struct Answer {
    /// 32 bytes in base64.
    challenge: String,
    /// Seconds since 1970.
    expires_at: u64,
}

/// Answers with a new challenge.
pub(super) fn issue(direct: &Inner, call: &Call) -> Result<Response<Full<Bytes>>, Refusal> {
    let wire::Challenge {} = call.json()?;
    direct.pace.take(call.caller)?;
    let ledger = &direct.shared.storage.ledger;
    let made = ledger.now();
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_unspecified| Refusal::Random)?;
    let challenge = Challenge { made, random }.seal(ledger);
    let challenge = STANDARD.encode(challenge);
    reply::json(&Answer { challenge, expires_at: made.after(LIFE).as_secs() }, 0)
}

/// Uses up the challenge that is written as `text`: durably, whatever becomes of the evidence.
pub(super) async fn redeem(ledger: &Ledger, text: &str) -> Result<Nonce, Refusal> {
    let malformed =
        || Refusal::malformed("evidence.challenge", &"is not 32 bytes in base64 with padding");
    let bytes = STANDARD.decode(text).map_err(|_no_base64| malformed())?;
    let nonce = Nonce::try_from(bytes).map_err(|_length| malformed())?;
    let challenge = Challenge::open(&nonce, ledger).ok_or(Refusal::Challenge)?;
    let end = challenge.made.after(LIFE);
    let now = ledger.now();
    if now < challenge.made || end <= now {
        return Err(Refusal::Challenge);
    }
    let id = hex::encode(nonce);
    let once = Once {
        kind: KIND,
        issuer: "",
        id: &id,
        issued_at: challenge.made,
        expires_at: end,
        // Nobody may repeat it, not even for the same key.
        key: None,
    };
    match ledger.consume(once).await {
        Ok(()) => Ok(nonce),
        Err(ConsumeError::Unavailable(source)) => Err(Refusal::Ledger(source)),
        Err(ConsumeError::Replayed | ConsumeError::TooOld | ConsumeError::TooLong) => {
            Err(Refusal::Challenge)
        }
    }
}

struct Challenge {
    made: UnixTime,
    random: [u8; 8],
}

impl Challenge {
    fn seal(&self, ledger: &Ledger) -> Nonce {
        let mut nonce = Nonce::default();
        let (head, tag) = nonce.split_at_mut(16);
        let (made, random) = head.split_at_mut(8);
        made.copy_from_slice(&self.made.as_secs().to_be_bytes());
        random.copy_from_slice(&self.random);
        tag.copy_from_slice(&ledger.epochs().current().keys.challenge_tag(head));
        nonce
    }

    /// What is in a challenge of this server's and of the epoch in force; none if it is no such.
    fn open(nonce: &Nonce, ledger: &Ledger) -> Option<Self> {
        let (head, tag) = nonce.split_at_checked(16)?;
        let (made, random) = head.split_at_checked(8)?;
        verify_slices_are_equal(&ledger.epochs().current().keys.challenge_tag(head), tag).ok()?;
        let made = UnixTime::from_secs(u64::from_be_bytes(made.try_into().ok()?));
        Some(Self { made, random: random.try_into().ok()? })
    }
}

/// Challenges handed out in a second, to all and to any one address. What is used of them stays in the
/// ledger for up to 75 s, so they are never more than a thirteenth of what it remembers.
const PER_SECOND: usize = 1_000;
const PER_SECOND_AND_IP: usize = 100;

/// How many challenges have been handed out in the second that runs.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Second>);

#[derive(Debug)]
struct Second {
    began: Instant,
    total: usize,
    /// At most [`PER_SECOND`] of them.
    by_ip: HashMap<IpAddr, usize>,
}

impl Pace {
    pub(super) fn new() -> Self {
        let second = Second { began: Instant::now(), total: 0, by_ip: HashMap::new() };
        Self(Mutex::new(second))
    }

    /// Counts one more for `caller`, which is nobody in particular behind a proxy.
    fn take(&self, caller: Option<IpAddr>) -> Result<(), Fault> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Duration::from_secs(1) <= second.began.elapsed() {
            *second = Second { began: Instant::now(), total: 0, by_ip: HashMap::new() };
        }
        if PER_SECOND <= second.total {
            return Err(Fault::Pace);
        }
        if let Some(ip) = caller {
            let own = second.by_ip.entry(ip).or_default();
            if PER_SECOND_AND_IP <= *own {
                return Err(Fault::Pace);
            }
            *own = own.saturating_add(1);
        }
        second.total = second.total.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_take_the_challenges_of_the_others() {
        let pace = Pace::new();
        let ip = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        (0..PER_SECOND_AND_IP).for_each(|_| pace.take(ip(1)).unwrap());
        assert!(matches!(pace.take(ip(1)).unwrap_err(), Fault::Pace));
        pace.take(ip(2)).unwrap();
        (PER_SECOND_AND_IP + 1..PER_SECOND).for_each(|_| pace.take(None).unwrap());
        assert!(matches!(pace.take(ip(3)).unwrap_err(), Fault::Pace));
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.take(ip(1)).unwrap();
    }
}
