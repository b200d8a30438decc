use super::*;
use crate::route::{Destination, Destinations, Door, ProxyHeader};

const DB: &str = "[[outbound]]\nname = \"db\"\nlisten = \"127.0.0.1:5432\"\nto = \"db.internal:8443\"\n\
                  peer = \"spiffe://example.org/db\"\nmode = \"psk\"\npurpose = \"query\"\n";

#[track_caller]
fn refuses(text: &str, why: &[&str]) {
    let problems = Config::parse(text).unwrap_err();
    let found: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(found, why);
}

fn destination(at: &str, peer: &str) -> Destination {
    Destination { at: at.parse().unwrap(), peer: peer.parse().unwrap() }
}

#[test]
fn the_least_file_gives_the_defaults() {
    let config = Config::parse(DB).unwrap();
    let outbound = Outbound {
        name: "db".to_owned(),
        door: Door::Tcp("127.0.0.1:5432".parse().unwrap()),
        callers: Callers::Known(BTreeSet::new()),
        destinations: Destinations::One(destination("db.internal:8443", "spiffe://example.org/db")),
        mode: Mode::Psk,
        purpose: "query".parse().unwrap(),
        prefetch: 4,
        lifetime: LIFETIME,
    };
    assert_eq!(config, Config { outbound: vec![outbound], ..Config::default() });
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(
        r#"
        socket = "/s"
        spiffe-id = "spiffe://example.org/web"
        profile = "cnsa2"
        [[outbound]]
        name = "apis"
        listen = "connect:[::1]:3128"
        mode = "mtls"
        purpose = "call"
        callers = ["spiffe://example.org/a", "spiffe://example.org/b"]
        prefetch = 0
        idle = "10m"
        max-age = "8h"
        [[outbound.destination]]
        host = "api.internal:443"
        to = "10.0.0.1:8443"
        peer = "spiffe://example.org/api"
        [[inbound]]
        name = "db"
        listen = "0.0.0.0:8443"
        to = "unix:/run/db"
        mode = "observe"
        purpose = "query"
        peers = ["spiffe://example.org/web"]
        proxy-header = "v2"
        idle = "1s"
        max-age = "2s"
        [limits]
        connections = 1
        handshakes = 3
        handshakes-per-address = 2
        grace = "0s"
        [health]
        listen = "127.0.0.1:9901"
        [access]
        file = "/a"
        [log]
        level = "debug"
        "#,
    )
    .unwrap();
    let Config { socket, identity, profile, outbound, inbound, limits, health, access, .. } =
        config;
    assert_eq!(
        (socket.unwrap().as_path(), access.unwrap().as_path()),
        (Path::new("/s"), Path::new("/a"))
    );
    assert_eq!(identity.unwrap().to_string(), "spiffe://example.org/web");
    assert_eq!(profile, Profile::Cnsa2);
    let grace = Duration::ZERO;
    let want = Limits { connections: 1, handshakes: 3, handshakes_per_address: 2, grace };
    assert_eq!(limits, want);
    assert_eq!(health.unwrap().port(), 9_901);
    let [out] = outbound.try_into().unwrap();
    let places =
        [("api.internal:443".to_owned(), destination("10.0.0.1:8443", "spiffe://example.org/api"))];
    assert_eq!(out.destinations, Destinations::Named(places.into()));
    assert_eq!(out.door, Door::Connect("[::1]:3128".parse().unwrap()));
    assert!(matches!(out.callers, Callers::Known(ids) if ids.len() == 2));
    assert_eq!((out.mode, out.prefetch), (Mode::Mtls, 0));
    assert_eq!(out.lifetime.idle, Duration::from_secs(600));
    assert_eq!(out.lifetime.max_age, Duration::from_secs(28_800));
    let [way_in] = inbound.try_into().unwrap();
    assert_eq!(way_in.proxy_header, Some(ProxyHeader::V2));
    assert_eq!(way_in.peers.unwrap().len(), 1);
    assert_eq!(way_in.lifetime.idle, Duration::from_secs(1));
    let [warning] = config.warnings.try_into().unwrap();
    assert_eq!(warning.key, "inbound.db.mode");
}

