//! gRPC as every door of ours serves it: how much one connection may ask at a time, and how much of this
//! process it may take while it does.
//!
//! What is not said here is what h2 and hyper do anyway, and what the tests at the doors of the binary hold
//! them to: a flood of CONTINUATION, PING, SETTINGS or empty DATA frames ends the connection or costs nothing
//! but its own turn.

mod unread;

use std::sync::Arc;
use std::time::Duration;

use tonic::service::{Interceptor, InterceptorLayer};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};
use tower::layer::util::{Identity, Stack};

use crate::slots::Slots;
use crate::tasks::Tasks;
use crate::unix::Peer;
pub use unread::{Reading, Unread, Whole};

/// The most bytes of a request's headers (RFC 9113 §6.5.2); as they arrive, and as they are unpacked.
const MAX_HEADERS: u32 = 16 << 10;

/// How many bytes of one connection may wait to be read, of all calls together and of each. It is the most
/// memory that somebody who floods us takes by one connection; and enough for 40 Mbit/s at a distance of
/// 50 ms, far more than agents have to say.
const WINDOW: u32 = 256 << 10;

/// The largest frame (RFC 9113 §6.5.2): the smallest that can be asked for, so that nobody waits long for
/// the frame of another.
const MAX_FRAME: u32 = 16 << 10;

/// Calls of one connection that were given up before anybody looked at them. One more ends it: rapid reset
/// (CVE-2023-44487).
const MAX_GIVEN_UP: usize = 20;

/// Calls of one connection, in all its life, that we ended because they were not well-formed. One more ends it.
const MAX_ILL_FORMED: usize = 1_024;

/// Calls at a time on one connection of a process on this machine. A workload needs two streams and a key
/// now and then.
const LOCAL_CALLS: u32 = 256;

/// How often such a connection, when it is idle, is asked whether it is still there.
const LOCAL_KEEPALIVE: Duration = Duration::from_secs(60);

/// What stands before the services of every [`server`].
pub type Served = Stack<Unread, Identity>;

/// Serves processes on this machine.
#[must_use]
pub fn local_server(tasks: &Tasks) -> Server<Served> {
    server(LOCAL_CALLS, LOCAL_KEEPALIVE, tasks)
}

/// Serves up to `calls` at a time on each connection, and asks who has been silent for `keepalive` whether
/// they are still there; they have as long to answer.
#[must_use]
pub fn server(calls: u32, keepalive: Duration, tasks: &Tasks) -> Server<Served> {
    Server::builder()
        .max_concurrent_streams(calls)
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive))
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_GIVEN_UP))
        .http2_max_local_error_reset_streams(Some(MAX_ILL_FORMED))
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_frame_size(MAX_FRAME)
        .layer(Unread::new(tasks))
}

/// What stands before the services of a [`bounded_server`].
pub type Bound = Stack<InterceptorLayer<Calls>, Served>;

/// The same as [`local_server`], where each user has so many calls at a time as `calls` has room for: one that
/// is never finished takes memory for as long as its caller likes. A stream that was answered is not counted any
/// more.
#[must_use]
pub fn bounded_server(calls: Slots<u32>, tasks: &Tasks) -> Server<Bound> {
    local_server(tasks).layer(InterceptorLayer::new(Calls(calls)))
}

/// A client that gives up calls whenever it likes: what the server still answers to those is passed over, and
/// not counted until the connection ends, with all its other calls. For a server that is trusted so far.
#[must_use]
pub fn client(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_max_local_error_reset_streams(None)
}

/// Lets in as many calls of each user as there is room for.
#[derive(Clone, Debug)]
pub struct Calls(Slots<u32>);

impl Interceptor for Calls {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(uid) = request.extensions().get::<Peer>().map(Peer::uid) else {
            return Err(Status::internal("the caller is not known"));
        };
        let taken = self.0.take(uid);
        let slot = taken.map_err(|full| Status::resource_exhausted(full.to_string()))?;
        // It is given back with the request: when that was answered, or when its caller hung up.
        request.extensions_mut().insert(Arc::new(slot));
        Ok(request)
    }
}
