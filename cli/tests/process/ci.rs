//! The pipelines in `examples/ci`, run as they stand there.

mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use claviger_shim::{BrokerClient, Ends, PskAcceptor};
use claviger_tests::ci::{
    AUDIENCE, GITHUB, Issuer, Runner, github_job, gitlab_job, operators_commands, scripts,
};
use claviger_tests::process::{Deployment, PATIENCE, free_port, my_uid};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::claviger;

const GITHUB_PIPELINE: &str = include_str!("../../../examples/ci/github-actions.yml");
const GITLAB_PIPELINE: &str = include_str!("../../../examples/ci/gitlab-ci.yml");

/// A server that lets jobs in, an agent with a workload `artifacts`, and a job's machine.
struct World {
    deployment: Deployment,
    issuer: Arc<Issuer>,
    artifacts: TcpListener,
    dir: TempDir,
    /// The job's environment.
    env: BTreeMap<String, String>,
}

impl World {
    async fn start(pipeline: &str) -> Self {
        let (dir, issuer, port) =
            (TempDir::new().unwrap(), Arc::new(Issuer::default()), free_port());
        let keys = dir.path().join("jwks.json");
        std::fs::write(&keys, issuer.jwks()).unwrap();
        let keys = keys.display();
        let config = format!(
            "[public]\nlisten = \"127.0.0.1:{port}\"\nhosts = [\"127.0.0.1\"]\ndirect = true\n\
             [attestors.oidc.github]\nissuer = \"{GITHUB}\"\naudience = \"{AUDIENCE}\"\n\
             profile = \"github\"\nrequire = {{ repository_owner = [\"acme\"] }}\n\
             jwks-file = \"{keys}\"\n\
             [attestors.oidc.gitlab]\nissuer = \"https://gitlab.example.org\"\n\
             audience = \"{AUDIENCE}\"\nprofile = \"gitlab\"\nmax-age = \"1h\"\njwks-file = \"{keys}\"\n",
        );
        let deployment = Deployment::start_configured(&claviger(), &claviger(), &config).await;
        let bundle = dir.path().join("bundle.pem");
        std::fs::write(&bundle, deployment.bundle()).unwrap();
        let artifacts = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = artifacts.local_addr().unwrap().to_string();
        let env = BTreeMap::from([
            ("CLAVIGER_SERVER".to_owned(), format!("https://127.0.0.1:{port}")),
            ("CLAVIGER_BUNDLE".to_owned(), bundle.display().to_string()),
            ("CLAVIGER_AUDIENCE".to_owned(), AUDIENCE.to_owned()),
            ("ARTIFACTS".to_owned(), address),
        ]);
        let world = Self { deployment, issuer, artifacts, dir, env };
        let id = "spiffe://example.org/artifacts";
        let workload = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        world.deployment.admin(&workload).await;
        for command in operators_commands(pipeline) {
            let args: Vec<_> = command.split_whitespace().skip(1).collect();
            world.deployment.admin(&args).await;
        }
        world
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.insert(name.to_owned(), value.into());
    }

    /// Runs a script of the pipeline, in a shell as its runner does.
    async fn run(&self, script: &str) -> Output {
        let binary = Path::new(env!("CARGO_BIN_EXE_claviger")).parent().unwrap();
        let path = format!("{}:/usr/bin:/bin", binary.display());
        let mut shell = Command::new("bash");
        shell.args(["-eo", "pipefail", "-c", script]).env_clear().env("PATH", path);
        shell.envs(&self.env).current_dir(self.dir.path()).kill_on_drop(true);
        timeout(PATIENCE, shell.output()).await.unwrap().unwrap()
    }

    async fn succeed(&self, script: &str) -> Output {
        let output = self.run(script).await;
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
        output
    }

