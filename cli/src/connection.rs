//! gRPC over a Unix socket, with errors for people.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use claviger_runtime::unix;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::console::Console;
use crate::failure::Failure;
use crate::status::{self, Peer};

/// Time for one request. What may take longer says so to its peer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to a server or an agent.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    peer: Peer,
    channel: Channel,
    console: Console,
}

impl Connection {
    /// Connects to the `peer` whose socket is at `path`.
    pub(crate) async fn open(peer: Peer, path: &Path, console: Console) -> Result<Self, Failure> {
        const CONNECT: Duration = Duration::from_secs(5);

        let connector = unix::connector(path.to_owned()).map_err(Failure::usage)?;
        // The authority of a Unix socket means nothing; HTTP/2 wants one.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(CONNECT)
            .connect_with_connector(connector)
            .await
            .map_err(|error| status::unreachable(peer, path, &error))?;
        Ok(Self { peer, channel, console })
    }

    /// What the generated clients speak through.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits for the answer to a request; `doing` completes "cannot …" should it be a refusal.
    pub(crate) async fn ask<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.ask_for(DEADLINE, doing, request).await
    }

    /// The same, for a request that takes its time.
    pub(crate) async fn ask_for<T>(
        &self,
        deadline: Duration,
        doing: &str,
        request: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let answered = tokio::time::timeout(deadline, request);
        let waiting = format!("waiting for the {}", self.peer);
        match self.console.watch(&waiting, answered).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.refused(doing, &status)),
            Err(_elapsed) => {
                let late = format!("no answer within {} s", deadline.as_secs());
                Err(self.refused(doing, &Status::deadline_exceeded(late)))
            }
        }
    }

    /// The peer's refusal, for people.
    pub(crate) fn refused(&self, doing: &str, status: &Status) -> Failure {
        status::refused(self.peer, doing, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Format;

    #[tokio::test]
    async fn a_missing_socket_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.sock");
        let console = Console::new(Format::Pretty);
        let error = Connection::open(Peer::Server, &path, console).await.unwrap_err();
        assert!(error.to_string().contains("there is no socket"), "{error}");
    }

    #[tokio::test]
    async fn a_path_that_is_no_sockets_is_told_before_anything_is_tried() {
        let path = "/tmp/".to_owned() + &"x".repeat(120);
        let console = Console::new(Format::Pretty);
        let error = Connection::open(Peer::Agent, Path::new(&path), console).await.unwrap_err();
        assert!(error.to_string().contains("the limit is 107"), "{error}");
    }
}
