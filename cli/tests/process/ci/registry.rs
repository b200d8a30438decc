//! Uploads by an unchanged curl to an unchanged registry, with a shim before it.

use std::path::PathBuf;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::sleep;

use super::*;

const SHIM: &str = include_str!("../../../../examples/ci/registry.toml");

/// What was put where: the path, and what is there.
type Uploads = Arc<Mutex<Vec<(String, String)>>>;

/// A registry, and the shim before it.
struct Registry {
    uploads: Uploads,
    access: PathBuf,
    _shim: Child,
}

impl Registry {
    /// Starts both as the example has it, on ports that are free.
    async fn start(world: &mut World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap().to_string();
        let uploads = Uploads::default();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        tokio::spawn(take(listener, Arc::clone(&uploads)));
        let (before, access) =
            (format!("127.0.0.1:{}", free_port()), world.dir.path().join("registry.jsonl"));
        let config = SHIM
            .replace("0.0.0.0:8443", &before)
            .replace("127.0.0.1:8080", &behind)
            .replace("/var/log/claviger/registry.jsonl", &access.display().to_string());
        assert!(config.contains(&before) && config.contains(&behind), "{config}");
        let file = world.dir.path().join("registry.toml");
        std::fs::write(&file, config).unwrap();
        let (file, socket) = (file.display().to_string(), world.deployment.agent_socket());
        let socket = socket.display().to_string();
        let args = ["shim", "run", "--config", &file, "--socket-path", &socket];
        let shim = claviger().command(args).spawn().unwrap();
        world.set("REGISTRY", &before);
        let registry = Self { uploads, access, _shim: shim };
        within(|| async { TcpStream::connect(&before).await.ok() }).await;
        registry
    }

    fn uploads(&self) -> Vec<(String, String)> {
        self.uploads.lock().unwrap().clone()
    }

    /// The run that each upload so far belongs to, as soon as `count` are on record.
    async fn runs(&self, count: usize) -> Vec<String> {
        let complete = || async {
            let text = std::fs::read_to_string(&self.access).unwrap_or_default();
            let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            // Whoever was refused has a record, too.
            let records: Vec<_> =
                records.filter(|record| record.get("refused").is_none()).collect();
            (records.len() == count).then_some(records)
        };
        let records = within(complete).await;
        let run = |record: &Value| {
            assert_eq!(record["client"], "spiffe://example.org/ci/app", "{record}");
            assert_eq!(record["server"], "spiffe://example.org/artifacts", "{record}");
            assert_eq!(
                (&record["route"], &record["purpose"]),
                (&json!("registry"), &json!("upload"))
            );
            record["run"].as_str().unwrap().to_owned()
        };
        records.iter().map(run).collect()
    }
}

/// What `look` finds, sooner or later.
async fn within<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap()
}

/// A registry as small as can be: `PUT`, and no more.
async fn take(listener: TcpListener, uploads: Uploads) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            // Whoever only looks whether somebody is here says nothing.
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        let length =
            head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let Some(length) = length else { continue };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        uploads.lock().unwrap().push((path, text(&body)));
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        drop(stream.write_all(answer).await);
    }
}

fn upload(body: &str) -> (String, String) {
    ("/app.txt".to_owned(), body.to_owned())
}

impl World {
    /// Runs a script whose upload has to be refused, because of what the server says.
    async fn does_not_arrive(&self, script: &str, why: &str) {
        let output = self.run(script).await;
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains("403 Forbidden"), "{why}: {error}");
    }
}

