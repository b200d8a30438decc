//! One of the demo's programs, from the inside: an ordinary workload that does as it is told.

mod clear;
mod identity;
mod mutual;
mod once;
mod tap;

use std::fmt::Display;
use std::path::Path;

use claviger_core::secret::Secret;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};

use super::mutual::greeting;
use super::orders::{Order, Report};
use crate::failure::Failure;
use identity::Me;
use once::Key;

/// Takes orders from stdin until it is closed, and reports to stdout.
pub(crate) async fn run(socket: &Path) -> Result<(), Failure> {
    let mut workload = Workload::new(socket)?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        let order = serde_json::from_str(&order).map_err(Failure::usage)?;
        let report = workload.obey(order).await;
        let report = serde_json::to_string(&report).map_err(Failure::failed)?;
        crate::console::line(report)?;
    }
    Ok(())
}

/// What it has so far.
struct Workload<'a> {
    socket: &'a Path,
    name: String,
    me: Option<Me>,
    listener: Option<TcpListener>,
    key: Option<Key>,
    /// A connection in the clear that is open.
    line: Option<TcpStream>,
    /// What it first sent over its last successful connection.
    first_flight: Vec<u8>,
}

impl<'a> Workload<'a> {
    fn new(socket: &'a Path) -> Result<Self, Failure> {
        let path = std::env::current_exe()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            socket,
            name,
            me: None,
            listener: None,
            key: None,
            line: None,
            first_flight: Vec::new(),
        })
    }

    async fn obey(&mut self, order: Order) -> Report {
        let done = match order {
            Order::Fetch => self.fetch().await,
            Order::Listen => self.listen().await,
            Order::AcceptMutual(client) => self.accept_mutual(&client).await,
            Order::ConnectMutual(call) => self.connect_mutual(call).await,
            Order::Issue { peer, purpose } => self.issue(&peer, &purpose).await,
            Order::AcceptOnce => self.accept_once().await,
            Order::ConnectOnce(at) => self.connect_once(at).await,
            Order::Replay(at) => self.replay(at).await,
            Order::AnswerInClear => self.answer_in_clear().await,
            Order::CallInClear(at) => self.call_in_clear(at).await,
            Order::AwaitEnd => self.await_end().await,
            Order::Search(file) => self.search(&file),
        };
        done.unwrap_or_else(Report::Failed)
    }

    async fn listen(&mut self) -> Result<Report, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(text)?;
        let at = listener.local_addr().map_err(text)?;
        self.listener = Some(listener);
        Ok(Report::Listening(at))
    }

    /// The next connection.
    async fn accept(&mut self) -> Result<TcpStream, String> {
        let listener = self.listener.take().ok_or("it was not told to listen")?;
        listener.accept().await.map(|(stream, _)| stream).map_err(text)
    }

    fn search(&self, file: &Path) -> Result<Report, String> {
        let key = self.key.as_ref().ok_or("it was not issued a key")?;
        let text = std::fs::read(file).map_err(text)?;
        Ok(Report::Found(spelled(&key.psk, &text)))
    }
}

/// Says who we are, hears who the other end is, and has no more to say.
async fn talk(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: &str,
) -> Result<String, String> {
    let heard = exchange(stream, name).await?;
    // All is said; the other end may be gone already.
    drop(stream.shutdown().await);
    Ok(heard)
}

/// Says who we are, and hears who the other end is.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: &str,
) -> Result<String, String> {
    /// More than anyone here says.
    const MAX: u64 = 256;

    let greeting = greeting(name) + "\n";
    stream.write_all(greeting.as_bytes()).await.map_err(text)?;
    stream.flush().await.map_err(text)?;
    let mut heard = String::new();
    BufReader::new(&mut *stream).take(MAX).read_line(&mut heard).await.map_err(text)?;
    Ok(heard.trim_end().to_owned())
}

/// Whether `secret` is in `text`: as it is, in hexadecimal, or in any base64.
fn spelled(secret: &Secret<32>, text: &[u8]) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    let bytes = secret.expose();
    let has = |spelling: &[u8]| text.windows(spelling.len()).any(|window| window == spelling);
    let spellings = [
        hex::encode(bytes),
        hex::encode_upper(bytes),
        STANDARD_NO_PAD.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
        // As serde writes an array.
        bytes.map(|byte| byte.to_string()).join(","),
    ];
    has(bytes) || spellings.into_iter().map(zeroize::Zeroizing::new).any(|one| has(one.as_bytes()))
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_recognized_in_every_spelling() {
        let secret = Secret::copy_from(&[0xfb; 32]).unwrap();
        for leak in [
            hex::encode([0xfb; 32]),
            "FB".repeat(32),
            "+/v7".repeat(10) + "+/s",
            "-_v7".repeat(10) + "-_s",
            serde_json::to_string(&[0xfb_u8; 32]).unwrap(),
        ] {
            assert!(spelled(&secret, format!("a {leak} b").as_bytes()), "{leak}");
        }
        assert!(spelled(&secret, &[[1].as_slice(), &[0xfb; 32]].concat()));
        assert!(!spelled(&secret, b"nothing"));
    }
}
