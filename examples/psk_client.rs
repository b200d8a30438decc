//! How do I open a connection that a one-time key authenticates? Asks the agent for a key, dials,
//! sends a line and prints the first line of the answer.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use clap::Parser;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose};
use claviger_examples::SocketOption;
use claviger_shim::{BrokerClient, PskConnector};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    agent: SocketOption,
    /// Whom to talk to: nobody else can answer.
    #[arg(long)]
    peer: SpiffeId,
    /// What for; the policy decides, and the peer is told.
    #[arg(long)]
    purpose: Purpose,
    /// Where the peer listens.
    #[arg(long, default_value = "127.0.0.1:7443")]
    address: String,
    /// What to say.
    #[arg(long, default_value = "hello")]
    message: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();

    // A key for exactly one connection, to exactly this peer, for exactly this purpose.
    let broker = BrokerClient::new(options.agent.socket.0)?;
    let issued = broker.issue(&options.peer, &options.purpose, PskTtl::default()).await?;

    // The connector fails unless the peer proves that it holds the key: there is no certificate to
    // check, and no other way in.
    let connection = TcpStream::connect(&options.address).await?;
    let stream = PskConnector::new()?.connect(connection, issued).await?;
    println!("{} talks to {}", stream.ends().client, stream.ends().server);

    let mut stream = BufStream::new(stream);
    stream.write_all(format!("{}\n", options.message).as_bytes()).await?;
    stream.flush().await?;
    let mut answer = String::new();
    (&mut stream).take(1 << 10).read_line(&mut answer).await?;
    print!("{answer}");
    stream.shutdown().await?; // Tells the peer that this is the end, and not a cut.
    Ok(())
}
