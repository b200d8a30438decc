use aws_lc_rs::signature::Ed25519KeyPair;
use claviger_core::audit::note::{Kind, SigningKey};
use claviger_core::audit::{Checkpoint, SignedCheckpoint};
use claviger_core::time::UnixTime;

use super::*;

const BODIES: [&str; 3] = [
    r#"{"time":1,"event":"server_started","epoch":1}"#,
    r#"{"time":2,"event":"epoch_fenced","epoch":2,"reason":"a restored backup"}"#,
    r#"{"time":3,"event":"server_started","epoch":2}"#,
];

fn signing_key() -> SigningKey {
    let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    SigningKey::from_pkcs8("example.org/audit", Kind::Author, pkcs8.as_ref()).unwrap()
}

/// A checkpoint over the first of `bodies`.
fn sign(key: &SigningKey, bodies: &[&str]) -> Signed {
    let leaves = bodies.iter().map(|body| TreeHash::of_leaf(body.as_bytes()));
    let head = leaves.collect::<claviger_core::audit::Edge>().head();
    let (trust_domain, time) = ("example.org".parse().unwrap(), UnixTime::from_secs(4));
    let checkpoint = Checkpoint { trust_domain, epoch: 2, head, time };
    Signed { checkpoint: SignedCheckpoint::sign(checkpoint, key), key: key.public().clone() }
}

/// The lines of an export, signed by `key`.
fn export(key: &SigningKey) -> Vec<String> {
    let mut lines = Vec::new();
    for (seq, body) in (1..).zip(BODIES) {
        let hash = TreeHash::of_leaf(body.as_bytes());
        lines.push(format!(r#"{{"seq":{seq},"hash":"{hash}","body":{body}}}"#));
    }
    lines.push(serde_json::to_string(&sign(key, &BODIES).to_line()).unwrap());
    lines
}

fn verify_with(
    lines: &[String],
    trusted: Option<&VerifierKey>,
    since: Option<&Signed>,
) -> Result<Verified, String> {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("audit.jsonl"), dir.path().join("old"));
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let mut files = Vec::new();
    if let Some(since) = since {
        std::fs::write(&old, since.checkpoint.note().to_string()).unwrap();
        files.push(old);
    }
    verify_file(&path, trusted, &files).map_err(|failure| failure.to_string())
}

fn verify(lines: &[String]) -> Result<Verified, String> {
    verify_with(lines, None, None)
}

#[test]
fn a_whole_export_verifies() {
    let key = signing_key();
    let verified = verify(&export(&key)).unwrap();
    let shown = verified.to_string();
    assert!(shown.starts_with("3 records, none missing\nMerkle root "), "{shown}");
    let json = serde_json::to_value(&verified).unwrap();
    assert_eq!((&json["records"], &json["checkpoint"]["size"]), (&3.into(), &3.into()));
    assert_eq!(json["checkpoint"]["key"].as_str().unwrap(), key.public().to_string());
    verify_with(&export(&key), Some(key.public()), None).unwrap();
    let told = verify_with(&export(&key), Some(signing_key().public()), None).unwrap_err();
    assert!(told.contains("not signed with the key"), "{told}");
}

#[test]
fn an_export_without_its_last_line_shows_nothing_of_its_end() {
    let mut lines = export(&signing_key());
    lines.pop();
    let verified = verify(&lines).unwrap();
    let json = serde_json::to_value(&verified).unwrap();
    assert_eq!((&json["records"], &json["checkpoint"]), (&3.into(), &serde_json::Value::Null));
}

#[test]
fn an_edited_export_is_found_out() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<String>), message: &str) {
        let mut lines = export(&signing_key());
        change(&mut lines);
        let told = verify(&lines).unwrap_err();
        assert!(told.contains(message), "{told}");
    }
    check(|lines| lines[1] = lines[1].replace("restored", "RESTORED"), "record 2 does not match");
    check(|lines| lines[1] = lines[1].replace("\"time\":2", "\"time\": 2"), "record 2 does not");
    check(|lines| drop(lines.remove(1)), "record 2 is missing");
    check(|lines| lines.swap(0, 1), "record 1 is missing");
    check(|lines| lines[2] = "{}".into(), "line 3");
    check(|lines| drop(lines.remove(2)), "ends after record 2");
    check(|lines| lines.push(lines[2].clone()), "goes on after its checkpoint");
    // Whoever edits a record and its hash does not have the key.
    let forge = |lines: &mut Vec<String>| {
        let body = BODIES[1].replace("restored", "RESTORED");
        let hash = TreeHash::of_leaf(body.as_bytes());
        lines[1] = format!(r#"{{"seq":2,"hash":"{hash}","body":{body}}}"#);
    };
    check(forge, "are not those of its checkpoint");
    check(|lines| lines[3] = lines[3].replace("\\n3\\n", "\\n2\\n"), "is wrong");
}

#[test]
fn a_log_has_to_continue_the_checkpoints_of_before() {
    let key = signing_key();
    let lines = export(&key);
    for size in 0..=3 {
        verify_with(&lines, None, Some(&sign(&key, &BODIES[..size]))).unwrap();
    }
    let forked = sign(&key, &[BODIES[0], BODIES[2]]);
    let told = verify_with(&lines, None, Some(&forked)).unwrap_err();
    assert!(told.contains("first 2 records are not those of the checkpoint in"), "{told}");
    let longer = sign(&key, &[BODIES[0], BODIES[1], BODIES[2], BODIES[0]]);
    let told = verify_with(&lines, None, Some(&longer)).unwrap_err();
    assert!(told.contains("has 4 records, but the log ends after record 3"), "{told}");
    let foreign = sign(&signing_key(), &BODIES[..1]);
    let told = verify_with(&lines, None, Some(&foreign)).unwrap_err();
    assert!(told.contains("not signed with the key"), "{told}");
}
