//! Tokens that only a careless validator accepts, made from a genuine one without its key.

use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Grounds, INVALID, Level, Plan};
use crate::conformance::client::Ask;
use crate::conformance::forge::{hs256, unsigned, with_signature};
use crate::conformance::jose::{Object, Token, text};

const UNSIGNED: &str = "ValidateJWTSVID refuses with INVALID_ARGUMENT what no key of the subject's \
                        trust domain signed";

pub(super) fn plans(grounds: &Grounds<'_>) -> Vec<Plan> {
    let audience = grounds.audience;
    let mut plans = vec![
        empty(audience, "", "an empty token"),
        plan(audience, 33, COMPACT, "the text `a.b.c`", "a.b.c".to_owned()),
        plan(audience, 33, COMPACT, "10 kB of dots", ".".repeat(10_000)),
    ];
    let Some(genuine) = grounds.token else { return plans };
    plans.push(empty("", genuine, "an empty audience"));
    plans.extend(other_audiences(audience, genuine));
    plans.extend(other_serializations(audience, genuine));
    if let Ok(token) = Token::parse(genuine) {
        plans.extend(without_key(grounds, &token));
        plans.extend(tampered(audience, &token, genuine));
        // Without randomness there is nothing to sign with; then there are fewer requests.
        plans.extend(with_other_key(grounds, &token).unwrap_or_default());
    }
    plans
}

fn plan(audience: &str, check: u8, expected: &'static str, what: &str, token: String) -> Plan {
    Plan {
        check,
        level: Level::Must,
        expected,
        what: format!("ValidateJWTSVID of {what}"),
        ask: Ask::Validate { audience: audience.to_owned(), token },
        want: INVALID,
    }
}

fn empty(audience: &str, token: &str, what: &str) -> Plan {
    let expected = "ValidateJWTSVID without an audience or without a token is refused with \
                    INVALID_ARGUMENT, at once";
    Plan { level: Level::Should, ..plan(audience, 10, expected, what, token.to_owned()) }
}

fn other_audiences(audience: &str, genuine: &str) -> Vec<Plan> {
    let swapped = audience.to_uppercase();
    let swapped = if swapped == audience { audience.to_lowercase() } else { swapped };
    let longer = format!("{audience}-2");
    let shorter: String = audience.chars().take(audience.chars().count() / 2).collect();
    let others = [("another case", swapped), ("a longer one", longer), ("its beginning", shorter)];
    let expected = "ValidateJWTSVID refuses a token that is for other audiences with \
                    INVALID_ARGUMENT";
    let others = others.into_iter().filter(|(_, other)| other != audience && !other.is_empty());
    let plans = others.map(|(what, other)| {
        let what = format!("a genuine token for `{audience}`, for {what}, `{other}`");
        plan(&other, 38, expected, &what, genuine.to_owned())
    });
    plans.collect()
}

const COMPACT: &str = "ValidateJWTSVID refuses with INVALID_ARGUMENT what is no compact \
                       serialization";

fn other_serializations(audience: &str, genuine: &str) -> Vec<Plan> {
    let parts: Vec<_> = genuine.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { return Vec::new() };
    let flattened = json!({ "payload": payload, "protected": header, "signature": signature });
    let signatures = [json!({ "protected": header, "signature": signature })];
    let general = json!({ "payload": payload, "signatures": signatures });
    vec![
        plan(audience, 33, COMPACT, "a genuine token, flattened JSON", flattened.to_string()),
        plan(audience, 33, COMPACT, "a genuine token, general JSON", general.to_string()),
        plan(
            audience,
            33,
            COMPACT,
            "a genuine token without signature",
            format!("{header}.{payload}"),
        ),
        plan(audience, 33, COMPACT, "a genuine token with a fourth part", format!("{genuine}.e30")),
    ]
}

/// `none`, and a MAC keyed with what everybody knows (RFC 8725 §2.1, §3.1).
fn without_key(grounds: &Grounds<'_>, token: &Token<'_>) -> Vec<Plan> {
    let expected = "ValidateJWTSVID refuses algorithms other than RS, ES and PS with \
                    INVALID_ARGUMENT";
    let claims = Value::Object(token.claims.clone()).to_string();
    let header = |alg: &str| with(&token.header, "alg", json!(alg));
    let mut plans: Vec<_> = ["none", "None", "NONE", "nOnE"]
        .map(|alg| {
            let forged = unsigned(&header(alg), &claims) + ".";
            plan(grounds.audience, 35, expected, &format!("a token with `alg: {alg}`"), forged)
        })
        .into();
    let jwk = grounds.jwks.as_ref().and_then(|jwks| jwks.find(token.header("kid")?));
    for (what, secret) in jwk.map(public_secrets).unwrap_or_default() {
        let forged = hs256(&secret, &header("HS256"), &claims);
        let what = format!("a token with `alg: HS256` and the key {what} as its secret");
        plans.push(plan(grounds.audience, 35, expected, &what, forged));
    }
    plans
}

