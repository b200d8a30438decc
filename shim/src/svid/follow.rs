//! The stream of X.509-SVIDs.

use std::path::PathBuf;
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_proto::workload::{X509svidRequest, X509svidResponse};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::unix::SocketPathError;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{error, info, warn};

use super::own::{Own, Unreadable};
use super::{Known, NoSvid, Svids};
use crate::agent::{Pauses, channel, with_header};
use crate::route::Profile;

/// The most bytes of one message: a few SVIDs, and what was revoked.
const MAX_MESSAGE: usize = 16 << 20;

/// Tells handshakes what the agent says.
#[derive(Debug)]
pub(super) struct Follower {
    agent: Channel,
    identity: Option<SpiffeId>,
    profile: Profile,
    clock: Arc<dyn Clock>,
    known: watch::Sender<Known>,
}

impl Follower {
    pub(super) fn new(
        agent: PathBuf,
        identity: Option<SpiffeId>,
        profile: Profile,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Svids), SocketPathError> {
        let agent = channel(agent, None)?;
        let (known, said) = watch::channel(Known::Nothing);
        let svids = Svids { known: said, clock: Arc::clone(&clock) };
        Ok((Self { agent, identity, profile, clock, known }, svids))
    }

    /// Follows the agent for ever.
    pub(super) async fn run(&mut self) {
        let mut pauses = Pauses::default();
        loop {
            let mut heard = false;
            let ended = self.listen(&mut heard).await;
            if heard {
                pauses.reset();
            }
            self.ended(ended);
            pauses.pause().await;
        }
    }

    async fn listen(&mut self, heard: &mut bool) -> Result<(), Status> {
        let mut api =
            SpiffeWorkloadApiClient::new(self.agent.clone()).max_decoding_message_size(MAX_MESSAGE);
        let mut said = api.fetch_x509svid(with_header(X509svidRequest {})).await?.into_inner();
        while let Some(message) = said.message().await? {
            *heard = true;
            self.take_in(message);
        }
        Ok(())
    }

    /// Why the agent is not heard any more. It is away, or this process is nobody.
    pub(super) fn ended(&self, ended: Result<(), Status>) {
        match ended {
            Ok(()) => warn!("the agent ended the stream of X.509-SVIDs"),
            Err(status) => {
                warn!(error = %Chain(&status), "the agent gives no X.509-SVIDs");
                if status.code() == Code::PermissionDenied {
                    self.known.send_replace(Known::Nobody(NoSvid::Nobody));
                }
            }
        }
    }

    /// What the agent says from now on. What can't be understood changes nothing: what there is counts
    /// until it expires.
    pub(super) fn take_in(&self, message: X509svidResponse) {
        let clock = Arc::clone(&self.clock);
        let known = match Own::read(message, self.identity.as_ref(), self.profile, clock) {
            Ok(own) => {
                info!(id = %own.id(), not_after = %own.not_after(), "acting by this X.509-SVID");
                Known::Somebody(Arc::new(own))
            }
            Err(Unreadable::NoSvid(why)) => {
                warn!(%why, "there are no handshakes in mode `mtls`");
                Known::Nobody(why)
            }
            Err(unreadable) => {
                return error!(error = %Chain(&unreadable), "an X.509-SVID is not used");
            }
        };
        self.known.send_replace(known);
    }
}
