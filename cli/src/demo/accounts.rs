//! The audit log: whole, signed, with the story in it and no key.

use std::path::Path;

use serde_json::Value;

use super::Attestor;
use super::cast::id;
use super::orders::{Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::admin::Server;
use crate::commands::audit::{Verified, verify_online};
use crate::failure::Failure;
use crate::files;

/// Verifies the log, and that it tells what happened: the node was attested by `attestor`, `key` was
/// issued and redeemed once, and its second use was noticed. `holder` says that the key itself is not
/// in it.
pub(super) async fn settle(
    stage: &mut Stage,
    folder: &Path,
    server: &Server,
    (attestor, key): (Attestor, &str),
    holder: &mut Program,
) -> Result<(), Failure> {
    let act = async {
        let mut bodies = Vec::new();
        let verified: Verified = verify_online(server, |body| bodies.push(body.to_owned())).await?;
        check_story(&bodies, attestor.kind(), key)?;
        let path = folder.join("audit.jsonl");
        files::replace(&path, bodies.join("\n").as_bytes(), files::SECRET)?;
        let report = holder.order(&Order::Search(path)).await?;
        if report != Report::Found(false) {
            return Err(holder.unexpected("an audit log without the key", &report));
        }
        let records = verified.records;
        Ok(((), format!("audit log: {records} records, tree and signature valid, no key in it")))
    };
    stage.step("the audit log is verified", act).await
}

fn check_story(bodies: &[String], kind: &str, key: &str) -> Result<(), Failure> {
    let events: Vec<Value> = bodies
        .iter()
        .map(|body| serde_json::from_str(body))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::because(&error))?;
    let count = |event: &str, field: &str, value: &str| {
        let is = |record: &&Value, field: &str, value: &str| {
            record.get(field).and_then(Value::as_str) == Some(value)
        };
        events.iter().filter(|one| is(one, "event", event) && is(one, field, value)).count()
    };
    let (frontend, backend) = (id("frontend")?.to_string(), id("backend")?.to_string());
    let story = [
        ("agent_attested", "kind", kind),
        ("x509_svid_issued", "subject", &frontend),
        ("x509_svid_issued", "subject", &backend),
        ("psk_issued", "identity", key),
        ("psk_redeemed", "identity", key),
        ("psk_replayed", "identity", key),
    ];
    for (event, field, value) in story {
        let times = count(event, field, value);
        if times != 1 {
            return Err(Failure::failed(format_args!(
                "the audit log has {times} records `{event}` with {field} {value}, not one"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Vec<String> {
        let psk = |event| format!(r#"{{"event":"{event}","identity":"p1.x"}}"#);
        let svid = |name| {
            format!(r#"{{"event":"x509_svid_issued","subject":"spiffe://example.org/{name}"}}"#)
        };
        let attested = r#"{"event":"agent_attested","kind":"join_token"}"#.to_owned();
        [
            attested,
            svid("frontend"),
            svid("backend"),
            psk("psk_issued"),
            psk("psk_redeemed"),
            psk("psk_replayed"),
        ]
        .into()
    }

    #[test]
    fn the_story_must_be_told_once_and_whole() {
        check_story(&story(), "join_token", "p1.x").unwrap();
        check_story(&story(), "join_token", "p1.y").unwrap_err();
        check_story(&story(), "oidc", "p1.x").unwrap_err();
        for left_out in 0..story().len() {
            let mut partial = story();
            partial.remove(left_out);
            check_story(&partial, "join_token", "p1.x").unwrap_err();
        }
        let mut twice = story();
        twice.push(twice[4].clone());
        let told = check_story(&twice, "join_token", "p1.x").unwrap_err().to_string();
        assert!(told.contains("2 records `psk_redeemed`"), "{told}");
    }
}
