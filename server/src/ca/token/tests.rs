use std::time::Duration;

use claviger_core::bundle::TokenAuthority;
use claviger_core::grant::Requester;
use claviger_core::jose::compact::Compact;
use claviger_core::svid::SvidTtl;
use claviger_core::svid::jwt::{Audience, JwtSvid, JwtSvidContents, TokenError};
use claviger_core::svid::wit::{WitSvid, WitSvidContents};
use serde_json::{Value, json};

use super::*;
use crate::ca::slots::State;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A signer and what the bundle says about it.
fn signer(profile: Profile, issuer: Option<&str>) -> (TokenSigner, Vec<TokenAuthority>) {
    let craft = Tokens { profile, issuer: issuer.map(str::to_owned) };
    let (key, _) = AuthorityKey::generate(profile).unwrap();
    let validity = Validity::of_authority(NOW, DAY);
    let public = craft.public(&key, validity).unwrap();
    let slot = Slot { key: key.digest(), public, validity, state: State::Active };
    let mut bundle = Bundle::empty("example.org".parse().unwrap());
    craft.publish(std::slice::from_ref(&slot), &mut bundle);
    let authorities = [bundle.jwt_authorities, bundle.wit_authorities].concat();
    (craft.signer(key, &slot).unwrap(), authorities)
}

fn jwt(jti: bool) -> IssueJwt {
    let contents = JwtSvidContents {
        subject: "spiffe://example.org/web".parse().unwrap(),
        audience: Audience::new(vec!["db".to_owned(), "cache".to_owned()]).unwrap(),
        ttl: SvidTtl::FIVE_MINUTES,
        jti,
    };
    IssueJwt { contents, requester: Requester::Server, entry: None }
}

fn wit() -> IssueWit {
    let (key, _) = AuthorityKey::generate(Profile::Wit).unwrap();
    let contents = WitSvidContents {
        subject: "spiffe://example.org/web".parse().unwrap(),
        key: PublicKey::from_spki(&key.subject_public_key_info()).unwrap(),
        ttl: SvidTtl::HOUR,
    };
    IssueWit { contents, requester: Requester::Server, entry: None }
}

/// Header and claims, as they stand in the token.
fn parts(token: &SignedToken) -> [Value; 2] {
    let mut parts = token.token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    [(); 2].map(|()| serde_json::from_slice(&parts.next().unwrap()).unwrap())
}

#[test]
fn a_jwt_svid_is_what_the_standard_asks_for() {
    let (signer, authorities) = signer(Profile::Jwt, None);
    let token = signer.sign_jwt(&jwt(false), NOW).unwrap();
    let [header, claims] = parts(&token);
    let kid = authorities[0].key_id.as_str();
    assert_eq!(header, json!({"alg": "ES256", "kid": kid, "typ": "JWT"}));
    let expected = json!({
        "aud": ["db", "cache"],
        "exp": 1_800_000_300,
        "iat": 1_800_000_000,
        "sub": "spiffe://example.org/web",
    });
    assert_eq!(claims, expected);
    assert!(claims["exp"].is_u64() && claims["iat"].is_u64());
    assert_eq!((token.issued_at, token.expires_at), (NOW, UnixTime::from_secs(1_800_000_300)));
    let valid = JwtSvid::validate(&token.token, "cache", NOW, |_| Some(&authorities)).unwrap();
    assert_eq!(valid.subject.to_string(), "spiffe://example.org/web");
}

#[test]
fn a_wit_svid_is_what_the_standard_asks_for() {
    let (signer, authorities) = signer(Profile::Wit, Some("claviger"));
    let act = wit();
    let token = signer.sign_wit(&act, NOW).unwrap();
    let [header, claims] = parts(&token);
    let kid = authorities[0].key_id.as_str();
    assert_eq!(header, json!({"alg": "ES256", "kid": kid, "typ": "wit+jwt"}));
    let mut jwk = serde_json::to_value(act.contents.key.to_jwk()).unwrap();
    jwk["alg"] = json!("ES256");
    let expected = json!({
        "cnf": {"jwk": jwk},
        "exp": 1_800_003_600,
        "iat": 1_800_000_000,
        "iss": "claviger",
        "sub": "spiffe://example.org/web",
    });
    assert_eq!(claims, expected);
    let valid = WitSvid::validate(&token.token, NOW, |_| Some(&authorities)).unwrap();
    assert_eq!(valid.key, act.contents.key);
}

#[test]
fn an_issuer_and_a_name_are_there_when_asked_for() {
    let (signer, _) = signer(Profile::Jwt, Some("https://oidc.example.org"));
    let [one, two] = [(); 2].map(|()| {
        let [_, claims] = parts(&signer.sign_jwt(&jwt(true), NOW).unwrap());
        assert_eq!(claims["iss"], "https://oidc.example.org");
        let jti = claims["jti"].as_str().unwrap().to_owned();
        assert_eq!(URL_SAFE_NO_PAD.decode(&jti).unwrap().len(), 16);
        jti
    });
    assert_ne!(one, two);
}

#[test]
fn a_token_ends_with_its_key() {
    let end = NOW.after(DAY);
    let (jwts, authorities) = signer(Profile::Jwt, None);
    let late = end.before(Duration::from_secs(60));
    let token = jwts.sign_jwt(&jwt(false), late).unwrap();
    assert_eq!((token.expires_at, authorities[0].expires_at), (end, Some(end)));
    let (wits, _) = signer(Profile::Wit, None);
    assert_eq!(wits.sign_wit(&wit(), late).unwrap().expires_at, end);
    for error in
        [jwts.sign_jwt(&jwt(false), end).unwrap_err(), wits.sign_wit(&wit(), end).unwrap_err()]
    {
        assert!(matches!(error, SignError::AuthorityExpired(at) if at == end), "{error}");
    }
}

#[test]
fn one_profile_cannot_be_taken_for_the_other() {
    let (jwts, jwt_keys) = signer(Profile::Jwt, None);
    let (wits, wit_keys) = signer(Profile::Wit, None);
    let (jwt, wit) =
        (jwts.sign_jwt(&jwt(false), NOW).unwrap(), wits.sign_wit(&wit(), NOW).unwrap());
    let error = JwtSvid::validate(&wit.token, "db", NOW, |_| Some(&wit_keys)).unwrap_err();
    assert_eq!(error, TokenError::Kind);
    let error = WitSvid::validate(&jwt.token, NOW, |_| Some(&jwt_keys)).unwrap_err();
    assert_eq!(error, TokenError::Kind);
    let error = JwtSvid::validate(&jwt.token, "db", NOW, |_| Some(&wit_keys)).unwrap_err();
    assert_eq!(error, TokenError::UnknownKey);
}

#[test]
fn a_token_is_not_printed() {
    let (signer, _) = signer(Profile::Jwt, None);
    let token = signer.sign_jwt(&jwt(false), NOW).unwrap();
    let signature = token.token.rsplit('.').next().unwrap();
    assert!(!format!("{token:?}{signer:?}").contains(signature));
    let compact = Compact::parse(&token.token).unwrap();
    assert_eq!(compact.signature.len(), 64);
}
