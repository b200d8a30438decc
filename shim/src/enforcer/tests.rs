//! Connections that may be, may not be, and may not be any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use claviger_core::bundle::{TokenAuthority, json};
use claviger_core::jose::{Algorithm, PublicKey};
use claviger_core::policies::{self, PoliciesContents, PolicyTtl};
use claviger_core::time::UnixTime;
use claviger_policy::Source;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_proto::claviger::policy::v1::{SignedPolicies, WatchResponse};
use claviger_proto::workload::JwtBundlesResponse;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::fixture::{CLIENT, FakeBroker, SERVER};
use crate::{AcceptError, ConnectError, PskAcceptor, PskConnector, Tunnel};

const PERMIT: &str = r#"permit (principal, action == Action::"connect", resource);"#;
const FORBID: &str = r#"
    permit (principal, action == Action::"connect", resource);
    @id("closed") @reason("closed for the night")
    forbid (principal, action == Action::"connect", resource);
"#;
const CALM: &str = r#"
    permit (principal, action == Action::"connect", resource) when { context.risk < 50 };
"#;
const STRONG: &str = r#"
    permit (principal, action == Action::"connect", resource)
    when { context has transport && context.transport.post_quantum };
"#;

const EXPIRES: u64 = 4_600;

#[derive(Debug)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// An enforcer, and what its agent says.
struct World {
    enforcer: Enforcer,
    follower: Follower,
    clock: Arc<Hands>,
    key: EcdsaKeyPair,
    announced: u64,
    said: u64,
}

impl World {
    async fn new(policies: &str) -> Self {
        let mut world = Self::empty(9);
        world.trust().await;
        world.announce(policies).await;
        world
    }

    /// Nothing was said yet.
    fn empty(most: usize) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(1_000)));
        let domain = "example.org".parse().unwrap();
        let enforcer = Enforcer::new(domain, most, Arc::<Hands>::clone(&clock));
        let follower = Follower::new(enforcer.clone(), "/nonexistent/agent.sock".into()).unwrap();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { enforcer, follower, clock, key, announced: 0, said: 0 }
    }

    /// The agent says that the key is the trust domain's.
    async fn trust(&mut self) {
        let spki: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        let public_key = PublicKey::from_spki(spki.as_ref()).unwrap();
        let key_id = "k".to_owned();
        self.keys(&[TokenAuthority { key_id, public_key, expires_at: None, tainted: false }]).await;
    }

    async fn keys(&mut self, keys: &[TokenAuthority]) {
        let document = json::jwks(keys, json::Use::JwtSvid).into_bytes().into();
        let bundles = HashMap::from([("spiffe://example.org".to_owned(), document)]);
        let message = JwtBundlesResponse { bundles: bundles.into_iter().collect() };
        self.follower.take_keys(&message).await.unwrap();
    }

    async fn announce(&mut self, text: &str) {
        self.announced += 1;
        let source = Source::new(vec![("a.cedar".to_owned(), text.to_owned())]);
        let contents = PoliciesContents {
            trust_domain: "example.org".parse().unwrap(),
            version: self.announced,
            sha256: policies::sha256(&source.to_bytes()),
            policy: source.digest(),
            ttl: PolicyTtl::HOUR,
        };
        let ends = UnixTime::from_secs(EXPIRES);
        let claims = contents.claims(UnixTime::from_secs(1_000), ends);
        let sign = |message: &[u8]| {
            self.key
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
        };
        let token = policies::encode(Algorithm::Es256, "k", &claims, sign).unwrap();
        self.offer(token, source.to_bytes()).await;
    }

    async fn offer(&mut self, token: String, policies: Vec<u8>) {
        let policies = Some(SignedPolicies { token, policies: policies.into() });
        self.follower.take_in(WatchResponse { policies, standings: None }).await.unwrap();
    }

    async fn stand(&mut self, id: &str, risk: u32, quarantined: bool) {
        self.said += 1;
        let (spiffe_id, version) = (id.to_owned(), self.said);
        let one = wire::Standing { spiffe_id, risk, quarantined, changed_at: 1, version };
        let standings = wire::Standings { upserts: vec![one], version, ..Default::default() };
        let message = WatchResponse { policies: None, standings: Some(standings) };
        self.follower.take_in(message).await.unwrap();
    }

    fn admit(&self) -> Result<Admitted, Denied> {
        self.between(CLIENT, SERVER)
    }

    fn between(&self, client: &str, server: &str) -> Result<Admitted, Denied> {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let transport = Some(transport("X25519MLKEM768"));
        self.enforcer.admit(client, server, "test".parse().unwrap(), transport)
    }

    /// The two ends of a connection.
    async fn connect(&self) -> (Result<Tunnel, AcceptError>, Result<Tunnel, ConnectError>) {
        let broker = FakeBroker::default();
        let issued = broker.issue(1);
        let acceptor = PskAcceptor::new(broker).unwrap().enforced_by(self.enforcer.clone());
        let connector = PskConnector::new().unwrap().enforced_by(self.enforcer.clone());
        let (near, far) = duplex(64 << 10);
        tokio::join!(acceptor.accept(far), connector.connect(near, issued))
    }
}

