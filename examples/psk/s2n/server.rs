//! How does a program that uses s2n-tls accept connections authenticated by one-time keys? Its callback
//! shows the agent the ClientHello, so a key is spent only by whoever holds it, and waits for the answer
//! without holding up anybody else.
//!
//! `claviger_shim::PskAcceptor` does the same and more: it refuses everything that is wrong in one way and
//! in one time. This is what a program does that has its own configuration of s2n-tls.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::rand;
use clap::Parser;
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::psk::identity::WireIdentity;
use claviger_examples::SocketOption;
use claviger_runtime::tasks::{ShutdownSignals, Tasks};
use claviger_runtime::telemetry::Chain;
use claviger_shim::BrokerClient;
use claviger_shim::client_hello::ClientHello;
use claviger_shim::redeem::{Offer, Redeem as _, RedeemError, Redeemed};
use s2n_tls::callbacks::{ClientHelloCallback, ConnectionFuture};
use s2n_tls::config::{self, Config};
use s2n_tls::connection::Connection;
use s2n_tls::enums::PskHmac;
use s2n_tls::error::Error;
use s2n_tls::psk::{self, Psk};
use s2n_tls::security::Policy;
use s2n_tls_tokio::TlsAcceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// TLS 1.3 only, X25519MLKEM768 first.
const POLICY: &str = "CloudFront-Upstream-TLS-1-3-2025-PQ";

/// How long a stranger may take to prove that it is none.
const HANDSHAKE: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    agent: SocketOption,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// What callers have to come for.
    #[arg(long)]
    purpose: Purpose,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { agent, listen, purpose } = Options::parse();
    let acceptor = TlsAcceptor::new(configure(BrokerClient::new(agent.socket.0)?, purpose)?);
    let listener = TcpListener::bind(listen).await?;
    println!("listening");

    let tasks = Tasks::default();
    let mut signals = ShutdownSignals::listen()?;
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (connection, address) = connection?;
                let acceptor = acceptor.clone();
                tasks.spawn("connection", move |_stop| async move {
                    if let Err(error) = serve(&acceptor, connection).await {
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

fn configure(broker: BrokerClient, purpose: Purpose) -> Result<Config, Error> {
    let mut config = config::Builder::new();
    config
        .set_security_policy(&Policy::from_version(POLICY)?)?
        // No certificate is loaded: with one, a client without a key would be let in.
        .with_system_certs(false)?
        // A failed handshake would otherwise last for up to 30 s.
        .set_max_blinding_delay(0)?
        .set_client_hello_callback(Redeemer { broker, purpose })?;
    config.build()
}

async fn serve(acceptor: &TlsAcceptor<Config>, connection: TcpStream) -> anyhow::Result<()> {
    let mut stream = timeout(HANDSHAKE, acceptor.accept(connection)).await??;
    // What authenticated the client is the key.
    let tls: &Connection = stream.as_ref();
    let caller = tls.application_context::<Caller>().context("no key was redeemed")?;
    let Caller { identity, client, purpose } = caller;
    let mut used = vec![0; tls.negotiated_psk_identity_length()?];
    anyhow::ensure!(!used.is_empty(), "the client did not use the key");
    tls.negotiated_psk_identity(&mut used)?;
    anyhow::ensure!(used == identity.to_string().as_bytes(), "the client used another key");
    println!("{client} for {purpose}");

    let answer = format!("hello {client}\n");
    if 0 < stream.read(&mut [0; 1024]).await? {
        stream.write_all(answer.as_bytes()).await?;
    }
    stream.shutdown().await?;
    Ok(())
}

/// Who is at the other end of a connection.
struct Caller {
    identity: WireIdentity,
    client: SpiffeId,
    purpose: Purpose,
}

struct Redeemer {
    broker: BrokerClient,
    purpose: Purpose,
}

impl ClientHelloCallback for Redeemer {
    fn on_client_hello(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Pin<Box<dyn ConnectionFuture>>>, Error> {
        let ClientHello { identity, transcript, binder } = client_hello(connection)?;
        let mut attempt = [0; 16];
        rand::fill(&mut attempt).map_err(|error| Error::application(error.into()))?;
        let offer = Offer { attempt, identity, transcript, binder };
        let broker = self.broker.clone();
        let redeemed = Box::pin(async move { broker.redeem(&offer).await });
        let purpose = self.purpose.clone();
        Ok(Some(Box::pin(Redeeming { identity, purpose, redeemed: Mutex::new(redeemed) })))
    }
}

/// The ClientHello as it came: s2n-tls gives it out without its header and its random bytes.
fn client_hello(connection: &Connection) -> Result<ClientHello, Error> {
    const BEFORE_RANDOM: usize = 4 + 2;

    let hello = connection.client_hello()?;
    let body = hello.raw_message()?;
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = [&[1], length.as_slice(), body.as_slice()].concat();
    let random = hello.random()?;
    for (place, byte) in message.iter_mut().skip(BEFORE_RANDOM).zip(random) {
        *place = byte;
    }
    ClientHello::parse(&message).map_err(|error| Error::application(error.into()))
}

/// What the agent will say.
type Answer = Pin<Box<dyn Future<Output = Result<Redeemed, RedeemError>> + Send>>;

/// The key on its way. s2n-tls wants what it waits for to be `Sync`, hence the mutex; nobody locks it.
struct Redeeming {
    identity: WireIdentity,
    purpose: Purpose,
    redeemed: Mutex<Answer>,
}

impl ConnectionFuture for Redeeming {
    fn poll(
        mut self: Pin<&mut Self>,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let redeemed = self.redeemed.get_mut().unwrap_or_else(PoisonError::into_inner);
        let redeemed = ready!(redeemed.as_mut().poll(context));
        let redeemed = redeemed.map_err(|error| Error::application(error.into()))?;
        let Redeemed { psk, client, purpose, .. } = redeemed;
        if purpose != self.purpose {
            return Poll::Ready(Err(Error::application("not what this server is for".into())));
        }
        connection.append_psk(&external(self.identity, psk.0.expose())?)?;
        connection.set_application_context(Caller { identity: self.identity, client, purpose });
        Poll::Ready(Ok(()))
    }
}

fn external(identity: WireIdentity, key: &[u8]) -> Result<Psk, Error> {
    let mut external = psk::Builder::new()?;
    external
        .set_identity(identity.to_string().as_bytes())?
        .set_secret(key)?
        .set_hmac(PskHmac::SHA256)?;
    external.build()
}
