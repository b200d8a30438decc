//! The ways in: a stranger connects, says who they are and proves it, and gets to a program.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use claviger_runtime::place::Dialed;
use claviger_runtime::slots::{Slot, Slots};
use claviger_runtime::tasks::Tasks;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::access::Opened;
use crate::desk::{Desk, Far, dial};
use crate::listener::{Port, reset};
use crate::metrics;
use crate::proxy_header::Talk;
use crate::refused::{Ledger, Refused};
use crate::route::{Inbound, Mode, ProxyHeader};

/// A way in.
#[derive(Debug)]
pub(crate) struct WayIn {
    route: Inbound,
    desk: Desk,
    /// Room for handshakes, which all ways in share.
    handshakes: Slots<IpAddr>,
    ledger: Ledger,
}

impl WayIn {
    pub(crate) fn new(route: Inbound, desk: Desk, handshakes: Slots<IpAddr>) -> Self {
        let of = (route.name.clone(), "inbound", route.mode);
        let ledger = Ledger::new(of, desk.access.clone(), Arc::clone(&desk.clock));
        Self { route, desk, handshakes, ledger }
    }

    /// Takes connections until `stop` fires.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut port: Port,
        tasks: Tasks,
        stop: CancellationToken,
    ) {
        while let Some((far, from)) = stop.run_until_cancelled(port.accept()).await {
            let room = self.desk.slot().and_then(|slot| {
                let handshake = self.handshakes.take(from.ip().to_canonical())?;
                Ok((slot, handshake))
            });
            let (slot, handshake) = match room {
                Ok(room) => room,
                Err(full) => {
                    reset(&far);
                    self.ledger.enter(&from, &full);
                    continue;
                }
            };
            let way = Arc::clone(&self);
            tasks.spawn("way in", |stop| async move {
                way.serve(far, from, handshake, stop).await;
                drop(slot);
                Ok(())
            });
        }
    }

    /// Takes whoever calls to the program, if they may.
    async fn serve(
        &self,
        far: TcpStream,
        from: SocketAddr,
        handshake: Slot<IpAddr>,
        stop: CancellationToken,
    ) {
        // What a handshake needs is not kept for as long as the connection lasts.
        let opening = Box::pin(self.open(far, from, handshake));
        let opened = stop.run_until_cancelled(opening).await.unwrap_or(Err(Refused::Stopping));
        match opened {
            Ok((near, far, opened)) => {
                let Inbound { name, lifetime, .. } = &self.route;
                self.desk.carry((near, far), name, *lifetime, opened, stop).await;
            }
            Err(refused) => self.ledger.enter(&from, &refused),
        }
    }

    async fn open(
        &self,
        io: TcpStream,
        from: SocketAddr,
        handshake: Slot<IpAddr>,
    ) -> Result<(Dialed, Far, Opened), Refused> {
        let begun = Instant::now();
        let to = io.local_addr().unwrap_or(self.route.listen);
        let mut opened = Opened::inbound(&self.route, from.to_string());
        let far = match self.route.mode {
            Mode::Psk | Mode::Mtls => {
                let tunnel = self.desk.tunnels.answer(io, &self.route).await?;
                opened.through(&tunnel);
                Either::Left(tunnel)
            }
            // Who calls has not said who they are, so the policies cannot be asked.
            Mode::Observe => Either::Right(Dialed::Left(io)),
        };
        drop(handshake);
        let mut near = dial(&self.route.to).await?;
        if let Some(version) = self.route.proxy_header {
            let ends = match &far {
                Either::Left(tunnel) => Some(tunnel.ends()),
                Either::Right(_) => None,
            };
            let talk = Talk { from, to, mode: self.route.mode, ends };
            self.introduce(&mut near, &talk, version).await?;
        }
        metrics::connected(&self.route.name, begun);
        Ok((near, far, opened))
    }

    /// Tells the program who is at the other end.
    async fn introduce(
        &self,
        near: &mut Dialed,
        talk: &Talk<'_>,
        version: ProxyHeader,
    ) -> Result<(), Refused> {
        let header = talk.header(version);
        let told = async { near.write_all(&header?).await };
        told.await.map_err(|source| Refused::Unreachable { at: self.route.to.clone(), source })
    }
}
