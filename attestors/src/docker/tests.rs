//! Against a fake engine on a socket, that speaks as Docker and Podman do. The real ones are in
//! `tests/interop`.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::cgroup::{ContainerId, Viewpoint, find};

const ID: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";

fn id() -> ContainerId {
    ContainerId::parse(ID).unwrap()
}

fn on(path: &str) -> Container {
    let text = format!("0::{path}\n").replace("{ID}", ID);
    find(text.as_bytes(), &Viewpoint::default()).unwrap().unwrap()
}

fn answer(pid: u32) -> String {
    format!(
        r#"{{"Id":"{ID}","Image":"sha256:aa","State":{{"Running":true,"Pid":{pid}}},"Config":{{
        "Image":"nginx:1","Labels":{{"app":"billing","a:b":"c","odd":"x\ny","tier":""}},
        "Env":["TIER=gold","PASSWORD=hush","EMPTY=","broken"]}}}}"#
    )
}

fn attestor(env: &[&str]) -> Attestor {
    let env = Some(env.iter().map(|name| (*name).to_owned()).collect());
    Attestor::new(Config { env, ..Config::default() })
}

fn facts(attestor: &Attestor, json: &str, user: Option<u32>) -> Vec<String> {
    let inspected = read_container(json.as_bytes(), &id()).unwrap();
    attestor.facts_of(&inspected, user).iter().map(ToString::to_string).collect()
}

#[test]
fn facts_have_spires_names() {
    let want = [
        "docker:env:TIER=gold",
        "docker:image_config_digest:sha256:aa",
        "docker:image_id:nginx:1",
        "docker:label:app:billing",
        "docker:label:tier:",
    ];
    assert_eq!(facts(&attestor(&["TIER", "OTHER"]), &answer(7), None), want);
    let rootless = facts(&attestor(&["X"]), &answer(7), Some(1_000));
    assert_eq!(rootless.last().map(String::as_str), Some("docker:rootless_uid:1000"));
    assert_eq!(rootless.len(), want.len());
}

#[test]
fn a_secret_is_in_no_debug_output() {
    let inspected = read_container(answer(7).as_bytes(), &id()).unwrap();
    let text = format!("{inspected:?}");
    assert!(text.contains("3 variables") && !text.contains("hush"), "{text}");
}

#[test]
fn what_is_empty_may_be_null() {
    let json = format!(
        r#"{{"Id":"{ID}","State":{{"Running":true,"Pid":1}},
        "Config":{{"Image":null,"Labels":null,"Env":null}}}}"#
    );
    assert_eq!(facts(&attestor(&["A"]), &json, None), [""; 0]);
}

#[test]
fn an_answer_about_something_else_is_none() {
    let good = answer(7);
    for bad in [
        good.replace(ID, &ID.replace('9', "8")),
        good.replace("\"Running\":true", "\"Running\":false"),
        answer(0),
        good.replace("\"Pid\":7", "\"Pid\":-7"),
        good.replace("\"State\"", "\"Stat\""),
        "{}".to_owned(),
        String::new(),
    ] {
        assert!(read_container(bad.as_bytes(), &id()).is_none(), "{bad}");
    }
}

#[test]
fn each_runtime_has_its_engine() {
    let uids = Some([1_000].into());
    let attestor = Attestor::new(Config { rootless_podman_uids: uids, ..Config::default() });
    let user = "/user.slice/user-1000.slice/user@1000.service/user.slice";
    for (path, engine) in [
        ("/docker/{ID}", Some("/var/run/docker.sock")),
        ("/system.slice/docker-{ID}.scope", Some("/var/run/docker.sock")),
        ("/machine.slice/libpod-{ID}.scope", Some("/run/podman/podman.sock")),
        (&format!("{user}/libpod-{{ID}}.scope"), Some("/run/user/1000/podman/podman.sock")),
        (&format!("{user}/docker-{{ID}}.scope"), None),
        ("/user.slice/user-1.slice/user@1.service/libpod-{ID}.scope", None),
        ("/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/crio-{ID}", None),
        ("/system.slice/nerdctl-{ID}.scope", None),
    ] {
        let found = attestor.engine(&on(path));
        assert_eq!(found.as_deref(), engine.map(Path::new), "{path}");
    }
}

/// A fake engine that answers everything the same.
struct Engine {
    dir: TempDir,
    asked: Arc<AtomicUsize>,
}

impl Engine {
    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let dir = tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("engine")).unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let (count, answer) = (Arc::clone(&asked), answer.into());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                let read = stream.read(&mut request).await.unwrap();
                let line = format!("GET /containers/{ID}/json HTTP/1.1\r\n");
                assert!(request[..read].starts_with(line.as_bytes()));
                count.fetch_add(1, Ordering::Relaxed);
                // A client that has heard enough hangs up.
                drop(stream.write_all(&answer).await);
            }
        });
        Self { dir, asked }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("engine")
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_engine_tells_of_a_container() {
    let engine = Engine::answering(http("200 OK", &answer(7)));
    let inspected = engine::inspect(&engine.socket(), &id()).await.unwrap().unwrap();
    assert_eq!((inspected.main_pid, inspected.image_digest.as_str()), (7, "sha256:aa"));
    let none = Engine::answering(http("404 Not Found", r#"{"message":"No such container"}"#));
    assert!(engine::inspect(&none.socket(), &id()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_engine_that_is_broken_is_said_so() {
    let endless = http("200 OK", &"x".repeat(2 << 20));
    for (answer, why) in [
        (http("500 Internal Server Error", "{}"), "500"),
        (http("301 Moved\r\nLocation: http://169.254.169.254/", ""), "301"),
        (http("200 OK", "{}"), "something else"),
        (endless, "no whole answer"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_owned(), "no whole answer"),
        ("nonsense".to_owned(), "does not answer"),
    ] {
        let engine = Engine::answering(answer);
        let error = engine::inspect(&engine.socket(), &id()).await.unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("hush"), "{error}");
        assert!(error.contains(engine.socket().to_str().unwrap()), "{error}");
    }
    let error = engine::inspect(Path::new("/nonexistent"), &id()).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

#[tokio::test]
async fn a_container_elsewhere_is_not_the_one_that_the_engine_means() {
    // The engine says that the container began with us; and we are in no container of this name.
    let engine = Engine::answering(http("200 OK", &answer(std::process::id())));
    let permissions = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(engine.dir.path(), permissions).unwrap();
    let attestor = attestor(&["TIER"]);
    let caller = crate::workload::Caller { pid: std::process::id(), uid: 0, gid: 0, since: None };
    let process = Process::open(caller, &Arc::default()).unwrap();
    let container = on("/docker/{ID}");
    let error = attestor.ask(&engine.socket(), &container, &process).await.unwrap_err();
    assert!(error.to_string().contains("which is elsewhere"), "{error}");
    // Nothing of it is remembered.
    attestor.ask(&engine.socket(), &container, &process).await.unwrap_err();
    assert_eq!(engine.asked.load(Ordering::Relaxed), 2);
}
