//! What still comes of a request that was answered already.
//!
//! Whoever refuses a call by its headers has answered before its message is there. The call is reset then, and
//! what arrives for it later counts as an error of its connection, of which one may make so many: a client that
//! did nothing wrong would be cut off, with all its other calls. So it is read and thrown away, for a moment.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::{Layer, Service};

use crate::tasks::Tasks;

/// For so long: a message comes right after its headers, if it comes.
const MOMENT: Duration = Duration::from_secs(1);

/// Of so many at a time, each some kilobytes. Those beyond are reset at once.
const MAX_UNREAD: usize = 1_024;

/// Reads what nobody wants to read any more. As a layer, of all requests to the services within. Clones share the
/// room for it.
#[derive(Clone, Debug)]
pub struct Unread {
    tasks: Tasks,
    room: Arc<Semaphore>,
}

impl Unread {
    /// For one server, whose `tasks` it is among.
    #[must_use]
    pub fn new(tasks: &Tasks) -> Self {
        Self { tasks: tasks.clone(), room: Arc::new(Semaphore::new(MAX_UNREAD)) }
    }

    /// `body`, the rest of which is read when it is dropped before its end.
    pub fn of<B: Body + Send + Unpin + 'static>(&self, body: B) -> Whole<B> {
        Whole { body: Some(body), unread: self.clone() }
    }

    fn read<B: Body + Send + Unpin + 'static>(&self, mut body: B) {
        // What is dropped when the process ends is not read any more.
        let (Ok(room), Ok(_handle)) =
            (Arc::clone(&self.room).try_acquire_owned(), Handle::try_current())
        else {
            return;
        };
        self.tasks.spawn("unread", |stop| async move {
            let reading = async { while let Some(Ok(_frame)) = body.frame().await {} };
            // Whether that was all of it is not the question.
            let _all = stop.run_until_cancelled(timeout(MOMENT, reading)).await;
            drop(room);
            Ok(())
        });
    }
}

impl<S> Layer<S> for Unread {
    type Service = Reading<S>;

    fn layer(&self, inner: S) -> Reading<S> {
        Reading { inner, unread: self.clone() }
    }
}

/// A service whose requests are read to their end, whether or not it does that itself.
#[derive(Clone, Debug)]
pub struct Reading<S> {
    inner: S,
    unread: Unread,
}

impl<S> Service<Request<tonic::body::Body>> for Reading<S>
where
    S: Service<Request<tonic::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> S::Future {
        self.inner.call(request.map(|body| tonic::body::Body::new(self.unread.of(body))))
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct Whole<B: Body + Send + Unpin + 'static> {
    /// There until it is dropped.
    body: Option<B>,
    unread: Unread,
}

impl<B: Body + Send + Unpin + 'static> Body for Whole<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: Body + Send + Unpin + 'static> Drop for Whole<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take_if(|body| !body.is_end_stream()) {
            self.unread.read(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::Bytes;
    use tokio::sync::mpsc;

    use super::*;

    /// What a client sends.
    struct Sent(mpsc::Receiver<Bytes>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    fn body() -> (mpsc::Sender<Bytes>, Sent) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Sent(receiver))
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_is_taken_and_whoever_never_ends_is_not_waited_for() {
        let unread = Unread::new(&Tasks::default());
        let (client, sent) = body();
        drop(unread.of(sent));
        for _ in 0..10 {
            client.send(Bytes::from_static(b"late")).await.unwrap();
        }
        let begun = tokio::time::Instant::now();
        client.closed().await;
        assert_eq!(begun.elapsed(), MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_read() {
        let unread = Unread::new(&Tasks::default());
        let clients: Vec<_> = (0..=MAX_UNREAD)
            .map(|_| {
                let (client, sent) = body();
                drop(unread.of(sent));
                client
            })
            .collect();
        let closed = || clients.iter().filter(|client| client.is_closed()).count();
        assert_eq!(closed(), 1);
        tokio::time::sleep(2 * MOMENT).await;
        assert_eq!(closed(), clients.len());
        assert_eq!(unread.room.available_permits(), MAX_UNREAD);
    }

    #[tokio::test]
    async fn what_was_read_to_its_end_is_done_with() {
        let unread = Unread::new(&Tasks::default());
        let (client, sent) = body();
        let mut whole = unread.of(sent);
        client.send(Bytes::from_static(b"all")).await.unwrap();
        drop(client);
        assert_eq!(whole.frame().await.unwrap().unwrap().into_data().unwrap(), "all");
        assert!(whole.frame().await.is_none());
    }

    #[test]
    fn without_a_runtime_nothing_is_read_and_nothing_panics() {
        let (client, sent) = body();
        drop(Unread::new(&Tasks::default()).of(sent));
        assert!(client.is_closed());
    }
}
