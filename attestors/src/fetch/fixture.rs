//! A server in this process, which answers as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A 200 with this body.
    Body(String),
    /// This, byte by byte, whatever it is.
    Raw(String),
    /// A 200 whose body does not end.
    Endless,
    /// Nothing.
    Stall,
    /// A 200 whose body begins, and stalls.
    Halfway,
}

/// The server. It stops when this is dropped.
pub(crate) struct Site {
    authority: String,
    scheme: &'static str,
    shared: Arc<Mutex<Shared>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    answers: HashMap<String, Answer>,
    requests: Vec<String>,
}

impl Site {
    /// Answers 404 to everything.
    pub(crate) async fn open() -> Self {
        Self::listen(None).await
    }

    /// The same, over TLS.
    pub(crate) async fn open_tls(tls: rustls::ServerConfig) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::<Mutex<Shared>>::default();
        let mut tasks = JoinSet::new();
        let state = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (Arc::clone(&state), tls.clone());
                connections.spawn(async move {
                    match tls {
                        // A client that does not believe us is what some tests are about.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &state).await;
                            }
                        }
                        None => serve(stream, &state).await,
                    }
                });
            }
        });
        Self { authority, scheme, shared, _tasks: tasks }
    }

    /// Answers so from now on, at `path`.
    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.shared.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// The address of `path`, without a name.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.authority)
    }

    /// The head of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.lock().unwrap().requests.clone()
    }
}

/// Answers one request. A client that has gone in between is what some tests are about.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_gone) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let path = target.split('?').next().unwrap().to_owned();
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(head);
        state.answers.get(&path).cloned()
    };
    const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    let text = match &answer {
        Some(Answer::Body(body)) => format!("{OK}Content-Length: {}\r\n\r\n{body}", body.len()),
        Some(Answer::Raw(raw)) => raw.clone(),
        Some(Answer::Endless) => format!("{OK}\r\n"),
        Some(Answer::Halfway) => format!("{OK}Content-Length: 9\r\n\r\nhalf"),
        Some(Answer::Stall) => String::new(),
        None => {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
    };
    if stream.write_all(text.as_bytes()).await.is_err() {
        return;
    }
    match answer {
        Some(Answer::Endless) => while stream.write_all(&[b' '; 4_096]).await.is_ok() {},
        Some(Answer::Stall | Answer::Halfway) => tokio::time::sleep(Duration::from_hours(1)).await,
        Some(Answer::Body(_) | Answer::Raw(_)) | None => drop(stream.shutdown().await),
    }
}
