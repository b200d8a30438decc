//! A witness of logs: signs that a log's checkpoint continues every one that it has signed before
//! ([tlog-witness](https://c2sp.org/tlog-witness)). Whoever asks for its signature beside the log's can't be
//! shown a history that others are not shown.
//!
//! It is no part of a server and knows nothing of one: it runs on another machine, with another owner,
//! for logs of any kind.
//!
//! | to find | look in |
//! |---|---|
//! | what is asked, and what is answered to whom | `request` |
//! | what is remembered of each log | `kept` |

mod kept;
mod request;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use claviger_core::audit::note::{Kind, SigningKey, VerifierKey};
use claviger_core::time::Clock;
use claviger_runtime::accept::Backoff;
use claviger_runtime::http::{answer_each, read_body};
use claviger_runtime::tasks::Tasks;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::storage::secret_file;
use kept::Kept;
use request::{AddCheckpoint, MAX_REQUEST, Refusal};

/// Connections at a time. Logs come once in seconds and stay for milliseconds.
const MAX_CONNECTIONS: usize = 64;

/// What a witness is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, which should be an address without a scheme: `witness.example.org/w1`.
    pub name: String,
    /// Where its key and what it remembers are kept; made if it does not exist.
    pub folder: PathBuf,
    /// Where it listens, for HTTP. A proxy in front of it speaks HTTPS.
    pub listen: SocketAddr,
    /// The keys of the logs that it knows. The name of a key is the log's origin.
    pub logs: Vec<VerifierKey>,
}

/// A witness that runs until its tasks stop.
#[derive(Clone, Debug)]
pub struct Running {
    /// Where it listens, with the port that was chosen if 0 was asked for.
    pub address: SocketAddr,
    /// What others verify its signatures with.
    pub key: VerifierKey,
}

/// A witness can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder, or a file in it, can't be used.
    #[error("cannot use `{path}`")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of the key holds none, or the name can't be that of a key.
    #[error(
        "`{path}` holds no Ed25519 key in PKCS#8, or the name has a space or a plus sign in it; a \
         witness without its key is a new one"
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The library makes no key.
    #[error("the cryptographic library makes no key")]
    Generate,
    /// The address is taken or not ours.
    #[error("cannot listen on {address}; choose another address")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts a witness. When this returns, it answers.
///
/// # Errors
///
/// [`StartError`].
pub async fn start(
    settings: Settings,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Running, StartError> {
    let Settings { name, folder, listen, logs } = settings;
    let kept = Kept::open(&folder);
    let kept = kept.map_err(|source| StartError::Folder { path: folder.clone(), source })?;
    let key = key(&folder.join("witness.key"), &name)?;
    let unable = |source| StartError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(unable)?;
    let address = listener.local_addr().map_err(unable)?;
    let public = key.public().clone();
    info!(%address, key = %public, logs = logs.len(), "witness");
    let witness =
        Arc::new(Witness { key, logs, clock, kept: Arc::new(kept), one: Mutex::default() });
    let connections = tasks.clone();
    tasks.spawn("witness", |stop| async move {
        stop.run_until_cancelled(accept(listener, witness, connections)).await;
        Ok(())
    });
    Ok(Running { address, key: public })
}

/// The key called `name` in the file at `path`, which is made if it does not exist.
fn key(path: &Path, name: &str) -> Result<SigningKey, StartError> {
    let failed = |source| StartError::Folder { path: path.to_owned(), source };
    let wrong = |_: claviger_core::audit::note::WrongKey| StartError::Key { path: path.to_owned() };
    if let Some(pkcs8) = secret_file::read(path, 1_024).map_err(failed)? {
        return SigningKey::from_pkcs8(name, Kind::Witness, &pkcs8).map_err(wrong);
    }
    let made = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1());
    let pkcs8 = made.map_err(|_unspecified| StartError::Generate)?;
    let key = SigningKey::from_pkcs8(name, Kind::Witness, pkcs8.as_ref()).map_err(wrong)?;
    secret_file::write(path, pkcs8.as_ref()).map_err(failed)?;
    Ok(key)
}

async fn accept(listener: TcpListener, witness: Arc<Witness>, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut backoff = Backoff::default();
    // Nobody closes the semaphore.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                backoff.reset();
                let witness = Arc::clone(&witness);
                tasks.spawn("witness connection", |stop| async move {
                    let answer = |request: Request<Incoming>| {
                        let witness = Arc::clone(&witness);
                        async move { witness.answer(request).await }
                    };
                    answer_each(stream, "witness", answer, stop).await;
                    drop(slot);
                    Ok(())
                });
            }
            Err(error) => backoff.pause(&error).await,
        }
    }
}

#[derive(Debug)]
struct Witness {
    key: SigningKey,
    logs: Vec<VerifierKey>,
    clock: Arc<dyn Clock>,
    kept: Arc<Kept>,
    /// Held from comparing with what is kept until that is replaced: of two checkpoints that continue
    /// the same one, only one is signed.
    one: Mutex<()>,
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const SIZE: HeaderValue = HeaderValue::from_static("text/x.tlog.size");

impl Witness {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/add-checkpoint" {
            return reply(StatusCode::NOT_FOUND, TEXT, String::new());
        }
        if request.method() != Method::POST {
            return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
        }
        let Ok(body) = read_body(request.into_body(), MAX_REQUEST).await else {
            return reply(StatusCode::PAYLOAD_TOO_LARGE, TEXT, String::new());
        };
        match self.add_checkpoint(&body).await {
            Ok(line) => reply(StatusCode::OK, TEXT, format!("{line}\n")),
            Err(refusal) => {
                warn!(%refusal, "not signed");
                let status = refusal.status();
                if let Refusal::Size { latest } = refusal {
                    return reply(status, SIZE, format!("{latest}\n"));
                }
                reply(status, TEXT, format!("{refusal}\n"))
            }
        }
    }

    /// The line with the signature on the checkpoint in `body`.
    async fn add_checkpoint(&self, body: &[u8]) -> Result<String, Refusal> {
        let request = AddCheckpoint::parse(body)?;
        let log = request.log_of(&self.logs)?;
        let origin = log.name().to_owned();

        let _one = self.one.lock().await;
        let (kept, log) = (Arc::clone(&self.kept), origin.clone());
        let latest = blocking(move || kept.latest(&log)).await?;
        request.continues(latest)?;
        let signature = self.key.sign(request.note.text(), self.clock.now());
        let (kept, head) = (Arc::clone(&self.kept), request.head);
        info!(origin, size = head.size, "signed");
        blocking(move || kept.replace(&origin, head)).await?;
        Ok(signature.to_string())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    done.map_err(Refusal::Memory)
}

fn reply(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