    /// What the artifacts' server is sent, and by whom.
    async fn accept(&self) -> Result<(Ends, String), String> {
        let (stream, _) = timeout(PATIENCE, self.artifacts.accept()).await.unwrap().unwrap();
        let broker = BrokerClient::new(self.deployment.agent_socket()).unwrap();
        let acceptor = PskAcceptor::new(broker).unwrap();
        let mut stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
        let mut sent = String::new();
        stream.read_to_string(&mut sent).await.map_err(|error| error.to_string())?;
        Ok((stream.ends().clone(), sent))
    }

    /// Runs the step that uploads, at both ends.
    async fn upload(&self, script: &str) -> (Output, Result<(Ends, String), String>) {
        tokio::join!(self.run(script), self.accept())
    }

    async fn refused(&self, script: &str, why: &str) {
        let output = self.run(script).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{why}: {error}");
        assert!(error.contains("403 Forbidden") && error.contains("hint: "), "{why}: {error}");
        assert!(output.stdout.is_empty(), "{why}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with(mut claims: Value, changes: &[(&str, &str)]) -> Value {
    let members = claims.as_object_mut().unwrap();
    members.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    claims
}

#[tokio::test]
async fn a_job_of_github_uploads_once_in_its_own_run() {
    let mut world = World::start(GITHUB_PIPELINE).await;
    let runner = Runner::start(Arc::clone(&world.issuer), github_job(8412, 1)).await;
    let github_env = world.dir.path().join("github-env");
    world.set("GITHUB_ACTIONS", "true");
    world.set("GITHUB_RUN_ID", "8412");
    world.set("GITHUB_ENV", github_env.display().to_string());
    world.set("ACTIONS_ID_TOKEN_REQUEST_URL", &runner.url);
    world.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Runner::REQUEST_TOKEN);
    let [build, key, upload, _, _] = scripts(GITHUB_PIPELINE).try_into().unwrap();

    world.succeed(&build).await;
    let got = world.succeed(&key).await;
    for line in std::fs::read_to_string(&github_env).unwrap().lines() {
        let (name, value) = line.split_once('=').unwrap();
        world.set(name, value);
    }
    // The runner hides what it was told to hide, from then on.
    let log = text(&got.stderr);
    let masks: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("::add-mask::")).collect();
    assert_eq!(masks, [runner.last_token(), world.env["CLAVIGER_PSK"].clone()]);
    assert!(log.starts_with("::add-mask::") && got.stdout.is_empty(), "{log}");

    let (done, arrived) = world.upload(&upload).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let (peer, sent) = arrived.unwrap();
    assert_eq!(sent, "made by 8412\n");
    assert_eq!(peer.client.to_string(), "spiffe://example.org/ci/app");
    assert_eq!(peer.run.unwrap().as_str(), "github:8412:1");

    // The key and the token are worthless from now on.
    let (again, arrived) = world.upload(&upload).await;
    assert!(!again.status.success() && arrived.unwrap_err().contains("cannot redeem"));
    let token = world.dir.path().join("token");
    std::fs::write(&token, runner.last_token()).unwrap();
    world.refused(&format!("{} --token-file token", key.trim_end()), "a token works once").await;

    let job = || github_job(8412, 1);
    for (why, claims) in [
        ("another branch", with(job(), &[("ref", "refs/heads/evil")])),
        ("a pull request, perhaps of a fork", with(job(), &[("event_name", "pull_request")])),
        ("another repository", with(job(), &[("repository", "acme/other")])),
        ("a fork", with(job(), &[("repository", "evil/app"), ("repository_owner", "evil")])),
        ("another issuer", with(job(), &[("iss", "https://evil.example")])),
    ] {
        runner.become_job(claims);
        world.refused(&key, why).await;
    }

    // Another run has a key of its own, which says so.
    runner.become_job(github_job(8413, 2));
    std::fs::remove_file(&github_env).unwrap();
    world.succeed(&key).await;
    let other = std::fs::read_to_string(&github_env).unwrap();
    assert!(other.contains("CLAVIGER_PSK_RUN=github:8413:2\n"), "{other}");
    assert!(!other.contains(&world.env["CLAVIGER_PSK"]));
}