fn quarantined(id: &str) -> Denied {
    Denied::Undecided(Undecided::Quarantined(id.parse().unwrap()))
}

#[tokio::test]
async fn nothing_may_begin_before_there_are_policies() {
    let mut world = World::empty(9);
    let none = Denied::Undecided(Undecided::NoPolicies);
    assert_eq!(world.admit().unwrap_err(), none);
    world.announce(PERMIT).await;
    assert_eq!(world.admit().unwrap_err(), none, "there is no key to verify them with");
    world.trust().await;
    world.enforcer.ready().await;
    assert_eq!(world.admit().unwrap().over(), None);
}

#[tokio::test]
async fn policies_that_nobody_signed_are_not_decided_by() {
    let mut world = World::new(PERMIT).await;
    let source = Source::new(vec![("a.cedar".to_owned(), PERMIT.to_owned())]);
    let strange = World::new(PERMIT).await.follower.offered.unwrap();
    world.offer(strange.token.clone(), source.to_bytes()).await;
    assert_eq!(world.admit().unwrap_err(), Denied::Undecided(Undecided::NoPolicies));

    let mut world = World::new(FORBID).await;
    let token = world.follower.offered.clone().unwrap().token.clone();
    world.offer(token, source.to_bytes()).await;
    assert!(matches!(world.admit().unwrap_err(), Denied::Policy { .. }));
}

#[tokio::test]
async fn who_is_denied_is_so_by_a_policy_for_a_reason() {
    let world = World::new(FORBID).await;
    let said = world.admit().unwrap_err().to_string();
    assert!(said.contains("a.cedar#closed") && said.contains("closed for the night"), "{said}");
    let world = World::new("").await;
    let said = world.admit().unwrap_err().to_string();
    assert_eq!(said, "the policies do not permit this connection: nothing permits it");
}

#[tokio::test]
async fn a_quarantine_ends_what_either_end_has() {
    let mut world = World::new(PERMIT).await;
    let (one, other) = (world.admit().unwrap(), world.between(SERVER, SERVER).unwrap());
    let elsewhere = world.between("spiffe://example.org/x", "spiffe://example.org/y").unwrap();
    world.stand(CLIENT, 0, true).await;
    assert!(one.token().is_cancelled());
    assert_eq!(one.over(), Some(&quarantined(CLIENT)));
    assert_eq!((other.over(), elsewhere.over()), (None, None));
    world.stand(SERVER, 0, true).await;
    assert_eq!(other.over(), Some(&quarantined(SERVER)));
    assert_eq!((elsewhere.over(), world.enforcer.count()), (None, 1));
    assert_eq!(world.admit().unwrap_err(), quarantined(CLIENT));

    world.stand(CLIENT, 0, false).await;
    world.stand(SERVER, 0, false).await;
    assert_eq!(world.admit().unwrap().over(), None);
    assert!(one.token().is_cancelled(), "what has ended does not come back");
}

#[tokio::test]
async fn a_risk_that_the_policies_do_not_permit_ends_a_connection() {
    let mut world = World::new(CALM).await;
    let admitted = world.admit().unwrap();
    world.stand(SERVER, 49, false).await;
    assert_eq!(admitted.over(), None);
    world.stand(SERVER, 50, false).await;
    assert!(matches!(admitted.over(), Some(Denied::Policy { .. })), "{:?}", admitted.over());
}

#[tokio::test]
async fn other_policies_end_what_they_do_not_permit() {
    let mut world = World::new(PERMIT).await;
    let admitted = world.admit().unwrap();
    world.announce(STRONG).await;
    assert_eq!(admitted.over(), None);
    world.announce(FORBID).await;
    assert!(matches!(admitted.over(), Some(Denied::Policy { .. })));
}

#[tokio::test]
async fn how_a_connection_is_protected_counts() {
    let world = World::new(STRONG).await;
    let admit = |group: &str| {
        let (client, server) = (CLIENT.parse().unwrap(), SERVER.parse().unwrap());
        let transport = Some(transport(group));
        world.enforcer.admit(client, server, "test".parse().unwrap(), transport).map(drop)
    };
    assert_eq!(admit("X25519MLKEM768"), Ok(()));
    admit("x25519").unwrap_err();
    let (client, server) = (CLIENT.parse().unwrap(), SERVER.parse().unwrap());
    world.enforcer.admit(client, server, "test".parse().unwrap(), None).unwrap_err();
}

