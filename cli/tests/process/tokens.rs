//! Tokens, as people and scripts get and check them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_tests::process::{Dev, PATIENCE, my_uid};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::claviger;

const WEB: &str = "spiffe://example.org/web";

async fn dev() -> Dev {
    let dev = Dev::start(&claviger()).await;
    let uid = my_uid();
    let create = ["entry", "create", "--selector", &uid, "--wait", "--spiffe-id"];
    for id in [WEB, "spiffe://example.org/db"] {
        dev.admin(&[&create[..], &[id]].concat()).await;
    }
    dev
}

async fn fetch(dev: &Dev, args: &[&str]) -> Value {
    let socket = dev.agent_socket.to_str().unwrap();
    claviger().json(&[args, &["--socket-path", socket]].concat()).await
}

async fn validate(dev: &Dev, audience: &str, token: &str) -> Output {
    let socket = dev.agent_socket.to_str().unwrap();
    let validate = ["jwt", "validate", "--output", "json", "--socket-path", socket, "--audience"];
    let mut command = claviger().command(validate.iter().chain(&[audience]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).await.unwrap();
    timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap()
}

fn claims(token: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test]
async fn a_jwt_is_valid_for_its_audience_and_for_no_other() {
    let dev = dev().await;
    let audience = ["jwt", "fetch", "--audience", "a,b"];
    assert_eq!(fetch(&dev, &audience).await["svids"].as_array().unwrap().len(), 2);
    let fetched = fetch(&dev, &[&audience[..], &["--spiffe-id", WEB]].concat()).await;
    let [svid] = fetched["svids"].as_array().unwrap().as_slice() else { panic!("{fetched}") };
    let token = svid["token"].as_str().unwrap();
    assert_eq!(svid["expires_at"], claims(token)["exp"]);

    let output = validate(&dev, "b", &format!("{token}\n")).await;
    let valid: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&valid["spiffe_id"], &valid["claims"]), (&WEB.into(), &claims(token)));

    let output = validate(&dev, "c", token).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("not for this audience") && !told.contains(token), "{told}");

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let forged = signature.chars().rev().collect::<String>();
    let output = validate(&dev, "b", &format!("{signed}.{forged}")).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

#[tokio::test]
async fn a_wit_is_bound_to_the_key_in_the_file_beside_it() {
    let dev = dev().await;
    let dir = TempDir::new().unwrap();
    let folder = dir.path().to_str().unwrap();
    let fetched = fetch(&dev, &["wit", "fetch", "--spiffe-id", WEB, "--write", folder]).await;
    let token = fs::read_to_string(dir.path().join("wit.0.jwt")).unwrap();
    assert_eq!(fetched["svids"][0]["token"], *token);
    assert_eq!(claims(&token)["sub"], WEB);

    let file = dir.path().join("wit.0.jwk");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let bound = &claims(&token)["cnf"]["jwk"];
    assert!(key["d"].is_string() && bound["d"].is_null());
    assert_eq!((&key["x"], &key["y"]), (&bound["x"], &bound["y"]));
    assert!(!fetched.to_string().contains(key["d"].as_str().unwrap()));
}
