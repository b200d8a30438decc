//! Streams, and what they say while nothing happens.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use claviger_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tonic::{Response, Status, Streaming};

use super::{Client, HEADER, Rpc, request};
use crate::conformance::answer::Answer;

/// What a stream did.
#[derive(Debug)]
pub(in crate::conformance) struct Watched<M> {
    pub(in crate::conformance) rpc: Rpc,
    /// The first message.
    pub(in crate::conformance) first: Answer<M>,
    /// How often a message came that equals the one before it.
    pub(in crate::conformance) repeated: usize,
    /// The first message of another stream, opened later.
    pub(in crate::conformance) again: Answer<M>,
}

/// A complete state.
pub(in crate::conformance) trait State: PartialEq {
    /// What it is about, in order; the material itself may change at any time.
    fn contents(&self) -> Vec<&str>;
}

impl State for X509svidResponse {
    fn contents(&self) -> Vec<&str> {
        self.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
    }
}

impl State for WitsvidResponse {
    fn contents(&self) -> Vec<&str> {
        self.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
    }
}

impl State for X509BundlesResponse {
    fn contents(&self) -> Vec<&str> {
        sorted(&self.bundles)
    }
}

impl State for JwtBundlesResponse {
    fn contents(&self) -> Vec<&str> {
        sorted(&self.bundles)
    }
}

impl State for WitBundlesResponse {
    fn contents(&self) -> Vec<&str> {
        sorted(&self.bundles)
    }
}

fn sorted<V>(map: &HashMap<String, V>) -> Vec<&str> {
    let mut keys: Vec<_> = map.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

impl Client {
    pub(in crate::conformance) async fn watch_x509(
        &self,
        quiet: Duration,
    ) -> Watched<X509svidResponse> {
        let open = || {
            let mut api = self.api();
            async move { api.fetch_x509svid(request(X509svidRequest {}, HEADER)).await }
        };
        self.watch(Rpc::FetchX509Svid, quiet, open).await
    }

    pub(in crate::conformance) async fn watch_x509_bundles(
        &self,
        quiet: Duration,
    ) -> Watched<X509BundlesResponse> {
        let open = || {
            let mut api = self.api();
            async move { api.fetch_x509_bundles(request(X509BundlesRequest {}, HEADER)).await }
        };
        self.watch(Rpc::FetchX509Bundles, quiet, open).await
    }

    pub(in crate::conformance) async fn watch_jwt_bundles(
        &self,
        quiet: Duration,
    ) -> Watched<JwtBundlesResponse> {
        let open = || {
            let mut api = self.api();
            async move { api.fetch_jwt_bundles(request(JwtBundlesRequest {}, HEADER)).await }
        };
        self.watch(Rpc::FetchJwtBundles, quiet, open).await
    }

    pub(in crate::conformance) async fn watch_wit(
        &self,
        quiet: Duration,
    ) -> Watched<WitsvidResponse> {
        let open = || {
            let mut api = self.api();
            async move { api.fetch_witsvid(request(WitsvidRequest::default(), HEADER)).await }
        };
        self.watch(Rpc::FetchWitSvid, quiet, open).await
    }

    pub(in crate::conformance) async fn watch_wit_bundles(
        &self,
        quiet: Duration,
    ) -> Watched<WitBundlesResponse> {
        let open = || {
            let mut api = self.api();
            async move { api.fetch_wit_bundles(request(WitBundlesRequest {}, HEADER)).await }
        };
        self.watch(Rpc::FetchWitBundles, quiet, open).await
    }

    /// Opens a stream, listens to it for `quiet`, and opens another.
    async fn watch<M: State, F>(
        &self,
        rpc: Rpc,
        quiet: Duration,
        open: impl Fn() -> F,
    ) -> Watched<M>
    where
        F: Future<Output = Result<Response<Streaming<M>>, Status>>,
    {
        let begin = || async {
            let mut stream = open().await?.into_inner();
            let message = stream.message().await?;
            let ended = || Status::unknown("the stream ended without a message");
            Ok((message.ok_or_else(ended)?, stream))
        };
        let (first, repeated) = match self.ask(rpc, begin).await {
            Answer::Given((message, stream)) => {
                let (message, repeated) = listen(message, stream, quiet).await;
                (Answer::Given(message), repeated)
            }
            Answer::Refused(code, message) => (Answer::Refused(code, message), 0),
            Answer::Late => (Answer::Late, 0),
            Answer::Unasked => (Answer::Unasked, 0),
        };
        let again = self.ask(rpc, begin).await.map(|(message, _stream)| message);
        Watched { rpc, first, repeated, again }
    }
}

/// The last of a stream's messages within `quiet`, and how many were as the one before.
async fn listen<M: PartialEq>(first: M, mut stream: Streaming<M>, quiet: Duration) -> (M, usize) {
    /// Whoever sends more has been heard well enough.
    const MAX_MESSAGES: usize = 16;

    let (mut last, mut repeated) = (first, 0);
    let listening = async {
        for _ in 0..MAX_MESSAGES {
            // That a stream ends is no fault: servers may end connections at any time.
            let Ok(Some(next)) = stream.message().await else { break };
            repeated += usize::from(next == last);
            last = next;
        }
    };
    // Silence until the end is what is hoped for.
    drop(tokio::time::timeout(quiet, listening).await);
    (last, repeated)
}
