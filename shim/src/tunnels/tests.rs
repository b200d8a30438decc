use std::time::Duration;

use tokio::io::duplex;

use super::*;
use crate::fixture::{CLIENT, FakeBroker, SERVER};
use crate::route::{Callers, Destinations, Door, Lifetime};
use crate::svid::fixture::{Agent, Authority, clock};
use crate::wanted::Unwanted;

const LIFETIME: Lifetime =
    Lifetime { idle: Duration::from_secs(600), max_age: Duration::from_secs(28_800) };

fn destination(peer: &str) -> Destination {
    Destination { at: "db.internal:8443".parse().unwrap(), peer: peer.parse().unwrap() }
}

fn outbound(mode: Mode) -> Outbound {
    Outbound {
        name: "db".to_owned(),
        door: Door::Unix("/run/db.sock".into()),
        callers: Callers::Anybody,
        destinations: Destinations::One(destination(SERVER)),
        mode,
        purpose: "test".parse().unwrap(),
        prefetch: 0,
        lifetime: LIFETIME,
    }
}

fn inbound(mode: Mode) -> Inbound {
    Inbound {
        name: "db".to_owned(),
        listen: "127.0.0.1:8443".parse().unwrap(),
        to: "127.0.0.1:5432".parse().unwrap(),
        mode,
        purpose: "test".parse().unwrap(),
        peers: None,
        proxy_header: None,
        lifetime: LIFETIME,
    }
}

fn tunnels(broker: &FakeBroker) -> Tunnels {
    within(Profile::default(), broker)
}

fn within(profile: Profile, broker: &FakeBroker) -> Tunnels {
    let broker = Arc::new(broker.clone());
    let keys = Arc::<FakeBroker>::clone(&broker);
    Tunnels::new(keys, profile, clock(), &Tasks::default()).unwrap().redeeming(broker)
}

/// The two ends' views of one handshake in memory.
async fn shake_hands(
    tunnels: &Tunnels,
    inbound: &Inbound,
) -> (Result<Tunnel, AnswerError>, Result<Tunnel, DialError>) {
    let (near, far) = duplex(64 << 10);
    let (route, to) = (outbound(inbound.mode), destination(SERVER));
    tokio::join!(tunnels.answer(far, inbound), tunnels.dial(near, &route, &to))
}

#[tokio::test]
async fn each_tunnel_by_keys_spends_one_of_its_own() {
    let broker = FakeBroker::default();
    let tunnels = tunnels(&broker);
    for number in 1..=2 {
        let (server, client) = shake_hands(&tunnels, &inbound(Mode::Psk)).await;
        assert_eq!(server.unwrap().ends(), client.unwrap().ends());
        assert!(broker.is_spent(number));
    }
    assert_eq!(broker.issued(), 2);
}

#[tokio::test]
async fn a_key_for_something_else_does_not_open_this_way_in() {
    let tunnels = tunnels(&FakeBroker::default());
    let other = Inbound { purpose: "other".parse().unwrap(), ..inbound(Mode::Psk) };
    let (server, client) = shake_hands(&tunnels, &other).await;
    let error = server.unwrap_err();
    assert!(
        matches!(error, AnswerError::Psk(AcceptError::Unwanted(Unwanted::Purpose { .. }))),
        "{error}"
    );
    client.unwrap_err();
}

#[tokio::test]
async fn who_is_not_among_the_peers_stays_out() {
    let tunnels = tunnels(&FakeBroker::default());
    let only =
        |id: &str| Inbound { peers: Some([id.parse().unwrap()].into()), ..inbound(Mode::Psk) };
    let (server, client) = shake_hands(&tunnels, &only(SERVER)).await;
    let error = server.unwrap_err();
    assert!(matches!(error, AnswerError::Psk(AcceptError::Unwanted(Unwanted::Peer(_)))), "{error}");
    client.unwrap_err();
    let (server, client) = shake_hands(&tunnels, &only(CLIENT)).await;
    assert_eq!(server.unwrap().ends(), client.unwrap().ends());
}

