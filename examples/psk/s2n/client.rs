//! How does a program that uses s2n-tls open a connection that a one-time key authenticates? Asks the
//! agent for a key, dials, sends a line and prints the first line of the answer.
//!
//! `claviger_shim::PskConnector` does the same in a call; this is what a program does that has its own
//! configuration of s2n-tls.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use anyhow::ensure;
use clap::Parser;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose};
use claviger_examples::SocketOption;
use claviger_shim::{BrokerClient, Issued};
use s2n_tls::config::{self, Config};
use s2n_tls::connection::{Connection, ModifiedBuilder};
use s2n_tls::enums::PskHmac;
use s2n_tls::error::Error;
use s2n_tls::psk::{self, Psk};
use s2n_tls::security::Policy;
use s2n_tls_tokio::TlsConnector;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// TLS 1.3 only, X25519MLKEM768 first.
const POLICY: &str = "CloudFront-Upstream-TLS-1-3-2025-PQ";

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
    let broker = BrokerClient::new(options.agent.socket.0)?;
    let issued = broker.issue(&options.peer, &options.purpose, PskTtl::default()).await?;

    let psk = external(&issued)?;
    let with_psk = ModifiedBuilder::new(configure()?, |connection: &mut Connection| {
        connection.append_psk(&psk)?;
        Ok(connection)
    });
    let connection = TcpStream::connect(&options.address).await?;
    // An empty name sends none: an observer learns nothing about whom we dial.
    let stream = TlsConnector::new(with_psk).connect("", connection).await?;
    // What authenticated the server is the key.
    let used = stream.as_ref().negotiated_psk_identity_length()?;
    ensure!(used == issued.identity.to_string().len(), "the server did not use the key");

    let mut stream = BufStream::new(stream);
    stream.write_all(format!("{}\n", options.message).as_bytes()).await?;
    stream.flush().await?;
    let mut answer = String::new();
    (&mut stream).take(1 << 10).read_line(&mut answer).await?;
    print!("{answer}");
    stream.shutdown().await?;
    Ok(())
}

fn configure() -> Result<Config, Error> {
    let mut config = config::Builder::new();
    config
        .set_security_policy(&Policy::from_version(POLICY)?)?
        // Nobody is trusted: a server that ignores the key and shows a certificate is refused.
        .with_system_certs(false)?
        // A failed handshake would otherwise last for up to 30 s.
        .set_max_blinding_delay(0)?;
    config.build()
}

fn external(issued: &Issued) -> Result<Psk, Error> {
    let mut external = psk::Builder::new()?;
    external
        .set_identity(issued.identity.to_string().as_bytes())?
        .set_secret(issued.psk.0.expose())?
        .set_hmac(PskHmac::SHA256)?;
    external.build()
}