#[tokio::test]
async fn an_unchanged_uploader_of_github_reaches_an_unchanged_registry() {
    let mut world = World::start(GITHUB_PIPELINE).await;
    let registry = Registry::start(&mut world).await;
    let runner = Runner::start(Arc::clone(&world.issuer), github_job(8412, 1)).await;
    world.set("GITHUB_ACTIONS", "true");
    world.set("GITHUB_RUN_ID", "8412");
    world.set("ACTIONS_ID_TOKEN_REQUEST_URL", &runner.url);
    world.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Runner::REQUEST_TOKEN);
    let [_, _, _, build, put] = scripts(GITHUB_PIPELINE).try_into().unwrap();

    world.succeed(&build).await;
    let done = world.succeed(&put).await;
    assert!(done.stdout.is_empty(), "{}", text(&done.stdout));
    assert_eq!(registry.uploads(), [upload("made by 8412\n")]);
    assert_eq!(registry.runs(1).await, ["github:8412:1"]);

    // A key that was seen on the way is worthless, in its own run and in any other.
    let key =
        "claviger --output json ci psk --peer spiffe://example.org/artifacts --purpose upload";
    let key: Value = serde_json::from_slice(&world.succeed(key).await.stdout).unwrap();
    world.set("IDENTITY", key["identity"].as_str().unwrap());
    world.set("KEY", key["key"].as_str().unwrap());
    let by_hand = "printf 'PUT /app.txt HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\nmore' | openssl \
        s_client -connect \"$REGISTRY\" -tls1_3 -quiet -nocommands -ign_eof -psk_identity \
        \"$IDENTITY\" -psk \"$KEY\"";
    let first = world.run(by_hand).await;
    assert!(text(&first.stdout).starts_with("HTTP/1.1 201"), "{}", text(&first.stderr));
    for _ in 0..2 {
        assert!(!world.run(by_hand).await.status.success());
    }
    assert_eq!(registry.uploads(), [upload("made by 8412\n"), upload("more")]);

    let job = || github_job(8412, 1);
    for (why, claims) in [
        ("another branch", with(job(), &[("ref", "refs/heads/evil")])),
        ("a pull request, perhaps of a fork", with(job(), &[("event_name", "pull_request")])),
        ("a fork", with(job(), &[("repository", "evil/app"), ("repository_owner", "evil")])),
        ("another issuer", with(job(), &[("iss", "https://evil.example")])),
    ] {
        runner.become_job(claims);
        world.does_not_arrive(&put, why).await;
    }
    assert_eq!(registry.uploads().len(), 2);

    // Another run has keys of its own, which say so.
    runner.become_job(github_job(8413, 2));
    world.succeed(&put).await;
    let runs = registry.runs(3).await;
    assert_eq!(runs, ["github:8412:1", "github:8412:1", "github:8413:2"]);
}

#[tokio::test]
async fn a_token_of_gitlab_is_good_for_one_upload() {
    let mut world = World::start(GITLAB_PIPELINE).await;
    let registry = Registry::start(&mut world).await;
    world.set("CI_JOB_ID", "8");
    world.set("CLAVIGER_OIDC_TOKEN", world.issuer.token(&gitlab_job(7, 8), AUDIENCE));
    let [_, _, _, build, put] = scripts(GITLAB_PIPELINE).try_into().unwrap();
    world.succeed(&build).await;
    world.succeed(&put).await;
    assert_eq!(registry.uploads(), [upload("made by 8\n")]);
    assert_eq!(registry.runs(1).await, ["gitlab:7:8"]);

    world.does_not_arrive(&put, "a token works once").await;
    let changed = with(gitlab_job(7, 9), &[("ref_path", "refs/heads/evil")]);
    world.set("CLAVIGER_OIDC_TOKEN", world.issuer.token(&changed, AUDIENCE));
    world.does_not_arrive(&put, "another branch").await;
    assert_eq!(registry.uploads().len(), 1);

    // What takes an agent is refused before anything is run.
    for more in ["mode=mtls", "mode=observe", "mode=psk,callers=spiffe://example.org/x"] {
        let route =
            format!("name=a,listen=127.0.0.1:0,to=a:1,peer=spiffe://a.org/a,purpose=p,{more}");
        let output = world.run(&format!("claviger ci exec --route {route} -- touch ran")).await;
        assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("takes an agent"), "{}", text(&output.stderr));
    }
    assert!(!world.dir.path().join("ran").exists());
}
