//! Signed tokens (JWT, RFC 7519), whoever made them: what a CI job shows, or an attestation result.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_core::jose::compact::Compact;
use claviger_core::time::UnixTime;
use serde_json::Value;

use super::{Given, Inspection, Unused};
use crate::checklist::{Broken, Checklist, Rule};
use crate::jwks::KeySet;
use crate::jwks::claims::Claims;

/// The name of the kind.
pub(super) const KIND: &str = "jwt";

/// How far the clocks of two machines may be apart.
const SKEW: Duration = Duration::from_secs(60);

static STRICT: Rule = Rule::new("jwt.claims", "its claims are a JSON object, and none comes twice");
static SIGNATURE: Rule = Rule::new("jwt.signature", "a key of its issuer's signed it");
static EXPIRY: Rule = Rule::new("jwt.expiry", "it says when it ends, and has not ended");
static START: Rule = Rule::new("jwt.start", "it has begun, and was not made in the future");
static NONCE: Rule = Rule::new("jwt.nonce", "it carries the nonce");

/// Looks at a token; none if `document` is none. The set of keys (JWK Set) that may have signed it is
/// [`Given::collateral`].
pub(super) fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    let text = str::from_utf8(document).ok()?.trim_ascii();
    let token = Compact::parse_foreign(text).ok()?;
    let mut checks = Checklist::exhaustive();
    let fields = fields(&token)?;
    // Nothing ends an exhaustive list.
    judge(&token, given, &mut checks).ok()?;
    Some(Inspection { kind: KIND, fields, checks })
}

fn judge(token: &Compact<'_>, given: &Given, checks: &mut Checklist) -> Result<(), Broken> {
    given.refuse("a token", &[Unused::Binding, Unused::References], checks)?;
    match &given.collateral {
        Some(keys) => {
            let signed = keys_of(keys).and_then(|keys| signed_by(token, &keys));
            checks.take(&SIGNATURE, signed)?;
        }
        None => checks
            .leave_open(&SIGNATURE, "give the keys of its issuer, a JWK Set, as collateral")?,
    }
    let Some(claims) = checks.take(&STRICT, Claims::parse(&token.payload))? else {
        let unread = "its claims can't be read";
        for rule in [&EXPIRY, &START] {
            checks.leave_open(rule, unread)?;
        }
        return Ok(());
    };
    let time = |name| claims.find(name).and_then(Value::as_u64).map(UnixTime::from_secs);
    let (iat, nbf, exp) = (time("iat"), time("nbf"), time("exp"));
    if let Some(now) = given.at.or(iat) {
        let alive = exp
            .ok_or("it never ends")
            .and_then(|exp| if now < exp { Ok(()) } else { Err("it has ended") });
        checks.take(&EXPIRY, alive)?;
        let begun = [iat, nbf].into_iter().flatten().all(|start| start <= now.after(SKEW));
        checks.require(&START, begun, || "it begins later")?;
    } else {
        for rule in [&EXPIRY, &START] {
            checks.leave_open(rule, "it has no time of its own")?;
        }
    }
    if let Some(nonce) = &given.nonce {
        let spellings = [URL_SAFE_NO_PAD.encode(nonce), hex::encode(nonce)];
        let carried = ["eat_nonce", "nonce"].iter().find_map(|name| claims.find(name)?.as_str());
        let is = carried.is_some_and(|carried| spellings.iter().any(|it| it == carried));
        checks.require(&NONCE, is, || "its `eat_nonce` is another, or missing")?;
    }
    Ok(())
}

fn signed_by(token: &Compact<'_>, keys: &KeySet) -> Result<(), String> {
    let Compact { algorithm, key_id, signed, signature, .. } = token;
    if !keys.names(key_id) {
        return Err(format!("no key among the given is called `{key_id}`"));
    }
    let signed = keys.verifies(key_id, *algorithm, signed.as_bytes(), signature);
    if signed { Ok(()) } else { Err(format!("the key `{key_id}` did not sign it")) }
}

/// The keys in a JWK Set, be it the bundle of a SPIFFE trust domain, whose keys for tokens have a use of
/// their own.
fn keys_of(document: &[u8]) -> Result<KeySet, String> {
    let mut set: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let keys = set.get_mut("keys").and_then(Value::as_array_mut);
    for key in keys.into_iter().flatten() {
        if let Some(purpose) = key.get_mut("use")
            && purpose == "jwt-svid"
        {
            *purpose = "sig".into();
        }
    }
    KeySet::parse(set.to_string().as_bytes()).map_err(|error| error.to_string())
}

