//! Versions, acknowledgements and rejections: what a request means after all that was said before.
//!
//! Each response carries a nonce. A request that carries another one answers an older response and
//! is ignored; one that carries it accepts the response, or rejects it by naming an error. Either
//! may ask for other resources than before, and only that is answered.

use std::sync::Arc;

use claviger_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tonic::Status;
use tracing::{debug, warn};

use super::resource::{Resource, TYPE_URL};
use super::validator::Validator;
use super::wanted::Wanted;
use crate::config;

/// The most characters of an Envoy's words that are logged.
const MAX_SAID: usize = 300;

/// What was said on one stream.
#[derive(Debug)]
pub(super) struct Exchange {
    is_plain: bool,
    /// Known from the first request that names the Envoy.
    validator: Validator,
    wanted: Option<Wanted>,
    /// How many responses there were; the last one's version and nonce.
    sent: u64,
    /// The last response whose rejection was logged.
    rejected: u64,
}

impl Exchange {
    pub(super) fn new(config: &Arc<config::Sds>) -> Self {
        let is_plain = config.disable_spiffe_cert_validation;
        Self { is_plain, validator: Validator::default(), wanted: None, sent: 0, rejected: 0 }
    }

    /// Whether anything was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.wanted.is_some()
    }

    /// Takes in a request: what to answer, if it asks for anything new.
    pub(super) fn take(&mut self, request: DiscoveryRequest) -> Result<Option<Wanted>, Status> {
        let nonce = &request.response_nonce;
        if self.sent != 0 && *nonce != self.sent.to_string() {
            debug!("an Envoy answers an older response, which is ignored");
            return Ok(None);
        }
        if !request.type_url.is_empty() && request.type_url != TYPE_URL {
            return Err(Status::invalid_argument(format!("type_url: only {TYPE_URL} is served")));
        }
        if let Some(node) = request.node.as_ref().filter(|_| !self.is_plain) {
            self.validator = Validator::of(node);
        }
        if let Some(error) = request.error_detail {
            self.log_rejection(&error.message);
        }
        let wanted = Wanted::new(request.resource_names, self.validator)?;
        if self.wanted.as_ref() == Some(&wanted) {
            return Ok(None);
        }
        self.wanted = Some(wanted.clone());
        Ok(Some(wanted))
    }

    /// Once for each response. It is not sent again: the same bytes would be rejected again.
    fn log_rejection(&mut self, said: &str) {
        if self.sent != self.rejected {
            self.rejected = self.sent;
            let said: String = said.chars().take(MAX_SAID).flat_map(char::escape_debug).collect();
            warn!(
                version = self.sent,
                error = said,
                "an Envoy rejects its secrets and keeps the ones before"
            );
        }
    }

    /// The next response.
    pub(super) fn respond(&mut self, resources: &[Resource]) -> Result<DiscoveryResponse, Status> {
        self.sent = self.sent.saturating_add(1);
        Ok(DiscoveryResponse {
            version_info: self.sent.to_string(),
            resources: resources.iter().map(Resource::to_any).collect::<Result<_, _>>()?,
            type_url: TYPE_URL.to_owned(),
            nonce: self.sent.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use claviger_proto::rpc;

    use super::*;

    fn exchange() -> Exchange {
        Exchange::new(&Arc::default())
    }

    fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    #[test]
    fn only_what_is_new_is_answered() {
        let mut exchange = exchange();
        assert!(!exchange.is_asked());
        assert!(exchange.take(request(&["a"], "of an older stream")).unwrap().is_some());
        assert!(exchange.is_asked());
        let first = exchange.respond(&[]).ok().unwrap();
        assert_eq!((first.version_info.as_str(), first.nonce.as_str()), ("1", "1"));
        assert_eq!(first.type_url, TYPE_URL);

        assert_eq!(exchange.take(request(&["a"], "1")).unwrap(), None, "acknowledged");
        assert_eq!(exchange.take(request(&["a", "a"], "1")).unwrap(), None, "the same names");
        assert_eq!(exchange.take(request(&["b"], "0")).unwrap(), None, "stale");
        assert_eq!(exchange.take(request(&["b"], "")).unwrap(), None, "stale");
        assert!(exchange.take(request(&["b"], "1")).unwrap().is_some(), "other names");
        assert!(exchange.take(request(&[], "1")).unwrap().is_some(), "everything");
    }

    #[test]
    fn a_rejection_is_not_answered_until_it_asks_for_something_else() {
        let mut exchange = exchange();
        exchange.take(request(&["a"], "")).unwrap();
        exchange.respond(&[]).ok().unwrap();
        let rejection = |names: &[&str]| DiscoveryRequest {
            error_detail: Some(rpc::Status { message: "no".to_owned(), ..Default::default() }),
            ..request(names, "1")
        };
        for _ in 0..2 {
            assert_eq!(exchange.take(rejection(&["a"])).unwrap(), None);
            assert_eq!(exchange.rejected, 1);
        }
        assert!(exchange.take(rejection(&["b"])).unwrap().is_some());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let many: Vec<_> = (0..257).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(2_049);
        for names in [many.as_slice(), &[long.as_str()]] {
            let status = exchange().take(request(names, "")).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
        }
        let other = DiscoveryRequest { type_url: "other".to_owned(), ..request(&[], "") };
        assert_eq!(exchange().take(other).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
