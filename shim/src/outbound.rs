//! The ways out: a program of this machine connects, and gets to one place, or to none.

use std::sync::Arc;

use claviger_runtime::tasks::Tasks;
use tokio::time::Instant;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::access::Opened;
use crate::callers::{Caller, NotACaller};
use crate::desk::{Desk, Far, dial};
use crate::io::Replay;
use crate::listener::{Doorway, Near, local_peer};
use crate::metrics;
use crate::proxies::{Answer, Protocol, RequestError, read_request};
use crate::refused::{Ledger, Refused};
use crate::relay::End as _;
use crate::route::{Destination, Destinations, Door, Mode, Outbound};

/// A way out.
#[derive(Debug)]
pub(crate) struct WayOut {
    route: Outbound,
    desk: Desk,
    ledger: Ledger,
}

/// A way that is open.
struct Open {
    far: Far,
    /// What the program said already to whoever is there.
    early: Vec<u8>,
    opened: Opened,
}

impl WayOut {
    pub(crate) fn new(route: Outbound, desk: Desk) -> Self {
        let of = (route.name.clone(), "outbound", route.mode);
        let ledger = Ledger::new(of, desk.access.clone(), Arc::clone(&desk.clock));
        Self { route, desk, ledger }
    }

    /// Takes connections until `stop` fires.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut doorway: Doorway,
        tasks: Tasks,
        stop: CancellationToken,
    ) {
        while let Some(near) = stop.run_until_cancelled(doorway.accept()).await {
            let slot = match self.desk.slot() {
                Ok(slot) => slot,
                Err(full) => {
                    near.reset();
                    self.ledger.enter(&self.route.door, &full);
                    continue;
                }
            };
            let way = Arc::clone(&self);
            tasks.spawn("way out", |stop| async move {
                way.serve(near, stop).await;
                drop(slot);
                Ok(())
            });
        }
    }

    /// Takes a program where it wants to go, if it may.
    async fn serve(&self, mut near: Near, stop: CancellationToken) {
        // What a handshake needs is not kept for as long as the connection lasts.
        let opening = Box::pin(self.open(&mut near));
        let opened = stop.run_until_cancelled(opening).await.unwrap_or(Err(Refused::Stopping));
        match opened {
            Ok(Open { far, early, opened }) => {
                let Outbound { name, lifetime, .. } = &self.route;
                let near = Replay::new(early, near);
                self.desk.carry((near, far), name, *lifetime, opened, stop).await;
            }
            Err(refused) => {
                // A proxy's protocol says itself that there is no connection.
                if protocol(&self.route.door).is_none() {
                    near.reset();
                }
                self.ledger.enter(&self.route.door, &refused);
            }
        }
    }

    async fn open(&self, near: &mut Near) -> Result<Open, Refused> {
        let local = local_peer(near).map_err(NotACaller::Kernel)?;
        let caller = self.desk.callers.admit(&self.route.callers, &local).await?;
        match (&self.route.destinations, protocol(&self.route.door)) {
            (Destinations::One(to), _) => self.reach(to, caller).await,
            (Destinations::Named(places), Some(protocol)) => {
                let request = read_request(protocol, near).await?;
                let reached = match places.get(&request.to) {
                    Some(to) => self.reach(to, caller).await,
                    None => Err(Refused::Destination(request.to.clone())),
                };
                let answer = match &reached {
                    Ok(_) => Answer::Open,
                    Err(Refused::Unreachable { .. }) => Answer::Unreachable,
                    Err(_) => Answer::NotPermitted,
                };
                request.answer(near, answer).await.map_err(RequestError::Io)?;
                reached.map(|open| Open { early: request.early, ..open })
            }
            // Nobody can say where to.
            (Destinations::Named(_), None) => Err(Refused::Destination(String::new())),
        }
    }

    /// Gets to whoever has to be there.
    async fn reach(&self, to: &Destination, caller: Caller) -> Result<Open, Refused> {
        let begun = Instant::now();
        let io = dial(&to.at).await?;
        let mut opened = Opened::outbound(&self.route, caller, to.at.to_string());
        let far = match self.route.mode {
            Mode::Psk | Mode::Mtls => {
                let tunnel = self.desk.tunnels.dial(io, &self.route, to).await?;
                opened.through(&tunnel);
                Either::Left(tunnel)
            }
            Mode::Observe => {
                opened.observed(self.desk.said_of(&to.peer, &self.route.purpose).as_ref());
                Either::Right(io)
            }
        };
        metrics::connected(&self.route.name, begun);
        Ok(Open { far, early: Vec::new(), opened })
    }
}

/// What programs speak at a door before they speak to whoever they want to reach; nothing where there
/// is one destination.
const fn protocol(door: &Door) -> Option<Protocol> {
    match door {
        Door::Tcp(_) | Door::Unix(_) => None,
        Door::Socks5(_) => Some(Protocol::Socks5),
        Door::Connect(_) => Some(Protocol::Connect),
    }
}
