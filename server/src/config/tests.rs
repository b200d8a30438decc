use super::*;

const MINIMAL: &str = "trust-domain = \"example.org\"\ndata-dir = \"/var/lib/claviger\"\n";

#[track_caller]
fn refuses(lines: &str, why: &[&str]) {
    let problems = Config::parse(&format!("{MINIMAL}{lines}")).unwrap_err();
    let found: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(found, why);
}

#[test]
fn the_least_file_gives_the_defaults() {
    let config = Config::parse(MINIMAL).unwrap();
    let domain = "example.org".parse().unwrap();
    assert_eq!(config, Config::new(domain, "/var/lib/claviger".into()));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.ca.ttl, Duration::from_secs(86_400));
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(
        r#"
        trust-domain = "example.org"
        data-dir = "/d"
        listen = "[::]:1"
        admin-socket = "/d/admin.sock"
        x509-svid-ttl = "5m"
        jwt-svid-ttl = "1m"
        wit-svid-ttl = "2m"
        jwt-issuer = "https://oidc.example.org"
        wit-issuer = "wit"
        agent-svid-ttl = "10m"
        policy-dir = "/p"
        policy-ttl = "10m"
        ca = { ttl = "2h", organization = "Acme", country = "DE" }
        health = { listen = "127.0.0.1:2" }
        control = { listen = "127.0.0.1:3" }
        keys = { listen = "127.0.0.1:4" }
        log = { level = "debug", format = "json" }
        [limits]
        entries = 1
        agents = 2
        streams-per-connection = 3
        connections = { connections = 4, handshakes-per-ip = 5 }
        requests = 6
        rates = { all = 7, caller = 8, identity = 9 }
        "#,
    )
    .unwrap();
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.admin_socket, Path::new("/d/admin.sock"));
    assert_eq!(config.x509_svid_ttl.as_secs(), 300);
    assert_eq!((config.jwt_svid_ttl.as_secs(), config.wit_svid_ttl.as_secs()), (60, 120));
    assert_eq!(config.jwt_issuer.as_deref(), Some("https://oidc.example.org"));
    assert_eq!(config.wit_issuer.as_deref(), Some("wit"));
    assert_eq!(config.agent_svid_ttl.as_secs(), 600);
    assert_eq!(config.policy_dir.as_deref(), Some(Path::new("/p")));
    assert_eq!(u32::from(config.policy_ttl), 600);
    let ca = CaConfig {
        ttl: Duration::from_secs(7_200),
        organization: "Acme".to_owned(),
        country: Some("DE".to_owned()),
    };
    assert_eq!(config.ca, ca);
    assert_eq!(config.health.map(|addr| addr.port()), Some(2));
    assert_eq!(config.control.map(|addr| addr.port()), Some(3));
    assert_eq!(config.keys.map(|keys| keys.listen.port()), Some(4));
    let limits = config.limits;
    assert_eq!((limits.entries, limits.agents, limits.streams_per_connection), (1, 2, 3));
    assert_eq!((limits.connections.connections, limits.connections.handshakes_per_ip), (4, 5));
    assert_eq!(limits.rates, Rates { requests: 6, all: 7, caller: 8, identity: 9 });
    assert_eq!(config.warnings, []);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problems = Config::parse(
        r#"
        trust-domain = "Example.org"
        listen = "8081"
        x509-svid-ttl = "1s"
        agent-svid-tll = "1h"
        ca = { ttl = "5s", country = "Germany", key = "rsa" }
        limits = { entries = 0, rates = { all = 0 } }
        "#,
    )
    .unwrap_err();
    let keys: Vec<_> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "trust-domain",
            "data-dir",
            "listen",
            "x509-svid-ttl",
            "ca.ttl",
            "ca.country",
            "ca.key",
            "limits.entries",
            "limits.rates.all",
            "agent-svid-tll",
        ]
    );
}

#[test]
fn a_problem_says_what_and_what_to_do() {
    refuses("listen = \"nowhere\"", &["listen = \"nowhere\": invalid socket address syntax"]);
    refuses(
        "x509-svid-ttl = \"31days\"",
        &["x509-svid-ttl = 1month 13h 26m 24s: an SVID lasts 5 to 2592000 seconds, not 2678400"],
    );
    refuses(
        "policy-ttl = \"2days\"",
        &[
            "policy-ttl = 2days: policies last 300 to 86400 seconds without a word from the server, not 172800",
        ],
    );
    refuses("polcy-dir = \"/p\"", &["polcy-dir: is not a setting; did you mean `policy-dir`?"]);
    refuses(
        "[helth]\nlisten = \"127.0.0.1:1\"",
        &["helth: is not a setting; did you mean `health`?"],
    );
    refuses("data_dirs = 1", &["data_dirs: is not a setting; did you mean `data-dir`?"]);
    refuses(
        "[limits.connections]\nconections = 1",
        &["limits.connections: unknown field `conections`, expected one of `connections`, \
           `connections-per-ip`, `handshakes`, `handshakes-per-ip`, `strangers`, \
           `strangers-per-ip`"],
    );
    refuses(
        "health.listen = \"127.0.0.1:8081\"",
        &["health.listen = 127.0.0.1:8081: is taken by `listen`; choose another port"],
    );
    refuses(
        &format!("admin-socket = \"/{}\"", "s".repeat(107)),
        &[&format!(
            "admin-socket = /{}: is 108 bytes long, the limit is 107; choose a shorter \
             directory",
            "s".repeat(107)
        )],
    );
}

#[test]
fn an_svid_that_may_be_cut_short_is_a_warning() {
    let config = Config::parse(&format!("{MINIMAL}x509-svid-ttl = \"5h\"")).unwrap();
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(
        warning.to_string().contains("at most 4h or a `ca.ttl` of at least 1day 6h"),
        "{warning}"
    );
}

#[test]
fn issuers_are_text_and_differ() {
    for bad in ["", "a b", &"a".repeat(256)] {
        let text = format!("{MINIMAL}jwt-issuer = \"{bad}\"");
        let problems = Config::parse(&text).unwrap_err().to_string();
        assert!(problems.contains("1 to 255 printable"), "{problems}");
    }
    let same = format!("{MINIMAL}jwt-issuer = \"https://a.org\"\nwit-issuer = \"https://a.org\"");
    let config = Config::parse(&same).unwrap();
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.to_string().contains("choose another"), "{warning}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/server.toml")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/server.toml: No such file"), "{error}");
}
