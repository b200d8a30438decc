use std::fs;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::fixture::SigningKey;
use super::*;
use crate::fetch::Plain;
use crate::fetch::fixture::{Answer, Site};

fn fixed(key: &SigningKey) -> Jwks {
    Jwks::from_json(key.set().as_bytes()).unwrap()
}

async fn refused(jwks: &Jwks, token: &str) -> JwksError {
    jwks.verify(token.as_bytes()).await.unwrap_err()
}

#[tokio::test]
async fn a_token_of_the_issuers_is_verified() {
    let claims = json!({"sub": "a", "n": 1});
    for key in [SigningKey::rsa("k"), SigningKey::es256("k")] {
        let verified = fixed(&key).verify(key.token(&claims).as_bytes()).await.unwrap();
        assert_eq!(verified.claims().text("sub"), Ok("a"));
        assert_eq!(verified.payload(), claims.to_string().as_bytes());
        assert!(!verified.stale());
    }
}

#[tokio::test]
async fn what_the_header_says_of_keys_is_passed_over() {
    let (ours, theirs) = (SigningKey::rsa("k"), SigningKey::rsa("k"));
    let header = json!({
        "alg": "RS256", "kid": "k", "typ": "JWT", "x5t": "x",
        "jku": "https://evil.example/keys", "jwk": theirs.jwk(), "x5u": "https://evil.example/"
    });
    let token = theirs.token_with_header(&header, b"{}");
    assert!(matches!(refused(&fixed(&ours), &token).await, JwksError::Signature));
    let token = ours.token_with_header(&header, b"{}");
    assert_eq!(fixed(&ours).verify(token.as_bytes()).await.unwrap().payload(), b"{}");
}

#[tokio::test]
async fn no_algorithm_stands_in_for_another() {
    let key = SigningKey::rsa("k");
    let jwks = fixed(&key);
    for algorithm in ["none", "None", "NONE", "HS256", "EdDSA", "rs256", ""] {
        let token = key.token_with_header(&json!({"alg": algorithm, "kid": "k"}), b"{}");
        let error = refused(&jwks, &token).await;
        assert!(matches!(error, JwksError::Token(TokenError::Form(_))), "{algorithm}: {error}");
    }
    for algorithm in ["ES256", "PS256", "RS384", "RS512"] {
        let token = key.token_with_header(&json!({"alg": algorithm, "kid": "k"}), b"{}");
        let error = refused(&jwks, &token).await;
        assert!(matches!(error, JwksError::Signature), "{algorithm}: {error}");
    }
    // The public key as the secret of an HMAC, with a header that says otherwise or the truth.
    let secret = hmac::Key::new(hmac::HMAC_SHA256, key.jwk().to_string().as_bytes());
    for algorithm in ["HS256", "RS256"] {
        let header = json!({"alg": algorithm, "kid": "k"}).to_string();
        let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode(header));
        let tag = hmac::sign(&secret, signed.as_bytes());
        refused(&jwks, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))).await;
    }
}

#[tokio::test]
async fn only_the_key_that_is_named_will_do() {
    let (key, other) = (SigningKey::es256("k"), SigningKey::es256("other"));
    let error = refused(&fixed(&key), &other.token(&json!({}))).await;
    assert!(matches!(error, JwksError::UnknownKey));
    let error = refused(&fixed(&key), &SigningKey::es256("k").token(&json!({}))).await;
    assert!(matches!(error, JwksError::Signature));
    let token = key.token(&json!({"sub": "a"}));
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"b"}"#);
    let changed = format!("{}.{claims}.{signature}", rest.split_once('.').unwrap().0);
    assert!(matches!(refused(&fixed(&key), &changed).await, JwksError::Signature));
    let unsigned = format!("{rest}.");
    assert!(matches!(refused(&fixed(&key), &unsigned).await, JwksError::Signature));
}

