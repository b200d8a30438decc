use std::time::Duration;

use claviger_core::time::UnixTime;
use claviger_runtime::place::ServerAddr;

use super::*;

const MINIMAL: &str = "trust-domain = \"example.org\"\nserver-address = \"localhost:8081\"\n\
                       data-dir = \"/var/lib/claviger\"\ntrust-bundle-path = \"/b.pem\"\n";

#[track_caller]
fn refuses(lines: &str, why: &[&str]) {
    let problems = Config::parse(&format!("{MINIMAL}{lines}")).unwrap_err();
    let found: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(found, why);
}

#[test]
fn the_least_file_gives_the_defaults() {
    let config = Config::parse(MINIMAL).unwrap();
    let address: ServerAddr = "localhost:8081".parse().unwrap();
    let default = Config::new(
        "example.org".parse().unwrap(),
        address,
        "/var/lib/claviger".into(),
        "/b.pem".into(),
    );
    assert_eq!(format!("{config:?}"), format!("{default:?}"));
    assert_eq!(config.socket_path, Path::new("/run/claviger/agent.sock"));
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(&format!(
        "{MINIMAL}{}",
        r#"
        socket-path = "/s"
        admin-socket-path = "/a"
        admin-socket-mode = "0770"
        broker-socket-path = "/b"
        brokers = [{ id = "spiffe://example.org/csi", allowed-references = ["x/a.B", "c.D"] }]
        authorized-delegates = ["spiffe://example.org/proxy"]
        join-token-file = "/t"
        health = { listen = "127.0.0.1:2" }
        log = { level = "debug", format = "json" }
        unix = { max-program-size = 7 }
        workload.k8s = { node-name = "n" }
        workload.docker = { socket-path = "/d" }
        workload.containerd = { socket-path = "/c" }
        workload.systemd = {}
        workload.model = { manifests = ["/m.sig"], keys = ["/k.pem"] }
        [sds]
        enabled = false
        default-svid-name = "a"
        default-bundle-name = "b"
        default-all-bundles-name = "c"
        disable-spiffe-cert-validation = true
        [limits]
        entries = 1
        streams = 2
        streams-per-uid = 3
        connections = { connections = 4, connections-per-uid = 5 }
        "#
    ))
    .unwrap();
    assert_eq!(config.socket_path, Path::new("/s"));
    let Workload { k8s, docker, containerd, systemd, model } = config.workload;
    assert_eq!(k8s.unwrap().node_name.as_deref(), Some("n"));
    assert_eq!(docker.unwrap().socket_path, Path::new("/d"));
    assert_eq!(containerd.unwrap().socket_path, Path::new("/c"));
    assert_eq!(systemd, Some(claviger_attestors::systemd::Config::default()));
    let model = model.unwrap();
    assert_eq!((&model.manifests, &model.keys), (&vec!["/m.sig".into()], &vec!["/k.pem".into()]));
    let delegates = ["spiffe://example.org/proxy".parse().unwrap()].into();
    let admin = AdminSocket { path: "/a".into(), mode: 0o770, delegates };
    assert_eq!(config.admin, Some(admin));
    let kinds = ["a.B".to_owned(), "c.D".to_owned()].into();
    let brokers = [("spiffe://example.org/csi".parse().unwrap(), kinds)].into();
    assert_eq!(config.broker, Some(BrokerSocket { path: "/b".into(), brokers }));
    assert!(matches!(config.join_token, Some(TokenSource::File(path)) if path == Path::new("/t")));
    assert_eq!(config.health.map(|addr| addr.port()), Some(2));
    assert_eq!(config.unix.max_program_size, 7);
    let [default_svid_name, default_bundle_name, default_all_bundles_name] =
        ["a", "b", "c"].map(str::to_owned);
    let sds = Sds {
        enabled: false,
        default_svid_name,
        default_bundle_name,
        default_all_bundles_name,
        disable_spiffe_cert_validation: true,
    };
    assert_eq!(config.sds, sds);
    let connections = unix::Limits { connections: 4, connections_per_uid: 5 };
    let limits = Limits { entries: 1, streams: 2, streams_per_uid: 3, connections };
    assert_eq!(config.limits, limits);
}

