use serde_json::json;

use super::*;
use crate::bundle::fixture::TokenKey;

/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=x`; coordinates by
/// `openssl ec -text`.
const P256: &str = include_str!("../testdata/p256.txt");

fn ours() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn certificate() -> X509Authority {
    let der = hex::decode(P256.lines().next().unwrap()).unwrap();
    X509Authority { der: der.into(), tainted: false }
}

fn bundle() -> Bundle {
    Bundle {
        x509_authorities: vec![certificate()],
        jwt_authorities: vec![TokenKey::generate("j").authority()],
        wit_authorities: vec![TokenKey::generate("w").authority()],
        sequence: 7,
        refresh_hint: Some(Duration::from_secs(300)),
        ..Bundle::empty(ours())
    }
}

fn read_json(document: &Value) -> Result<Bundle, ReadError> {
    read(ours(), document.to_string().as_bytes())
}

#[track_caller]
fn refused(document: &Value, why: &str) {
    let error = read_json(document).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let text = format!("{error}: {}", source.unwrap_or_default());
    assert!(text.contains(why), "{text}");
}

fn token_jwk() -> Value {
    let text = jwks(&bundle().jwt_authorities, Use::JwtSvid);
    serde_json::from_str::<Value>(&text).unwrap()["keys"][0].clone()
}

fn with(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

#[test]
fn a_bundle_comes_back_as_it_went() {
    let text = write(&bundle()).unwrap();
    assert_eq!(read(ours(), text.as_bytes()).unwrap().x509_authorities, [certificate()]);
    let bundle = bundle();
    assert_eq!(read(ours(), write(&bundle).unwrap().as_bytes()).unwrap(), bundle);
}

#[test]
fn a_p256_authority_is_written_as_the_standard_says() {
    let [der, x, y] = P256.lines().collect::<Vec<_>>().try_into().unwrap();
    let coordinate = |hex: &str| URL_SAFE_NO_PAD.encode(hex::decode(hex).unwrap());
    let bundle =
        Bundle { x509_authorities: vec![certificate()], sequence: 7, ..Bundle::empty(ours()) };
    let want = json!({
        "keys": [{
            "use": "x509-svid",
            "kty": "EC",
            "crv": "P-256",
            "x": coordinate(x),
            "y": coordinate(y),
            "x5c": [STANDARD.encode(hex::decode(der).unwrap())],
        }],
        "spiffe_sequence": 7,
    });
    assert_eq!(serde_json::from_str::<Value>(&write(&bundle).unwrap()).unwrap(), want);
}

#[test]
fn a_set_of_keys_says_what_they_are_for() {
    let authorities = bundle().jwt_authorities;
    let set = |purpose| serde_json::from_str::<Value>(&jwks(&authorities, purpose)).unwrap();
    assert_eq!(set(Use::JwtSvid)["keys"][0]["use"], "jwt-svid");
    assert_eq!(set(Use::JwtSvid)["keys"][0]["kid"], "j");
    assert!(set(Use::JwtSvid)["keys"][0].get("alg").is_none());
    assert_eq!(set(Use::Signature)["keys"][0]["alg"], "ES256");
    assert_eq!(jwks(&[], Use::WitSvid), r#"{"keys":[]}"#);
}

#[test]
fn what_is_unknown_is_left_out() {
    let encryption = with(token_jwk(), "use", json!("enc"));
    let document = json!({"keys": [
        token_jwk(),
        {"kty": "AKP", "use": "jwt-svid", "alg": "ML-DSA-44", "pub": "AA", "kid": "pq"},
        {"kty": "EC", "use": "jwt-svid", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"},
        encryption,
        {"kty": "EC"},
        {"use": "jwt-svid"},
        {"kty": 7, "use": "jwt-svid"},
        {"kty": "EC", "use": "x509-svid"},
    ], "something": "else"});
    let bundle = read_json(&document).unwrap();
    assert_eq!(bundle.jwt_authorities.len(), 1);
    assert!(bundle.x509_authorities.is_empty());
}

#[test]
fn no_keys_at_all_revoke_everything_but_must_be_said() {
    assert_eq!(read_json(&json!({"keys": []})).unwrap(), Bundle::empty(ours()));
    refused(&json!({}), "keys");
    refused(&json!([]), "not a JWK Set");
    refused(&json!({"keys": "none"}), "not a JWK Set");
}

#[test]
fn keys_that_are_known_and_wrong_are_refused() {
    let key = token_jwk();
    let one = |key: Value| json!({"keys": [key]});
    refused(&one(with(key.clone(), "kid", json!(""))), "kid");
    refused(&one(with(key.clone(), "kid", json!("k".repeat(256)))), "kid");
    refused(&one(with(key.clone(), "kid", Value::Null)), "kid");
    refused(&one(with(key.clone(), "x", json!("AA"))), "malformed");
    refused(&one(with(key.clone(), "x", Value::Null)), "missing");
    refused(&json!({"keys": [key, key]}), "kid `j` twice");
    let x5c = |text: &str| json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [text]}]});
    refused(&x5c("*"), "base64");
    refused(&x5c("MAA="), "not an X.509 certificate");
    let der = certificate().der;
    refused(&x5c(&STANDARD.encode([der.clone(), der.clone()].concat())), "more than one");
    let twice = json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(&der)]});
    refused(&json!({"keys": [twice, twice]}), "certificate twice");
    let many: Vec<_> = (0..257).map(|n| with(token_jwk(), "kid", json!(n.to_string()))).collect();
    refused(&json!({"keys": many}), "more than");
    assert!(matches!(read(ours(), &vec![b' '; MAX_DOCUMENT + 1]).unwrap_err(), ReadError::Size));
}
