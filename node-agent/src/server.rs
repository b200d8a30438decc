//! The way to the server, which may be several.
//!
//! | to find | look in |
//! |---|---|
//! | where they are, and which of them works | `places` |
//! | calls to whichever works | `link` |

mod link;
mod places;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};
use claviger_core::time::Clock;
use claviger_runtime::grpc;
use claviger_runtime::place::{ServerAddr, ServerAddrs};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{Identity, TrustBundle, client_config, connector};
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use claviger_proto::spire::types::PermissionDeniedDetails;
pub(crate) use claviger_proto::spire::types::permission_denied_details::Reason;
pub(crate) use link::Link;
pub(crate) use places::Places;

/// A server that does not answer a ping for this long is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A server, recognized by the trust domain's authorities and its name. It may be several, which do the same.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    places: Places,
    id: SpiffeId,
    bundle: TrustBundle,
    clock: Arc<dyn Clock>,
}

impl Server {
    /// The server at any of `addresses`, for which `bundle` vouches.
    pub(crate) fn new(
        addresses: ServerAddrs,
        bundle: TrustBundle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ParseIdError> {
        let id = bundle.trust_domain().join("/spire/server")?;
        Ok(Self { places: Places::new(addresses), id, bundle, clock })
    }

    /// The same server, recognized by `bundle`, which is of the same trust domain.
    pub(crate) fn believing(&self, bundle: TrustBundle) -> Self {
        Self { bundle, ..self.clone() }
    }

    /// Where it is.
    pub(crate) const fn places(&self) -> &Places {
        &self.places
    }

    /// By whom it is recognized.
    pub(crate) fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The trust domain.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    /// A way to the server as `identity`, or as nobody. A connection presents what `identity` is when it is
    /// made.
    pub(crate) fn link(&self, identity: Option<&Identity>) -> Link {
        Link::new(self.clone(), identity.cloned())
    }

    /// The way to the one at `place`.
    fn channel(&self, place: &ServerAddr, identity: Option<&Identity>) -> Channel {
        let (bundle, id) = (&self.bundle, self.id.clone());
        let tls = client_config(identity, bundle, id, Arc::clone(&self.clock));
        // The connector knows where to; the name is for logs.
        grpc::client(Endpoint::from_static("http://claviger-server"))
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector(place.clone(), tls))
    }
}

/// Whether the server has decided, so that asking again is of no use; otherwise it did not get to
/// it, or could not be reached.
pub(crate) fn is_refusal(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// Whether the server refuses to talk to this agent at all.
pub(crate) fn is_rejection(status: &Status) -> bool {
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
}

/// Why the server does not talk to this agent, if it says so.
pub(crate) fn reason(status: &Status) -> Option<Reason> {
    /// `google.rpc.Status`, as far as we read it.
    #[derive(Clone, PartialEq, Eq, Message)]
    struct Details {
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }

    const TYPE: &str = "/spire.api.types.PermissionDeniedDetails";

    let details = Details::decode(status.details()).ok()?.details;
    let details = details.into_iter().find(|any| any.type_url.ends_with(TYPE))?;
    Some(PermissionDeniedDetails::decode(&*details.value).ok()?.reason())
}

/// A status for the log: the message, and what lies beneath where the connection failed.
pub(crate) struct Said<'a>(pub(crate) &'a Status);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(source) => write!(f, "{}", Chain(source)),
            None if self.0.message().is_empty() => write!(f, "{}", self.0.code()),
            None => f.write_str(self.0.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_in_the_details() {
        // google.rpc.Status{code: 7, details: [Any{type_url, value: PermissionDeniedDetails{4}}]}
        let url = b"type.googleapis.com/spire.api.types.PermissionDeniedDetails";
        let mut any = vec![0x0a, u8::try_from(url.len()).unwrap()];
        any.extend_from_slice(url);
        any.extend_from_slice(&[0x12, 2, 0x08, 4]);
        let mut details = vec![0x08, 7, 0x1a, u8::try_from(any.len()).unwrap()];
        details.extend_from_slice(&any);
        let status = Status::with_details(Code::PermissionDenied, "no", details.into());
        assert_eq!(reason(&status), Some(Reason::AgentBanned));
        assert_eq!(reason(&Status::permission_denied("no")), None);
        let junk = Status::with_details(Code::PermissionDenied, "no", b"junk".as_slice().into());
        assert_eq!(reason(&junk), None);
    }

    #[test]
    fn a_lost_connection_is_no_decision() {
        assert!(is_refusal(&Status::permission_denied("")));
        assert!(!is_refusal(&Status::unavailable("")));
        assert!(!is_refusal(&Status::unknown("")));
    }
}