#[test]
fn what_concerns_enclaves_is_read() {
    let config = Config::parse(&format!(
        "{}{}",
        MINIMAL.replace("localhost:8081", "vsock:3:8081"),
        r#"
        clock = { trusted = false, not-before = "1970-01-01T00:00:09Z" }
        [relay]
        listen = "vsock:7"
        connections = 3
        connections-per-peer = 2
        idle-seconds = 60
        "#
    ))
    .unwrap();
    assert_eq!(config.servers.to_string(), "vsock:3:8081");
    assert_eq!(config.clock, Trust::Floor(UnixTime::from_secs(9)));
    let idle = Duration::from_secs(60);
    let limits = relaying::Limits { connections: 3, connections_per_peer: 2, idle };
    let listen = "vsock:7".parse().unwrap();
    assert_eq!(config.relay, Some(relaying::Settings { listen, limits }));
}

#[test]
fn several_servers_are_a_list() {
    let several = MINIMAL.replace("\"localhost:8081\"", "[\"a:1\", \"b:2\"]");
    assert_eq!(Config::parse(&several).unwrap().servers.to_string(), "a:1, b:2");
    let none = MINIMAL.replace("\"localhost:8081\"", "[]");
    let problems = Config::parse(&none).unwrap_err();
    assert!(problems.to_string().contains("the list is empty"), "{problems}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problems = Config::parse(
        r#"
        trust-domain = "Example.org"
        server-address = "localhost"
        data-dir = "here"
        insecure-bootstrap = true
        limits = { streams = 0 }
        "#,
    )
    .unwrap_err();
    let keys: Vec<_> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "trust-domain",
            "server-address",
            "data-dir",
            "trust-bundle-path",
            "limits.streams",
            "insecure-bootstrap",
        ]
    );
}

#[test]
fn a_problem_says_what_and_what_to_do() {
    refuses(
        "join-token = \"a\"\njoin-token-file = \"/t\"",
        &["join-token-file = /t: `join-token` is set, too; keep one of them"],
    );
    refuses(
        "unix = { max-size = 1 }",
        &["unix: unknown field `max-size`, expected `max-program-size`"],
    );
    refuses(
        "sds = { default-svid-name = \"spiffe://a/b\", default-bundle-name = \"ALL\" }",
        &[
            "sds.default-svid-name = spiffe://a/b: choose 1 to 255 characters that are no SPIFFE ID",
            "sds.default-all-bundles-name = ALL: is the name of another resource already; choose another",
        ],
    );
    refuses(
        "admin-socket-mode = \"0644\"\nauthorized-delegates = [\"spiffe://other.org/x\"]",
        &[
            "authorized-delegates = spiffe://other.org/x: name workloads of the agent's own trust domain",
            "admin-socket-mode = set: means nothing without `admin-socket-path`; say where it is",
        ],
    );
    refuses(
        "brokers = [{ id = \"spiffe://example.org\", allowed-references = [] }]",
        &[
            "brokers = 1: mean nothing without `broker-socket-path`; say where it is",
            "brokers.id = spiffe://example.org: name workloads of the agent's own trust domain",
        ],
    );
    refuses(
        "relay = { connections = 0, idle-seconds = 44 }\nclock = { trusted = false }",
        &[
            "clock.trusted = false: needs `not-before`, too: say when the image was built",
            "relay.listen: is missing; say where enclaves connect: `vsock:8081`, or `unix:/path`",
            "relay.connections = 0: allow at least one",
            "relay.connections-per-peer = 0: allow at least one",
            "relay.idle-seconds = 44: allow at least 45 s",
        ],
    );
    refuses(
        "relay = { listen = \"0.0.0.0:8081\" }\nclock = { not-before = \"1970-01-01T00:00:09Z\" }",
        &[
            "clock.not-before = set: means nothing with a clock that is believed; set `trusted = false`",
            "relay.listen = \"0.0.0.0:8081\": `0.0.0.0:8081` is not of the form `vsock:port` or `unix:/path`",
        ],
    );
    refuses(
        "admin-socket-path = \"/a\"\nadmin-socket-mode = \"0170\"",
        &["admin-socket-mode = \"0170\": write the mode in octal, such as \"0600\" or \"0770\""],
    );
    refuses(
        &format!("socket-path = \"/{}\"", "s".repeat(107)),
        &[&format!(
            "socket-path = /{}: is 108 bytes long, the limit is 107; choose a shorter directory",
            "s".repeat(107)
        )],
    );
}

#[test]
fn a_token_is_read_and_not_shown() {
    let config = Config::parse(&format!("{MINIMAL}join-token = \"hush\"")).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    assert_eq!(config.evidence().unwrap().unwrap().kind(), "join_token");
    let problems = Config::parse(&format!("{MINIMAL}join-token = \"h/ush\"")).unwrap_err();
    assert!(problems.to_string().starts_with("join-token: a join token has"), "{problems}");
}
