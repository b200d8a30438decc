//! Connections in the clear, of a program that knows nothing of TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::{Workload, exchange, text};
use crate::demo::orders::Report;

/// How long it tries to connect while nobody listens yet.
const PATIENCE: Duration = Duration::from_secs(20);

impl Workload<'_> {
    pub(super) async fn answer_in_clear(&mut self) -> Result<Report, String> {
        let stream = self.accept().await?;
        self.talk_in_clear(stream).await
    }

    pub(super) async fn call_in_clear(&mut self, at: SocketAddr) -> Result<Report, String> {
        let stream = connect(at).await.map_err(text)?;
        self.talk_in_clear(stream).await
    }

    async fn talk_in_clear(&mut self, mut stream: TcpStream) -> Result<Report, String> {
        match exchange(&mut stream, &self.name).await {
            Ok(heard) if !heard.is_empty() => {
                self.line = Some(stream);
                Ok(Report::Heard(heard))
            }
            // However it ends, nothing was said.
            Ok(_) | Err(_) => Ok(Report::HungUp(String::new())),
        }
    }

    /// What comes until the connection ends.
    pub(super) async fn await_end(&mut self) -> Result<Report, String> {
        /// More than anyone here says.
        const MAX: u64 = 256;

        let stream = self.line.take().ok_or("it is not connected")?;
        let mut rest = Vec::new();
        match stream.take(MAX).read_to_end(&mut rest).await {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error.to_string()),
            Ok(_) | Err(_) => Ok(Report::HungUp(hex::encode(rest))),
        }
    }
}

async fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(at).await {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && begun.elapsed() < PATIENCE =>
            {
                sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}
