//! Tunnels as routes want them: by one-time keys or by X.509-SVIDs, out of the machine and in.
//!
//! A route has one mode, and that is the one way in which both ends prove who they are. Nothing falls
//! back from one to the other: which it is, is decided before the first byte.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use claviger_core::time::Clock;
use claviger_runtime::tasks::Tasks;

use crate::acceptor::{AcceptError, PskAcceptor};
use crate::backend::{Io, S2n, SetUpError};
use crate::broker::IssueError;
use crate::connector::{ConnectError, PskConnector};
use crate::enforcer::Enforcer;
use crate::keys::Keys;
use crate::mtls::{Mtls, MtlsError};
use crate::prefetch::Prefetch;
use crate::profile::ProfileError;
use crate::redeem::Redeem;
use crate::route::{Destination, Inbound, Mode, Outbound, Profile};
use crate::svid::Svids;
use crate::tunnel::Tunnel;
use crate::wanted::Wanted;

/// Opens and answers tunnels. Clones are handles to the same keys and SVIDs.
#[derive(Clone, Debug)]
pub struct Tunnels {
    keys: Prefetch,
    /// None in a profile that has no keys.
    backend: Option<S2n>,
    redeem: Option<Arc<dyn Redeem>>,
    svids: Option<Svids>,
    enforcer: Option<Enforcer>,
}

impl Tunnels {
    /// Tunnels by the algorithms of `profile`, opened with `keys`; one of `tasks` keeps some in hand for
    /// routes that want it. What else there is, is added.
    ///
    /// # Errors
    ///
    /// [`SetUpError`] if the TLS stack lacks what we need.
    pub fn new(
        keys: Arc<dyn Keys>,
        profile: Profile,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, SetUpError> {
        let backend = match S2n::with_profile(profile) {
            Ok(backend) => Some(backend),
            Err(SetUpError::Profile(ProfileError)) => None,
            Err(error @ SetUpError::Library { .. }) => return Err(error),
        };
        let keys = Prefetch::new(keys, clock, tasks);
        Ok(Self { keys, backend, redeem: None, svids: None, enforcer: None })
    }

    /// The same, which also answers by keys that `redeem` spends.
    #[must_use]
    pub fn redeeming(self, redeem: Arc<dyn Redeem>) -> Self {
        Self { redeem: Some(redeem), ..self }
    }

    /// The same, which also opens and answers by `svids`.
    #[must_use]
    pub fn presenting(self, svids: Svids) -> Self {
        Self { svids: Some(svids), ..self }
    }

    /// The same, where `enforcer` decides about every tunnel, for as long as it lasts.
    ///
    /// Leave it out only where there is no agent, and so nobody to say what the policies are: in a CI
    /// job. There the other end's shim decides, and the server did when it issued the key.
    #[must_use]
    pub fn enforced_by(self, enforcer: Enforcer) -> Self {
        let keys = self.keys.enforced_by(enforcer.clone());
        Self { keys, enforcer: Some(enforcer), ..self }
    }

    /// Opens a tunnel `to` whoever has to be there, over `io`, which leads there.
    ///
    /// # Errors
    ///
    /// [`DialError`] says why there is none. It is for the log and the operator; the program that waits
    /// learns only that there is no connection.
    pub async fn dial(
        &self,
        io: impl Io + 'static,
        route: &Outbound,
        to: &Destination,
    ) -> Result<Tunnel, DialError> {
        match route.mode {
            Mode::Psk => self.dial_by_key(io, route, to).await,
            Mode::Mtls => {
                let mtls = self.mtls().ok_or(DialError::NoSvids)?;
                Ok(mtls.dial(io, &to.peer, &route.purpose).await?)
            }
            Mode::Observe => Err(DialError::Observed),
        }
    }

    async fn dial_by_key(
        &self,
        io: impl Io + 'static,
        route: &Outbound,
        to: &Destination,
    ) -> Result<Tunnel, DialError> {
        let mut connector = PskConnector::with_backend(self.backend.clone().ok_or(ProfileError)?);
        if let Some(enforcer) = &self.enforcer {
            connector = connector.enforced_by(enforcer.clone());
        }
        let issued = self.keys.take(&to.peer, &route.purpose, route.prefetch).await?;
        connector.connect(io, issued).await.map_err(|error| {
            // Others that were issued with it may be void like this one.
            self.keys.void(&to.peer);
            error.into()
        })
    }

    /// Answers a stranger, and tells them nothing if they are refused.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] says why there is no tunnel. It is for the log, never for the peer.
    pub async fn answer(
        &self,
        io: impl Io + 'static,
        inbound: &Inbound,
    ) -> Result<Tunnel, AnswerError> {
        let wanted = Wanted::from(inbound);
        match inbound.mode {
            Mode::Psk => {
                let redeem = self.redeem.clone().ok_or(AnswerError::NoBroker)?;
                let backend = self.backend.clone().ok_or(ProfileError)?;
                let mut acceptor = PskAcceptor::with_backend(redeem, backend);
                if let Some(enforcer) = &self.enforcer {
                    acceptor = acceptor.enforced_by(enforcer.clone());
                }
                Ok(acceptor.accept_wanted(io, wanted).await?)
            }
            Mode::Mtls => {
                let mtls = self.mtls().ok_or(AnswerError::NoSvids)?;
                Ok(mtls.answer(io, wanted, &inbound.purpose).await?)
            }
            Mode::Observe => Err(AnswerError::Observed),
        }
    }

    fn mtls(&self) -> Option<Mtls> {
        let svids = self.svids.clone()?;
        Some(Mtls { svids, enforcer: self.enforcer.clone() })
    }
}

/// Why no tunnel was opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is no key for this connection.
    #[error("no one-time key for this connection")]
    Key(#[from] IssueError),
    /// The handshake with it failed, or its outcome is not permitted.
    #[error(transparent)]
    Psk(#[from] ConnectError),
    /// The handshake by SVIDs failed, or its outcome is not permitted.
    #[error(transparent)]
    Mtls(#[from] MtlsError),
    /// The profile has no keys.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The shim has nobody who gives it SVIDs.
    #[error("there are no X.509-SVIDs here; routes in mode `mtls` need an agent")]
    NoSvids,
    /// The route is not protected.
    #[error("the route is only observed, and has no tunnels")]
    Observed,
}

/// Why a stranger was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The handshake by a one-time key failed, or its outcome is not permitted.
    #[error(transparent)]
    Psk(#[from] AcceptError),
    /// The handshake by SVIDs failed, or its outcome is not permitted.
    #[error(transparent)]
    Mtls(#[from] MtlsError),
    /// The profile has no keys.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The shim has nobody who redeems keys.
    #[error("there is no broker here that redeems keys; ways in need an agent")]
    NoBroker,
    /// The shim has nobody who gives it SVIDs.
    #[error("there are no X.509-SVIDs here; routes in mode `mtls` need an agent")]
    NoSvids,
    /// The route is not protected.
    #[error("the route is only observed, and has no tunnels")]
    Observed,
}