#[tokio::test]
async fn what_is_only_observed_has_no_tunnels() {
    let tunnels = tunnels(&FakeBroker::default());
    let (server, client) = shake_hands(&tunnels, &inbound(Mode::Observe)).await;
    assert!(matches!(server.unwrap_err(), AnswerError::Observed));
    assert!(matches!(client.unwrap_err(), DialError::Observed));
}

#[tokio::test]
async fn keys_are_no_way_into_a_route_of_svids_nor_svids_into_one_of_keys() {
    let ca = Authority::new("example.org");
    let (client, server) = (Agent::new(ca.says(CLIENT, 200)), Agent::new(ca.says(SERVER, 201)));
    let broker = FakeBroker::default();
    let (dialling, answering) = (
        tunnels(&broker).presenting(client.svids.clone()),
        tunnels(&broker).presenting(server.svids.clone()),
    );
    let between = async |out: Mode, into: Mode| {
        let (near, far) = duplex(64 << 10);
        let (route, to, inbound) = (outbound(out), destination(SERVER), inbound(into));
        tokio::join!(answering.answer(far, &inbound), dialling.dial(near, &route, &to))
    };
    for (out, into) in [(Mode::Psk, Mode::Mtls), (Mode::Mtls, Mode::Psk)] {
        let (server, client) = between(out, into).await;
        server.unwrap_err();
        client.unwrap_err();
    }
    let (server, client) = between(Mode::Mtls, Mode::Mtls).await;
    assert_eq!(server.unwrap().ends(), client.unwrap().ends());
    // The key that went to the wrong door was never spent.
    assert!(!broker.is_spent(1));
}

#[tokio::test]
async fn what_there_is_nobody_for_is_said() {
    let broker = FakeBroker::default();
    let (server, client) = shake_hands(&tunnels(&broker), &inbound(Mode::Mtls)).await;
    assert!(matches!(server.unwrap_err(), AnswerError::NoSvids));
    assert!(matches!(client.unwrap_err(), DialError::NoSvids));
    let keys = Arc::new(broker.clone());
    let dialling = Tunnels::new(keys, Profile::default(), clock(), &Tasks::default()).unwrap();
    let (server, client) = shake_hands(&dialling, &inbound(Mode::Psk)).await;
    assert!(matches!(server.unwrap_err(), AnswerError::NoBroker));
    client.unwrap_err();
}

#[tokio::test]
async fn a_profile_without_one_time_keys_has_no_tunnels_by_them() {
    Profile::Cnsa2.check(Mode::Psk).unwrap_err();
    Profile::Cnsa2.check(Mode::Mtls).unwrap();
    let broker = FakeBroker::default();
    let (server, client) = shake_hands(&within(Profile::Cnsa2, &broker), &inbound(Mode::Psk)).await;
    assert!(matches!(server.unwrap_err(), AnswerError::Profile(ProfileError)));
    assert!(matches!(client.unwrap_err(), DialError::Profile(ProfileError)));
    assert_eq!(broker.issued(), 0);
}

#[tokio::test]
async fn a_refused_key_takes_those_beside_it_along() {
    let broker = FakeBroker::default();
    let tunnels = tunnels(&broker);
    let (route, to) = (Outbound { prefetch: 2, ..outbound(Mode::Psk) }, destination(SERVER));
    let connect = async |inbound: &Inbound| {
        let (near, far) = duplex(64 << 10);
        tokio::join!(tunnels.answer(far, inbound), tunnels.dial(near, &route, &to))
    };
    let issued = async |keys| {
        while broker.issued() < keys {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    connect(&inbound(Mode::Psk)).await.1.unwrap();
    issued(3).await;
    let closed = Inbound { purpose: "other".parse().unwrap(), ..inbound(Mode::Psk) };
    connect(&closed).await.1.unwrap_err();
    // The fourth replaced the second, and was thrown away with the third when that was refused.
    issued(6).await;
    connect(&inbound(Mode::Psk)).await.1.unwrap();
    let spent: Vec<_> = (1..=6).filter(|number| broker.is_spent(*number)).collect();
    assert_eq!(spent, [1, 2, 5]);
}
