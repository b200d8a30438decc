//! How do I accept connections authenticated by one-time keys? Listens on TCP, prints who calls and
//! why, greets the caller by name, and sends back what it is sent.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use claviger_core::psk::Purpose;
use claviger_examples::SocketOption;
use claviger_runtime::tasks::{ShutdownSignals, Tasks};
use claviger_runtime::telemetry::Chain;
use claviger_shim::{BrokerClient, PskAcceptor};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    agent: SocketOption,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// Serve only callers who come for this; all others are let in and shown out.
    #[arg(long)]
    purpose: Option<Purpose>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();

    // Keys are redeemed by the agent, which asks the server. This program holds no secret.
    let broker = BrokerClient::new(options.agent.socket.0)?;
    let acceptor = PskAcceptor::new(broker)?;

    let listener = TcpListener::bind(options.listen).await?;
    println!("listening on {}", listener.local_addr()?);

    let tasks = Tasks::default();
    let mut signals = ShutdownSignals::listen()?;
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (connection, address) = connection?;
                let (acceptor, purpose) = (acceptor.clone(), options.purpose.clone());
                tasks.spawn("connection", move |_stop| async move {
                    // The peer learns nothing of the reason; we may.
                    if let Err(error) = serve(&acceptor, purpose, connection).await {
                        println!("{address} refused: {}", Chain(&*error));
                    }
                    Ok(())
                });
            }
            _signal = signals.next() => break,
        }
    }
    tasks.stop();
    tasks.drained(Duration::from_secs(2)).await;
    Ok(())
}

async fn serve(
    acceptor: &PskAcceptor,
    purpose: Option<Purpose>,
    connection: TcpStream,
) -> anyhow::Result<()> {
    // From here on it is known who is at the other end: nobody else had this key, and it will
    // never work again.
    let mut stream = acceptor.accept(connection).await?;
    let peer = stream.ends().clone();
    println!("{} calls {} for {}", peer.client, peer.server, peer.purpose);
    if let Some(run) = &peer.run {
        println!("  in its run {run}");
    }
    println!("  protected by {} and {}", peer.group, peer.suite);
    if purpose.is_some_and(|wanted| wanted != peer.purpose) {
        stream.shutdown().await?;
        anyhow::bail!("not what this server is for");
    }

    stream.write_all(format!("hello {}\n", peer.client).as_bytes()).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?; // Tells the peer that this is the end, and not a cut.
    Ok(())
}
