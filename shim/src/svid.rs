//! Who this shim is, live from the Workload API: its X.509-SVID, the bundles of its trust domain and of
//! those federated with it, and what they have revoked.
//!
//! What the agent says counts from the next handshake on; connections that exist are not touched. When
//! the agent is away, what it said last counts until the SVID expires; when it says that this process is
//! nobody, there are no more handshakes at once.

#[cfg(test)]
pub(crate) mod fixture;
mod follow;
mod own;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::SocketPathError;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::route::Profile;
use follow::Follower;
pub(crate) use own::Own;

/// How long the first handshake waits for the agent's first word.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The X.509-SVID of the moment, and whom to believe. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Svids {
    known: watch::Receiver<Known>,
    clock: Arc<dyn Clock>,
}

/// What the agent said last.
#[derive(Clone, Debug, Default)]
pub(crate) enum Known {
    /// Nothing yet.
    #[default]
    Nothing,
    /// That this process is nobody, or not who it is to be.
    Nobody(NoSvid),
    /// Who it is.
    Somebody(Arc<Own>),
}

impl Svids {
    /// Follows the agent behind the socket `agent` in one of `tasks`, as `identity` or else as the first
    /// identity that the agent names, with SVIDs that `profile` can use.
    ///
    /// # Errors
    ///
    /// [`SocketPathError`] if no socket can be there.
    pub fn follow(
        agent: PathBuf,
        identity: Option<SpiffeId>,
        profile: Profile,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, SocketPathError> {
        let (mut follower, svids) = Follower::new(agent, identity, profile, clock)?;
        tasks.spawn("svids", |stop| async move {
            stop.run_until_cancelled(follower.run()).await;
            Ok(())
        });
        Ok(svids)
    }

    /// Waits until there is an SVID.
    pub async fn ready(&self) {
        let mut known = self.known.clone();
        let somebody = |known: &Known| matches!(known, Known::Somebody(_));
        if known.wait_for(somebody).await.is_err() {
            // Nobody will ever say so.
            std::future::pending::<()>().await;
        }
    }

    /// Who we are now.
    pub(crate) async fn current(&self) -> Result<Arc<Own>, NoSvid> {
        let mut known = self.known.clone();
        let word = known.wait_for(|known| !matches!(known, Known::Nothing));
        let known = match timeout(FIRST_WORD, word).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) | Err(_) => return Err(NoSvid::Silent),
        };
        match known {
            Known::Nothing => Err(NoSvid::Silent),
            Known::Nobody(why) => Err(why),
            Known::Somebody(own) if own.not_after() < self.clock.now() => Err(NoSvid::Expired),
            Known::Somebody(own) => Ok(own),
        }
    }
}

/// Why there can be no handshakes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoSvid {
    /// The agent was not heard.
    #[error(
        "the agent has given no X.509-SVID yet; is it running, and is it connected to its server?"
    )]
    Silent,
    /// The agent knows nobody here.
    #[error("the agent knows this process by no identity; is there an entry for it?")]
    Nobody,
    /// The agent knows others.
    #[error("the agent has no X.509-SVID of `{0}` for this process")]
    NotThis(SpiffeId),
    /// It is over.
    #[error("the X.509-SVID has expired, and the agent has given no other")]
    Expired,
    /// The profile rules it out.
    #[error("the X.509-SVID of `{0}` has a key that the profile does not permit")]
    Profile(SpiffeId),
}