#[tokio::test]
async fn what_is_signed_by_a_key_that_is_believed_no_more_ends() {
    let mut world = World::new(PERMIT).await;
    let admitted = world.admit().unwrap();
    world.keys(&[]).await;
    assert_eq!(admitted.over(), Some(&Denied::Undecided(Undecided::NoPolicies)));
    world.trust().await;
    assert_eq!(world.admit().unwrap().over(), None);
}

#[tokio::test(start_paused = true)]
async fn when_the_time_of_the_policies_is_over_everything_ends() {
    let world = World::new(PERMIT).await;
    let admitted = world.admit().unwrap();
    let expiring = world.enforcer.clone();
    let ending = async {
        tokio::time::sleep(Duration::from_secs(3_000)).await;
        assert_eq!(admitted.over(), None);
        world.clock.0.store(EXPIRES, Ordering::Relaxed);
        admitted.token().cancelled().await;
    };
    tokio::select! {
        () = expiring.end_what_expires() => {}
        () = ending => {}
    }
    assert!(matches!(admitted.over(), Some(Denied::Undecided(Undecided::Untimely(_)))));
    world.admit().unwrap_err();
    assert_eq!(world.enforcer.count(), 0);
}

#[tokio::test]
async fn there_is_no_room_for_more_than_were_asked_for() {
    let mut world = World::empty(1);
    world.trust().await;
    world.announce(PERMIT).await;
    let admitted = world.admit().unwrap();
    assert_eq!(world.admit().unwrap_err(), Denied::Full(1));
    drop(admitted);
    assert_eq!(world.enforcer.count(), 0);
    assert_eq!(world.admit().unwrap().over(), None);
}

#[tokio::test]
async fn who_is_nobody_has_no_connections() {
    let world = World::new(PERMIT).await;
    let admitted = world.admit().unwrap();
    world.enforcer.somebody(false);
    assert_eq!(admitted.over(), Some(&Denied::Nobody));
    assert_eq!(world.admit().unwrap_err(), Denied::Nobody);
    world.enforcer.somebody(true);
    assert_eq!(world.admit().unwrap().over(), None);
}

#[tokio::test]
async fn a_stream_ends_at_once_for_who_waits_to_read_and_for_who_writes() {
    let mut world = World::new(PERMIT).await;
    let (server, client) = world.connect().await;
    let (mut server, client) = (server.unwrap(), client.unwrap());
    assert_eq!(world.enforcer.count(), 2);
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(b"ping").await.unwrap();
    let mut ping = [0; 4];
    server.read_exact(&mut ping).await.unwrap();

    let quarantine = async {
        tokio::task::yield_now().await;
        world.stand(CLIENT, 0, true).await;
    };
    let (read, ()) = tokio::join!(reader.read_u8(), quarantine);
    let error = read.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(error.to_string().contains("in quarantine"), "{error}");
    let error = writer.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(server.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    server.export(b"EXPORTER-test", b"", &mut [0; 32]).unwrap_err();
    assert_eq!(world.enforcer.count(), 0);
}

#[tokio::test]
async fn who_may_not_connect_is_refused_like_everybody() {
    let world = World::new(FORBID).await;
    let (server, client) = world.connect().await;
    let error = server.unwrap_err();
    assert!(matches!(error, AcceptError::Denied(Denied::Policy { .. })), "{error}");
    let error = client.unwrap_err();
    assert!(matches!(error, ConnectError::Denied(Denied::Policy { .. })), "{error}");
    assert_eq!(world.enforcer.count(), 0);
}

#[tokio::test]
async fn a_stream_that_is_dropped_counts_no_more() {
    let world = World::new(PERMIT).await;
    let ends = world.connect().await;
    assert_eq!(world.enforcer.count(), 2);
    drop(ends);
    assert_eq!(world.enforcer.count(), 0);
}

#[tokio::test]
async fn what_is_no_word_of_an_agents_is_not_taken_in() {
    let mut world = World::new(PERMIT).await;
    let strange = [
        wire::Standing { spiffe_id: "x".to_owned(), ..wire::Standing::default() },
        wire::Standing { spiffe_id: CLIENT.to_owned(), risk: 101, ..wire::Standing::default() },
    ];
    for one in strange {
        let standings = wire::Standings { upserts: vec![one], ..Default::default() };
        let message = WatchResponse { policies: None, standings: Some(standings) };
        world.follower.take_in(message).await.unwrap_err();
    }
    assert_eq!(world.admit().unwrap().over(), None);
}
