//! What a handshake costs whoever answers: by a one-time key, and by X.509-SVIDs.
//!
//! Without the kernel, both ends are in one thread and in memory, and what counts is the time of the
//! thread while the server's end is polled. With it, the server has a thread and a runtime of its own, and
//! what counts is all the time of that thread: accepting, reading, writing, waiting.
//!
//! By key, it is told the key at once: what redeeming it takes, the agent and the server bear. The figures
//! of whole shims, with everything, are those of `latency`.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::secret::Secret;
use claviger_core::time::{SystemClock, UnixTime};
use claviger_runtime::tls::{Identity, Mutual, Svid, Trust, TrustBundle};
use claviger_shim::redeem::{Offer, Redeem, RedeemError, Redeemed};
use claviger_shim::{Issued, PskAcceptor, PskConnector};
use claviger_tests::bench::report;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustix::time::{ClockId, clock_gettime};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HANDSHAKES: u16 = 2_000;
const WARM_UP: u16 = 200;
/// Each way of measuring is repeated, and the least counts: the machine has other things to do.
const ROUNDS: usize = 3;
const CLIENT: &str = "spiffe://example.org/web";
const SERVER: &str = "spiffe://example.org/db";
/// Of what it takes by SVIDs.
const TARGET: f64 = 0.5;

pub(crate) async fn measure() -> bool {
    let (by_key, by_svid) = (ByKey::new(), BySvid::new());
    let (mut key, mut svid) = ([Duration::MAX; 2], [Duration::MAX; 2]);
    for _round in 0..ROUNDS {
        key[0] = key[0].min(in_memory(&by_key).await);
        svid[0] = svid[0].min(in_memory(&by_svid).await);
        key[1] = key[1].min(over_tcp(&by_key).await);
        svid[1] = svid[1].min(over_tcp(&by_svid).await);
    }
    let mut met = true;
    for (at, how) in ["in memory", "over TCP, the server's whole thread"].iter().enumerate() {
        let ratio = key[at].as_secs_f64() / svid[at].as_secs_f64();
        let figure = format!(
            "{:.0} µs by one-time key, {:.0} µs by SVIDs (rustls, P-256, both ends verified): {ratio:.2}×",
            micros(key[at]),
            micros(svid[at]),
        );
        let what = format!("server CPU of a handshake with X25519MLKEM768, {how}");
        met &= report(&what, &figure, &format!("{TARGET:.2}×"), ratio <= TARGET);
    }
    met
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// Both ends of one kind of handshake.
trait Kind: Clone + Send + 'static {
    /// What the client has for the handshake of this number, made before it is measured.
    fn prepare(&self, number: u16);
    async fn dial(&self, number: u16, io: impl Io);
    fn answer(&self, io: impl Io) -> impl Future<Output = ()>;
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for S {}

/// Counts the time of the thread while a future is polled.
struct Metered<'a, F>(Pin<&'a mut F>, Duration);

impl<F: Future<Output = ()>> Future for Metered<'_, F> {
    type Output = Duration;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Duration> {
        let before = thread_time();
        let polled = self.0.as_mut().poll(cx);
        self.1 += thread_time().saturating_sub(before);
        polled.map(|()| self.1)
    }
}

async fn in_memory(kind: &impl Kind) -> Duration {
    let mut total = Duration::ZERO;
    for number in 0..WARM_UP + HANDSHAKES {
        kind.prepare(number);
        let (near, far) = duplex(64 << 10);
        let answer = pin!(kind.answer(far));
        let metered = Metered(answer, Duration::ZERO);
        let (took, ()) = tokio::join!(metered, kind.dial(number, near));
        if WARM_UP <= number {
            total += took;
        }
    }
    total / u32::from(HANDSHAKES)
}