#[tokio::test]
async fn what_is_no_token_is_malformed() {
    let key = SigningKey::es256("k");
    let jwks = fixed(&key);
    let twice =
        key.token_with_header(&json!({"alg": "ES256", "kid": "k"}), br#"{"sub":"a","sub":"b"}"#);
    let megabyte = key.token(&json!({"a": "x".repeat(1 << 20)}));
    let critical = json!({"alg": "ES256", "kid": "k", "b64": false, "crit": ["b64"]});
    let critical = key.token_with_header(&critical, b"{}");
    for text in ["", "a.b.c", "{}", &twice, &megabyte, &critical, "e30.e30.e30"] {
        let error = VerifyError::from(refused(&jwks, text).await);
        assert!(matches!(error, VerifyError::Malformed), "{error}");
    }
    assert!(matches!(
        jwks.verify(b"\xff.\xff.\xff").await,
        Err(JwksError::Token(TokenError::Text))
    ));
}

#[tokio::test]
async fn a_token_has_one_name_however_it_is_spelled() {
    let key = SigningKey::es256("k");
    let token = key.token(&json!({"sub": "a"}));
    let again = token.rsplit_once('.').unwrap().0.to_owned();
    // ECDSA can sign the same thing twice.
    let resigned = key.sign(claviger_core::jose::Algorithm::Es256, again.as_bytes());
    let resigned = format!("{again}.{}", URL_SAFE_NO_PAD.encode(resigned));
    assert_ne!(token, resigned);
    let digest = |token: String| {
        let jwks = fixed(&key);
        async move { *jwks.verify(token.as_bytes()).await.unwrap().digest() }
    };
    assert_eq!(digest(token).await, digest(resigned).await);
}

#[tokio::test]
async fn keys_are_found_at_an_address() {
    let key = SigningKey::rsa("k");
    let site = Site::open().await;
    site.answer("/keys", Answer::Body(key.set()));
    let url = Endpoint::parse(&site.url("/keys"), Plain::Loopback).unwrap();
    let jwks = Jwks::from_url(url, Fetch::open(None).unwrap());
    for _ in 0..3 {
        jwks.verify(key.token(&json!({})).as_bytes()).await.unwrap().payload().to_vec();
    }
    assert_eq!(site.requests().len(), 1);
}

/// What comes of an issuer whose discovery document has these members changed.
async fn discover(changes: &Value) -> Result<Verified, JwksError> {
    let key = SigningKey::es256("k");
    let (site, elsewhere) = (Site::open().await, Site::open().await);
    let issuer = site.url("");
    let mut document = json!({"issuer": issuer, "jwks_uri": site.url("/keys")});
    for (name, value) in changes.as_object().unwrap() {
        document[name] = match value.as_str() {
            Some("elsewhere") => json!(elsewhere.url("/keys")),
            _ => value.clone(),
        };
    }
    site.answer("/.well-known/openid-configuration", Answer::Body(document.to_string()));
    site.answer("/keys", Answer::Body(key.set()));
    elsewhere.answer("/keys", Answer::Body(key.set()));
    let jwks = Jwks::from_issuer(&issuer, Fetch::open(None).unwrap()).unwrap();
    let verified = jwks.verify(key.token(&json!({})).as_bytes()).await;
    assert!(elsewhere.requests().is_empty());
    verified
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    assert_eq!(discover(&json!({})).await.unwrap().payload(), b"{}");
}

#[tokio::test]
async fn a_discovery_document_is_believed_about_its_own_server_only() {
    for (changes, complaint) in [
        (json!({"jwks_uri": "elsewhere"}), "another server"),
        (json!({"jwks_uri": "http://169.254.169.254/latest/meta-data"}), "another server"),
        (json!({"jwks_uri": "file:///etc/passwd"}), "another server"),
        (json!({"issuer": "https://issuer.example"}), "exactly"),
        (json!({"issuer": null}), "not a discovery document"),
    ] {
        let JwksError::Unavailable(error) = discover(&changes).await.unwrap_err() else {
            panic!("{changes}");
        };
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains(complaint), "{changes}: {why}");
    }
}

#[test]
fn an_issuer_has_an_address() {
    let fetch = Fetch::open(None).unwrap();
    for bad in ["http://issuer.example", "issuer", "https://issuer.example/?a=b", "file:///etc"] {
        let error = Jwks::from_issuer(bad, fetch.clone()).unwrap_err();
        assert!(matches!(error, OpenError::Issuer { .. }), "{bad}");
    }
}

#[tokio::test]
async fn keys_are_read_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    assert!(matches!(Jwks::from_file(&path), Err(OpenError::File { .. })));
    fs::write(&path, "{}").unwrap();
    assert!(matches!(Jwks::from_file(&path), Err(OpenError::File { .. })));
    let (key, next) = (SigningKey::es256("k"), SigningKey::es256("next"));
    fs::write(&path, key.set()).unwrap();
    let jwks = Jwks::from_file(&path).unwrap();
    // The operator brings a new key before the first token of it comes.
    fs::write(&path, next.set()).unwrap();
    assert_eq!(jwks.verify(next.token(&json!({})).as_bytes()).await.unwrap().payload(), b"{}");
    assert!(matches!(refused(&jwks, &key.token(&json!({}))).await, JwksError::UnknownKey));
}
