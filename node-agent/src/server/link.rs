//! Calls to whichever server works.
//!
//! Every call that an agent makes may be made again: a redemption has an attempt, whose answer is the same
//! whoever is asked; a key or a certificate whose answer was lost is used by nobody and ends.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claviger_runtime::place::ServerAddr;
use claviger_runtime::tls::Identity;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::debug;

use super::{Server, is_refusal};
use crate::backoff::{Backoff, jitter};

/// How often all servers are asked when one of them said to try again.
const ROUNDS: usize = 3;

/// The pauses between these.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Connections are kept to as many servers; there are fewer, unless a name leads to others again and again.
const MOST_CHANNELS: usize = 64;

/// A way to the servers as somebody. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    server: Server,
    identity: Option<Identity>,
    channels: Arc<Mutex<Vec<(ServerAddr, Channel)>>>,
}

impl Link {
    pub(super) fn new(server: Server, identity: Option<Identity>) -> Self {
        Self { server, identity, channels: Arc::default() }
    }

    /// The way to the server at `place`. It connects when it is first used, and again whenever it has to.
    pub(crate) fn channel(&self, place: &ServerAddr) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = channels.iter().find(|(at, _)| at == place) {
            return channel.clone();
        }
        if MOST_CHANNELS <= channels.len() {
            channels.clear();
        }
        let channel = self.server.channel(place, self.identity.as_ref());
        channels.push((place.clone(), channel.clone()));
        channel
    }

    /// Makes `call` at the server that answered last, and, if that does not answer, at the others, all within
    /// `deadline`.
    ///
    /// # Errors
    ///
    /// What the first server says that has decided; otherwise what the last one said, or what is in the way
    /// to it.
    pub(crate) async fn ask<A, F>(
        &self,
        deadline: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let asked = timeout(deadline, self.go_round(deadline, call)).await;
        asked.unwrap_or_else(|_elapsed| Err(late()))
    }

    async fn go_round<A, F>(
        &self,
        deadline: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let places = &self.server.places;
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        let mut number = 0_usize;
        loop {
            number = number.saturating_add(1);
            let (mut round, mut failed, mut answered) = (places.round(), late(), false);
            while let Some(place) = round.next().await {
                let calling = call(self.channel(&place));
                match timeout(places.patience(deadline), calling).await {
                    Ok(Ok(answer)) => {
                        places.choose(&place);
                        return Ok(answer);
                    }
                    // One that has too much to do does not send its callers to the others, which have, too.
                    Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
                        return Err(status);
                    }
                    Ok(Err(status)) if is_refusal(&status) => {
                        places.choose(&place);
                        return Err(status);
                    }
                    Ok(Err(status)) => {
                        debug!(server = %place, code = %status.code(), "no answer; asking another");
                        answered |= !is_broken(&status);
                        failed = status;
                    }
                    Err(_elapsed) => {
                        debug!(server = %place, "no answer in time; asking another");
                        failed = late();
                    }
                }
            }
            // What is one server to us may be several behind one address, and another connection may lead to
            // another of them. A lone one that says itself that it can't is not asked again: whoever waits is
            // told at once.
            let (most, once_more) = match places.is_one() {
                true => (2, is_broken(&failed)),
                false => (ROUNDS, answered),
            };
            if !once_more || most <= number {
                return Err(failed);
            }
            if answered {
                sleep(backoff.pause(jitter())).await;
            }
        }
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the server did not answer in time")
}

/// Whether the connection failed, and not the server.
fn is_broken(status: &Status) -> bool {
    status.source().is_some()
}