async fn over_tcp(kind: &impl Kind) -> Duration {
    let (tell, told) = tokio::sync::oneshot::channel();
    let server = kind.clone();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let mut before = Duration::ZERO;
            for number in 0..WARM_UP + HANDSHAKES {
                if number == WARM_UP {
                    before = thread_time();
                }
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                server.answer(tcp).await;
            }
            (thread_time() - before) / u32::from(HANDSHAKES)
        })
    });
    let address = told.await.unwrap();
    for number in 0..WARM_UP + HANDSHAKES {
        kind.prepare(number);
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        kind.dial(number, tcp).await;
    }
    thread.join().unwrap()
}

/// By one-time keys, which are known to both ends.
#[derive(Clone)]
struct ByKey {
    acceptor: PskAcceptor,
    connector: PskConnector,
    keys: Known,
}

#[derive(Clone, Debug, Default)]
struct Known(Arc<Mutex<HashMap<WireIdentity, u16>>>);

fn psk(number: u16) -> Psk {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Psk(Secret::copy_from(&bytes).unwrap())
}

fn identity(number: u16) -> WireIdentity {
    let mut bytes = [9; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    WireIdentity::from_bytes(bytes)
}

#[async_trait]
impl Redeem for Known {
    async fn redeem(&self, offer: &Offer) -> Result<Redeemed, RedeemError> {
        let number = self.0.lock().unwrap().remove(&offer.identity).ok_or(RedeemError::Refused)?;
        Ok(Redeemed {
            psk: psk(number),
            client: CLIENT.parse().unwrap(),
            server: SERVER.parse().unwrap(),
            purpose: "bench".parse().unwrap(),
            not_after: UnixTime::from_secs(u64::MAX),
            run: None,
        })
    }
}

impl ByKey {
    fn new() -> Self {
        let keys = Known::default();
        let acceptor = PskAcceptor::new(keys.clone()).unwrap();
        Self { acceptor, connector: PskConnector::new().unwrap(), keys }
    }
}

impl Kind for ByKey {
    fn prepare(&self, number: u16) {
        self.keys.0.lock().unwrap().insert(identity(number), number);
    }

    async fn dial(&self, number: u16, io: impl Io) {
        let issued = Issued {
            identity: identity(number),
            psk: psk(number),
            client: CLIENT.parse().unwrap(),
            server: SERVER.parse().unwrap(),
            purpose: "bench".parse().unwrap(),
            not_after: UnixTime::from_secs(u64::MAX),
            run: None,
        };
        self.connector.connect(io, issued).await.unwrap();
    }

    async fn answer(&self, io: impl Io) {
        self.acceptor.accept(io).await.unwrap();
    }
}

/// By SVIDs of one authority, with the validation that the shim has.
#[derive(Clone)]
struct BySvid {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl BySvid {
    fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let end = |id: &str| {
            let mut svid = CertificateParams::default();
            svid.distinguished_name.push(DnType::OrganizationName, "bench");
            svid.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
            svid.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            svid.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let leaf = svid.signed_by(&key, &ca).unwrap();
            let svid = Svid::new(vec![leaf.der().clone()], &key.serialize_der()).unwrap();
            let authority = CertificateDer::from(ca.der().to_vec());
            let bundle = TrustBundle::new("example.org".parse().unwrap(), &[authority]).unwrap();
            Mutual {
                identity: Identity::new(svid),
                trust: Trust::from(bundle),
                provider: Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()),
                clock: Arc::new(SystemClock),
            }
        };
        let connector = end(CLIENT).client_config(SERVER.parse().unwrap()).unwrap();
        Self { acceptor: end(SERVER).server_config().unwrap().into(), connector: connector.into() }
    }
}

impl Kind for BySvid {
    fn prepare(&self, _number: u16) {}

    async fn dial(&self, _number: u16, io: impl Io) {
        let name = ServerName::try_from("db.internal").unwrap();
        self.connector.connect(name, io).await.unwrap();
    }

    async fn answer(&self, io: impl Io) {
        self.acceptor.accept(io).await.unwrap();
    }
}