/// A public key in the forms in which a careless library may take it for a secret.
fn public_secrets(jwk: &Object) -> Vec<(&'static str, Vec<u8>)> {
    /// What precedes the point of a P-256 key (RFC 5480 §2).
    const P256: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let mut secrets = vec![("as JSON", Value::Object(jwk.clone()).to_string().into_bytes())];
    let member = |name| URL_SAFE_NO_PAD.decode(text(jwk, name)?).ok();
    if let (Some("P-256"), Some(x), Some(y)) = (text(jwk, "crv"), member("x"), member("y")) {
        let der = [&P256[..], &[4], &x, &y].concat();
        let base64 = STANDARD.encode(&der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
        // Base64 of a P-256 key has 124 characters, and PEM breaks lines at 64.
        let pem = pem.replace(&base64, &broken_at_64(&base64));
        secrets.push(("in DER", der));
        secrets.push(("in PEM", pem.into_bytes()));
    } else if let Some(n) = member("n") {
        secrets.push(("'s modulus", n));
    }
    secrets
}

fn broken_at_64(text: &str) -> String {
    match text.split_at_checked(64) {
        Some((line, rest)) if !rest.is_empty() => format!("{line}\n{}", broken_at_64(rest)),
        _ => text.to_owned(),
    }
}

/// The genuine signature under other texts, and the other way round.
fn tampered(audience: &str, token: &Token<'_>, genuine: &str) -> Vec<Plan> {
    let Some((_, signature)) = genuine.rsplit_once('.') else { return Vec::new() };
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(signature) else { return Vec::new() };
    let flipped: Vec<_> =
        bytes.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 7)).collect();
    let header = Value::Object(token.header.clone()).to_string();
    let longer = with(&token.claims, "exp", json!(4_000_000_000_u64));
    let other = with(&token.claims, "sub", json!(OTHER));
    let cut = bytes.get(1..).unwrap_or_default();
    vec![
        plan(
            audience,
            15,
            UNSIGNED,
            "a genuine token with one bit of its signature changed",
            with_signature(token.signed, &flipped),
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a genuine token with its signature cut",
            with_signature(token.signed, cut),
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a genuine token with no bytes of signature",
            with_signature(token.signed, &[]),
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a genuine token with all zeros for a signature",
            with_signature(token.signed, &vec![0; bytes.len()]),
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a genuine token made to last longer",
            format!("{}.{signature}", unsigned(&header, &longer)),
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a genuine token with another subject",
            format!("{}.{signature}", unsigned(&header, &other)),
        ),
    ]
}

/// A subject in a trust domain that nobody has.
const OTHER: &str = "spiffe://nobody.test/at-all";

/// Signed well, by a key that nobody trusts.
fn with_other_key(grounds: &Grounds<'_>, token: &Token<'_>) -> Result<Vec<Plan>, Unspecified> {
    let signer = grounds.signer;
    let claims = Value::Object(token.claims.clone()).to_string();
    let es256 = with(&token.header, "alg", json!("ES256"));
    let es256: Object = serde_json::from_str(&es256).unwrap_or_default();
    let genuine_kid = Value::Object(es256.clone()).to_string();
    let unknown_kid = with(&es256, "kid", json!("claviger-conformance-unknown"));
    let mut bare = es256.clone();
    bare.remove("kid");
    let no_kid = Value::Object(bare).to_string();
    let embedded = with(&es256, "jwk", signer.jwk());
    let elsewhere = with(&token.claims, "sub", json!(OTHER));
    let audience = grounds.audience;
    let header =
        "ValidateJWTSVID refuses headers other than alg, kid and typ with INVALID_ARGUMENT";
    let foreign = "ValidateJWTSVID refuses a subject of a trust domain without a bundle with \
                   INVALID_ARGUMENT";
    Ok(vec![
        plan(
            audience,
            15,
            UNSIGNED,
            "a token signed by another key under the genuine kid",
            signer.sign(&genuine_kid, &claims)?,
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a token signed by another key under a kid of its own",
            signer.sign(&unknown_kid, &claims)?,
        ),
        plan(
            audience,
            15,
            UNSIGNED,
            "a token signed by another key without a kid",
            signer.sign(&no_kid, &claims)?,
        ),
        plan(
            audience,
            34,
            header,
            "a token that brings its key in the header `jwk`",
            signer.sign(&embedded, &claims)?,
        ),
        plan(
            audience,
            15,
            foreign,
            "a token of an unknown trust domain",
            signer.sign(&genuine_kid, &elsewhere)?,
        ),
        plan(
            audience,
            15,
            foreign,
            "a token of an unknown trust domain and kid",
            signer.sign(&unknown_kid, &elsewhere)?,
        ),
    ])
}

/// The object with one member set, as a text.
fn with(object: &Object, name: &str, value: Value) -> String {
    let mut object = object.clone();
    object.insert(name.to_owned(), value);
    Value::Object(object).to_string()
}
