//! What must not get out: canaries that are secret, and everywhere they could have got to.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::secret::Secret;
use claviger_proto::claviger::psk::v1::{IssueRequest, RedeemRequest};
use claviger_tests::process::{Deployment, PATIENCE, my_uid, terminate};
use claviger_tests::workload::Workload;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::claviger;

const CLIENT: &str = "spiffe://example.org/canary/client";
const SERVER: &str = "spiffe://example.org/canary/server";

/// A secret, and what it may look like.
struct Canary {
    name: &'static str,
    looks: Vec<Vec<u8>>,
}

impl Canary {
    /// A key: as it is, in hexadecimal, in base64 wherever it begins in a group of three, and as Rust
    /// prints bytes.
    fn key(name: &'static str, key: &[u8]) -> Self {
        assert!(key.len() >= 16, "{name} is too short to be found by chance only");
        let mut looks = vec![key.to_vec(), hex::encode(key).into(), hex::encode_upper(key).into()];
        for skipped in 0..3 {
            // Whole groups, so that what stands before and after does not show.
            let middle = &key[skipped..];
            let middle = &middle[..middle.len() / 3 * 3];
            looks.push(STANDARD_NO_PAD.encode(middle).into());
            looks.push(URL_SAFE_NO_PAD.encode(middle).into());
        }
        let numbers: Vec<_> = key[..16].iter().map(u8::to_string).collect();
        looks.push(numbers.join(", ").into());
        Self { name, looks }
    }

    /// A token, which is text.
    fn token(name: &'static str, token: &str) -> Self {
        Self { name, looks: vec![token.into()] }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let found = |look: &Vec<u8>| bytes.windows(look.len()).any(|window| window == look);
        self.looks.iter().any(found)
    }
}

/// The secret number, of a P-256 key as PKCS#8 (RFC 5915 §3); otherwise what a file ends with.
fn secret_part(key: &[u8]) -> &[u8] {
    let before = [2, 1, 1, 4, 32];
    let at = key.windows(before.len()).position(|window| window == before);
    at.map_or(&key[key.len() - 32..], |at| &key[at + before.len()..][..32])
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What a process tells about itself in `/proc`.
fn shown(pid: u32) -> Vec<u8> {
    ["cmdline", "environ"].map(|file| fs::read(format!("/proc/{pid}/{file}")).unwrap()).concat()
}

/// A key is issued and redeemed, so that its bytes have gone through both processes.
async fn used_key(workload: &Workload) -> Vec<u8> {
    let request = IssueRequest {
        peer: SERVER.to_owned(),
        purpose: "canary".to_owned(),
        spiffe_id: CLIENT.to_owned(),
        ..IssueRequest::default()
    };
    let issued = workload.broker().issue(Workload::request(request)).await.unwrap().into_inner();
    let transcript = [7; 32];
    let psk = Psk(Secret::copy_from(&issued.key).unwrap());
    let offer = RedeemRequest {
        attempt_id: vec![1; 16],
        identity: issued.identity,
        transcript_hash: transcript.to_vec(),
        binder: binder::compute(&psk, &transcript).to_vec(),
        spiffe_id: SERVER.to_owned(),
    };
    let redeemed = workload.broker().redeem(Workload::request(offer)).await.unwrap().into_inner();
    assert_eq!(redeemed.key, issued.key);
    issued.key
}

#[tokio::test]
async fn no_secret_gets_into_logs_the_audit_log_the_store_or_proc() {
    let deployment = Deployment::start_talkative(&claviger()).await;
    for id in [CLIENT, SERVER] {
        let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        deployment.admin(&args).await;
    }
    let workload = Workload::at(&deployment.agent_socket());
    let psk = used_key(&workload).await;
    let svids = workload.fetch_x509().await.unwrap().svids;
    let socket = deployment.agent_socket();
    let fetch = ["jwt", "fetch", "--audience", "canary", "--spiffe-id", CLIENT, "--socket-path"];
    let jwt = claviger().json(&[&fetch[..], &[socket.to_str().unwrap()]].concat()).await;
    let jwt = jwt.pointer("/svids/0/token").and_then(serde_json::Value::as_str).unwrap();
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    assert!(!signed.is_empty());
    // One that was not used. One that was is worth nothing, and the agent's name has it, as with SPIRE.
    let join_token = deployment.admin(&["token", "generate"]).await;
    let join_token = join_token.get("value").and_then(serde_json::Value::as_str).unwrap();
    let authority = files(&deployment.dir().join("server/keys"))
        .into_iter()
        .map(|path| Canary::key("a key of the server", secret_part(&fs::read(path).unwrap())));
    let canaries: Vec<_> = [
        Canary::key("a one-time key", &psk),
        Canary::key("the key of an X.509-SVID", secret_part(&svids[0].x509_svid_key)),
        Canary::token("a JWT-SVID", signature),
        Canary::token("a join token", join_token),
    ]
    .into_iter()
    .chain(authority)
    .collect();
    assert!(canaries.len() > 5, "the server has keys");

    let audit = deployment.export_audit().await;
    let mut places = vec![
        ("the audit log".to_owned(), audit.into_bytes()),
        ("/proc of the server".to_owned(), shown(deployment.server_pid())),
        ("/proc of the agent".to_owned(), shown(deployment.agent_pid())),
    ];
    // The agent's own folder is where it keeps its keys; of the workloads' it may have none but sealed.
    let kept = files(deployment.dir()).into_iter().filter(|path| {
        let keys = deployment.dir().join("server/keys");
        !path.starts_with(keys) && !path.ends_with("token") && path.is_file()
    });
    places.extend(kept.map(|path| (path.display().to_string(), fs::read(&path).unwrap())));
    let address = deployment.server_address();
    for (place, said) in [("the audit log", CLIENT), ("server.log", address), ("agent.log", CLIENT)]
    {
        let (_, bytes) = places.iter().find(|(name, _)| name.ends_with(place)).unwrap();
        assert!(Canary::token("no secret", said).is_in(bytes), "{said} is not found in {place}");
    }
    for (place, bytes) in &places {
        for canary in &canaries {
            assert!(!canary.is_in(bytes), "{} is in {place}", canary.name);
        }
    }
}

#[tokio::test]
async fn nothing_is_dumped_and_nothing_is_for_others_whatever_the_umask() {
    let deployment = Deployment::start_talkative(&claviger()).await;
    for pid in [deployment.server_pid(), deployment.agent_pid()] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (folder, open) in [("server", 0o700), ("agent", 0o700), ("server/keys", 0o700)] {
        assert_eq!(mode(&deployment.dir().join(folder)), open, "{folder}");
    }
    for key in files(&deployment.dir().join("server/keys")) {
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
    assert_eq!(mode(&deployment.admin_socket()), 0o600);
}

/// What below `folder` somebody else may write to, or read although it is a file with keys; what lies in a
/// directory that nobody else may enter is nobody else's.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let mode = found.permissions().mode();
        // Whoever may write to a socket may connect to it, which is what it is for.
        if mode & 0o022 != 0 && !found.file_type().is_socket() {
            open.push(format!("{} {mode:o}", path.display()));
        }
        if found.is_dir() && mode & 0o077 != 0 {
            open.extend(open_to_others(&path));
        }
    }
    open
}