#[tokio::test]
async fn a_job_of_gitlab_uploads_once() {
    let mut world = World::start(GITLAB_PIPELINE).await;
    let token = world.issuer.token(&gitlab_job(7, 8), AUDIENCE);
    world.set("CI_JOB_ID", "8");
    world.set("CLAVIGER_OIDC_TOKEN", &token);
    let [build, key, upload, _, _] = scripts(GITLAB_PIPELINE).try_into().unwrap();
    world.succeed(&build).await;
    let got = world.succeed(&key).await;
    let psk = std::fs::read_to_string(world.dir.path().join("psk/psk.key")).unwrap();
    let shown = text(&got.stdout) + &text(&got.stderr);
    assert!(!shown.contains(&psk) && !shown.contains(&token), "{shown}");
    let (done, arrived) = world.upload(&upload).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let (peer, sent) = arrived.unwrap();
    assert_eq!((peer.run.unwrap().as_str(), sent.as_str()), ("gitlab:7:8", "made by 8\n"));

    world.refused(&key, "a token works once").await;
    let changed = with(gitlab_job(7, 9), &[("ref_path", "refs/heads/evil")]);
    world.set("CLAVIGER_OIDC_TOKEN", world.issuer.token(&changed, AUDIENCE));
    world.refused(&key, "another branch").await;
    world.set("CLAVIGER_OIDC_TOKEN", world.issuer.token(&gitlab_job(7, 9), "https://other"));
    world.refused(&key, "another audience").await;
}

#[tokio::test]
async fn a_job_gets_svids_for_a_key_of_its_own() {
    let mut world = World::start(GITHUB_PIPELINE).await;
    let runner = Runner::start(Arc::clone(&world.issuer), github_job(1, 1)).await;
    world.set("ACTIONS_ID_TOKEN_REQUEST_URL", &runner.url);
    world.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Runner::REQUEST_TOKEN);
    let got = world.succeed("claviger ci svid --dir svid").await;
    assert!(text(&got.stdout).contains("CLAVIGER_SVID_KEY=svid/svid.key\n"));
    let verified = "openssl verify -CAfile svid/bundle.pem svid/svid.pem && \
                    openssl x509 -in svid/svid.pem -noout -ext subjectAltName && \
                    stat -c %a svid/svid.key";
    let said = text(&world.succeed(verified).await.stdout);
    assert!(said.contains("spiffe://example.org/ci/app") && said.ends_with("\n600\n"), "{said}");
    // Whoever steals a token that is bound to a key can do nothing with it.
    std::fs::write(world.dir.path().join("token"), runner.last_token()).unwrap();
    world.refused("claviger ci svid --dir svid --token-file token", "it is bound").await;
    let log = world.deployment.export_audit().await;
    assert!(log.contains(r#""bond":"key""#), "{log}");

    let jwt = world.succeed("claviger ci svid --jwt registry --output json").await;
    let jwt: Value = serde_json::from_slice(&jwt.stdout).unwrap();
    assert_eq!(jwt["spiffe_id"], "spiffe://example.org/ci/app");
    assert_eq!(jwt["token"].as_str().unwrap().split('.').count(), 3);

    for (script, hint) in [
        ("claviger ci svid", "--dir"),
        ("claviger ci svid --dir x --token-env NONE", "NONE"),
        ("claviger ci svid --dir x --token-file svid/svid.pem", "three parts"),
    ] {
        let output = world.run(script).await;
        assert_eq!(output.status.code(), Some(2), "{script}");
        assert!(text(&output.stderr).contains(hint), "{}", text(&output.stderr));
    }
    world.env.remove("CLAVIGER_BUNDLE");
    let output = world.run("claviger ci svid --dir x --patience 0").await;
    assert!(text(&output.stderr).contains("`--bundle`"), "{}", text(&output.stderr));
}
