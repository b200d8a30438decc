//! What all routes of a shim share.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::Clock;
use claviger_runtime::place::{Dialed, ServerAddr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Opened};
use crate::callers::CallerDesk;
use crate::config::Limits;
use crate::enforcer::{Denied, Enforcer};
use crate::metrics;
use crate::refused::Refused;
use crate::relay::{Buffers, End, Socket, Terms, carry};
use crate::route::Lifetime;
use crate::tunnel::Tunnel;
use crate::tunnels::Tunnels;

/// How long it may take to reach another machine, or a program on this one.
const DIAL: Duration = Duration::from_secs(10);

/// What all routes of a shim share. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) tunnels: Tunnels,
    pub(crate) callers: CallerDesk,
    /// As whom the shim acts, if it knows.
    pub(crate) identity: Option<SpiffeId>,
    /// Nobody where there is no agent.
    pub(crate) enforcer: Option<Enforcer>,
    pub(crate) access: Access,
    pub(crate) buffers: Buffers,
    pub(crate) limits: Limits,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What leads to the other end: a tunnel, or a connection that is only observed.
pub(crate) type Far = Either<Tunnel, Dialed>;

impl End for Far {
    fn rest(&mut self) {
        match self {
            Self::Left(tunnel) => tunnel.rest(),
            Self::Right(plain) => plain.rest(),
        }
    }

    fn reset(&self) {
        match self {
            Self::Left(tunnel) => tunnel.reset(),
            Self::Right(plain) => plain.reset(),
        }
    }

    fn socket(&self) -> Option<Socket<'_>> {
        match self {
            Self::Left(tunnel) => tunnel.socket(),
            Self::Right(plain) => plain.socket(),
        }
    }
}

impl Desk {
    /// Room for one more connection.
    pub(crate) fn slot(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let slot = Arc::clone(&self.room).try_acquire_owned();
        slot.map_err(|_full| Refused::Full(self.limits.connections))
    }

    /// What the policies say of a connection that is only observed, if somebody is there to say.
    pub(crate) fn said_of(
        &self,
        server: &SpiffeId,
        purpose: &Purpose,
    ) -> Option<Result<(), Denied>> {
        let (enforcer, client) = (self.enforcer.as_ref()?, self.identity.clone()?);
        Some(enforcer.would_admit(client, server.clone(), purpose.clone()))
    }

    /// Carries bytes between a program and the other end until it is over, and records that.
    pub(crate) async fn carry<N: End>(
        &self,
        (mut near, mut far): (N, Far),
        route: &str,
        lifetime: Lifetime,
        opened: Opened,
        stop: CancellationToken,
    ) {
        let open = metrics::Open::of(route);
        let terms = Terms { lifetime, stop, grace: self.limits.grace };
        let (ended, moved) = carry(&mut near, &mut far, &self.buffers, &terms).await;
        if !ended.is_complete() {
            near.reset();
            far.reset();
        }
        drop((near, far, open));
        metrics::ended(route, &ended, moved);
        self.access.write(&opened.ended(&ended, moved, self.clock.now()));
    }
}

/// Connects to `at`.
pub(crate) async fn dial(at: &ServerAddr) -> Result<Dialed, Refused> {
    let dialed = timeout(DIAL, at.dial()).await;
    dialed
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| Refused::Unreachable { at: at.clone(), source })
}