/// A command that runs under a umask that takes nothing away, once it has said a line that `ready` begins.
async fn unmasked(args: &[&str], ready: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0 && exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_claviger"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let waiting = async { while !lines.next_line().await.unwrap().unwrap().starts_with(ready) {} };
    timeout(PATIENCE, waiting).await.unwrap();
    child
}

#[tokio::test]
async fn dev_and_a_witness_make_nothing_that_others_may_change_whatever_the_umask() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (dev_dir, witness_dir) = (at("dev"), at("witness"));
    let mut dev = unmasked(&["dev", "--dir", &dev_dir], "ready").await;
    let socket = dir.path().join("dev/server.sock");
    let socket = socket.to_str().unwrap();
    let checkpoint = ["audit", "checkpoint", "--socket-path", socket];
    let checkpoint = claviger().json(&checkpoint).await;
    let key = checkpoint.get("key").and_then(serde_json::Value::as_str).unwrap();
    let witness = ["audit", "witness", "--name", "w", "--listen", "127.0.0.1:0", "--log", key];
    let witness = [&witness[..], &["--folder", &witness_dir]].concat();
    let mut witness = unmasked(&witness, "verifier key").await;

    assert_eq!(open_to_others(dir.path()), Vec::<String>::new());
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    for (name, mode_of) in [
        ("dev", 0o755),
        ("dev/server", 0o700),
        ("dev/agent", 0o700),
        ("dev/server.sock", 0o600),
        ("dev/agent-admin.sock", 0o600),
        ("dev/agent.sock", 0o777),
        ("witness", 0o700),
        ("witness/witness.key", 0o600),
    ] {
        assert_eq!(mode(name) & 0o777, mode_of, "{name}");
    }
    assert!(terminate(&mut witness).await.success() && terminate(&mut dev).await.success());
}

#[test]
fn a_canary_is_found_however_it_is_written() {
    let key: Vec<u8> = (100..132).collect();
    let canary = Canary::key("a key", &key);
    for written in [
        key.clone(),
        format!("key={}", hex::encode(&key)).into(),
        format!("x{}", STANDARD_NO_PAD.encode([b"ab", &key[..]].concat())).into(),
        format!("{key:?}").into(),
        format!("{:?}", bytes_of(&key)).into(),
    ] {
        assert!(canary.is_in(&written), "{}", String::from_utf8_lossy(&written));
    }
    assert!(!canary.is_in(&key[1..]));
}

/// As a struct of ours would print them if it did.
fn bytes_of(key: &[u8]) -> Option<&[u8]> {
    Some(key)
}