/// What it says. Not its signature: without it, nobody can use what is printed.
fn fields(token: &Compact<'_>) -> Option<Vec<(String, String)>> {
    let claims: BTreeMap<String, Value> = serde_json::from_slice(&token.payload).ok()?;
    let kind = token.kind.clone().unwrap_or_else(|| "not said".to_owned());
    let mut fields = vec![
        ("type".to_owned(), kind),
        ("algorithm".to_owned(), token.algorithm.name().to_owned()),
        ("key".to_owned(), token.key_id.clone()),
    ];
    fields.extend(claims.into_iter().map(|(name, value)| {
        let time = matches!(name.as_str(), "iat" | "nbf" | "exp");
        let shown = match (value.as_i64().filter(|_| time), value) {
            (Some(seconds), value) => jiff::Timestamp::from_second(seconds)
                .map_or_else(|_no_time| value.to_string(), |time| time.to_string()),
            (None, Value::String(text)) => text,
            (None, value) => value.to_string(),
        };
        (name, shown)
    }));
    Some(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;
    use crate::checklist::Outcome;
    use crate::jwks::fixture::SigningKey;

    const CLAIMS: &str = r#"{"iss":"https://ci","sub":"job","iat":1000,"exp":1600,"n":{"a":1}}"#;

    fn sign(key: &SigningKey, claims: &str) -> String {
        key.token_with_header(&json!({"alg": "ES256", "kid": "k"}), claims.as_bytes())
    }

    /// The verdict on a token with these claims, and the rules that it does not keep.
    fn verdict(claims: &str, purpose: &str, given: Given) -> (Verdict, Vec<&'static str>) {
        let key = SigningKey::es256("k");
        let token = sign(&key, claims);
        let mut jwk = key.jwk();
        jwk["use"] = purpose.into();
        let keys = json!({"keys": [jwk]}).to_string().into_bytes();
        let inspection = inspect(token.as_bytes(), &Given { collateral: Some(keys), ..given });
        let inspection = inspection.unwrap();
        let broken = inspection.checks.checks().filter(|(_, outcome)| **outcome != Outcome::Kept);
        (inspection.verdict(), broken.map(|(rule, _)| rule.id).collect())
    }

    #[test]
    fn a_token_is_genuine_by_the_keys_of_its_issuer_or_of_a_bundle() {
        for purpose in ["sig", "jwt-svid"] {
            assert_eq!(verdict(CLAIMS, purpose, Given::NOTHING), (Verdict::Genuine, vec![]));
        }
        assert_eq!(
            verdict(CLAIMS, "enc", Given::NOTHING),
            (Verdict::Broken, vec!["jwt.signature"])
        );
    }

    #[test]
    fn each_rule_is_named_when_it_is_broken() {
        let at = |seconds| Given { at: Some(UnixTime::from_secs(seconds)), ..Given::NOTHING };
        let broken = |claims: &str, given| verdict(claims, "sig", given).1;
        assert_eq!(broken(CLAIMS, at(1599)), Vec::<&str>::new());
        assert_eq!(broken(CLAIMS, at(1600)), ["jwt.expiry"]);
        assert_eq!(broken(CLAIMS, at(939)), ["jwt.start"]);
        assert_eq!(broken(r#"{"iat":1}"#, at(2)), ["jwt.expiry"]);
        assert_eq!(broken(r#"{"exp":1}"#, Given::NOTHING), ["jwt.expiry", "jwt.start"]);
        assert_eq!(broken(r#"{"iat":1,"iat":1,"exp":2}"#, Given::NOTHING).len(), 3);
        let nonce = Given { nonce: Some(b"nonce".to_vec()), ..Given::NOTHING };
        assert_eq!(broken(CLAIMS, nonce), ["jwt.nonce"]);
        let nonce = Given { nonce: Some(b"nonce".to_vec()), ..Given::NOTHING };
        let carried = broken(r#"{"iat":1,"exp":2,"eat_nonce":"bm9uY2U"}"#, nonce);
        assert_eq!(carried, Vec::<&str>::new());
        let bound = Given { binding: Some(vec![1]), ..Given::NOTHING };
        assert_eq!(broken(CLAIMS, bound), ["given.applies"]);
    }

    #[test]
    fn what_is_shown_can_not_be_used() {
        let token = sign(&SigningKey::es256("k"), CLAIMS);
        let inspection = inspect(format!("{token}\n").as_bytes(), &Given::NOTHING).unwrap();
        assert_eq!(inspection.verdict(), Verdict::Open);
        let (_, signature) = token.rsplit_once('.').unwrap();
        let shown = format!("{:?}", inspection.fields);
        assert!(!shown.contains(signature), "{shown}");
        assert!(shown.contains(r#"("exp", "1970-01-01T00:26:40Z")"#), "{shown}");
        assert!(shown.contains(r#"("n", "{\"a\":1}")"#), "{shown}");
        assert!(inspect(b"a.b.c", &Given::NOTHING).is_none());
    }
}
