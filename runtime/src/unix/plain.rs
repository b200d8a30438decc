//! A Unix socket for bytes that mean nothing to us.

use std::io;
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

use super::bind::{BindError, SocketFile, bind};
use crate::accept::Backoff;

/// Takes connections and hands them on as they are: who writes to them is of no interest.
#[derive(Debug)]
pub struct PlainListener {
    listener: UnixListener,
    backoff: Backoff,
    /// Goes with the listener.
    file: SocketFile,
}

impl PlainListener {
    /// Listens at `path`, with the permission bits `mode` (as in chmod(2)). A socket that nobody
    /// listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// [`BindError`] says what is in the way and what to do about it.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let (listener, file) = bind(path, mode)?;
        let listener = UnixListener::from_std(listener).map_err(|source| BindError::Io {
            path: path.to_owned(),
            doing: "poll",
            source,
        })?;
        Ok(Self { listener, backoff: Backoff::default(), file })
    }

    /// The next connection, and the user id of whoever made it. A failing accept is tried again.
    pub async fn accept(&mut self) -> (UnixStream, u32) {
        loop {
            match self.listener.accept().await.and_then(|(stream, _unnamed)| with_uid(stream)) {
                Ok(accepted) => {
                    self.backoff.reset();
                    return accepted;
                }
                Err(error) => {
                    debug!(path = %self.file.path().display(), %error, "connection not accepted");
                    self.backoff.pause(&error).await;
                }
            }
        }
    }
}

fn with_uid(stream: UnixStream) -> io::Result<(UnixStream, u32)> {
    let uid = stream.peer_cred()?.uid();
    Ok((stream, uid))
}