#[test]
fn every_mistake_is_reported_at_once() {
    refuses("", &["[[outbound]]: is missing, and `[[inbound]]`, too; describe at least one route"]);
    let problems = Config::parse(
        "socket = \"s\"\nprofile = \"fips\"\n[[outbound]]\nname = \"a b\"\nlisten = \"5432\"\n\
         mode = \"tls\"\npurpose = \"a b\"\ncallers = \"all\"\nprefetch = 65\nidle = \"0s\"\n\
         [[inbound]]\nlisten = \"0.0.0.0:1\"\nto = \"x\"\npeers = []\nproxy-header = \"v3\"\nlimt = 1\n\
         [limits]\nconnections = 0\ngrace = \"1m\"\n",
    );
    let found = problems.unwrap_err().to_string();
    for key in [
        "socket",
        "profile",
        "outbound.a b.name",
        "outbound.a b.listen",
        "outbound.a b.mode",
        "outbound.a b.purpose",
        "outbound.a b.callers",
        "outbound.a b.prefetch",
        "outbound.a b.idle",
        "inbound[0].name",
        "inbound[0].to",
        "inbound[0].mode",
        "inbound[0].purpose",
        "inbound[0].peers",
        "inbound[0].proxy-header",
        "inbound[0].limt",
        "limits.connections",
        "limits.grace",
    ] {
        assert!(found.lines().any(|line| line.starts_with(key)), "{key}: {found}");
    }
}

#[test]
fn a_door_for_other_machines_has_to_be_asked_for() {
    let wide = DB.replace("127.0.0.1:5432", "0.0.0.0:5432");
    refuses(
        &wide,
        &["outbound.db.listen = 0.0.0.0:5432: programs on other machines cannot be told apart; \
           listen on a loopback address such as 127.0.0.1, or write `callers = \"anybody\"`"],
    );
    let config = Config::parse(&format!("{wide}callers = \"anybody\"\n")).unwrap();
    let [warning] = config.warnings.try_into().unwrap();
    assert_eq!(
        (warning.key.as_str(), warning.value.as_deref()),
        ("outbound.db.callers", Some("anybody"))
    );
}

#[test]
fn no_two_routes_are_confused() {
    refuses(
        &format!("{DB}{DB}[health]\nlisten = \"127.0.0.1:5432\"\n"),
        &[
            "outbound.db.name = db: is there twice; choose another",
            "outbound.db.listen = 127.0.0.1:5432: is where another route listens; choose another",
            "health.listen = 127.0.0.1:5432: is where a route listens; choose another port",
        ],
    );
    let chosen = DB.replace(":5432", ":0");
    Config::parse(&format!("{chosen}{}", chosen.replace("\"db\"", "\"b\""))).unwrap();
}

#[test]
fn a_proxys_destinations_are_tables_and_nobody_elses() {
    let proxy = DB.replace("127.0.0.1:5432", "socks5:127.0.0.1:1080");
    refuses(
        &proxy,
        &[
            "outbound.db.to: a proxy's destinations are in [[outbound.destination]]; move it there",
            "outbound.db.peer: a proxy's destinations are in [[outbound.destination]]; move it there",
            "outbound.db.destination = 0: describe 1 to 1000, in [[outbound.destination]]",
        ],
    );
    let place =
        "[[outbound.destination]]\nhost = \"A:1\"\nto = \"a:1\"\npeer = \"spiffe://a.org/x\"\n";
    let problems = Config::parse(&format!("{DB}{place}")).unwrap_err().to_string();
    assert!(problems.contains("destination[0].host = \"A:1\""), "{problems}");
    assert!(problems.contains("only `socks5:` and `connect:` have several"), "{problems}");
}

#[test]
fn doors_have_one_spelling() {
    for door in ["127.0.0.1:1", "[::1]:1", "unix:/run/x", "socks5:127.0.0.1:1", "connect:[::1]:1"] {
        assert_eq!(door.parse::<Door>().unwrap().to_string(), door);
    }
    for door in
        ["", "5432", "localhost:1", "unix:", "unix:x", "socks5:", "connect:x", "socks4:127.0.0.1:1"]
    {
        door.parse::<Door>().unwrap_err();
    }
}
