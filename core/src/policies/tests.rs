use super::*;
use crate::bundle::fixture::TokenKey;
use crate::evidence::ear::EarContents;
use crate::svid::jwt::{JwtSvid, JwtSvidContents};
use crate::svid::wit::{WitSvid, WitSvidContents};

const NOW: UnixTime = UnixTime::from_secs(1_000);
const END: UnixTime = UnixTime::from_secs(4_600);

fn contents() -> PoliciesContents {
    PoliciesContents {
        trust_domain: domain(),
        version: 7,
        sha256: sha256(b"policies"),
        policy: PolicyDigest::of(b"files"),
        ttl: PolicyTtl::HOUR,
    }
}

fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

/// Signs the claims, changed, and says why that is refused.
#[track_caller]
fn refused(change: impl FnOnce(&mut Value)) -> AnnouncementError {
    let key = TokenKey::generate("k");
    let mut claims = contents().claims(NOW, END);
    change(&mut claims);
    let token = key.token(PoliciesContents::KIND, &claims);
    Announcement::verify(&token, &domain(), &[key.authority()]).unwrap_err()
}

#[test]
fn an_announcement_says_six_things_and_no_more() {
    let claims = contents().claims(NOW, END);
    let want = json!({
        "exp": 4600,
        "iat": 1000,
        "iss": "spiffe://example.org",
        "policy": PolicyDigest::of(b"files").to_string(),
        "sha256": hex::encode(sha256(b"policies")),
        "version": 7,
    });
    assert_eq!(claims.to_string(), want.to_string());
    let key = TokenKey::generate("k");
    let token = key.token(PoliciesContents::KIND, &claims);
    let announced = Announcement::verify(&token, &domain(), &[key.authority()]).unwrap();
    assert_eq!(announced.sha256, contents().sha256);
    assert_eq!((announced.version, announced.policy), (7, contents().policy));
    assert_eq!((announced.issued_at, announced.expires_at), (NOW, END));
}

#[test]
fn only_the_trust_domains_own_keys_announce() {
    let (key, other) = (TokenKey::generate("k"), TokenKey::generate("k"));
    let claims = contents().claims(NOW, END);
    let token = key.token(PoliciesContents::KIND, &claims);
    let verify =
        |token: &str, keys: &[TokenAuthority]| Announcement::verify(token, &domain(), keys);
    assert_eq!(verify(&token, &[]).unwrap_err(), AnnouncementError::UnknownKey);
    let stranger = [TokenKey::generate("other").authority()];
    assert_eq!(verify(&token, &stranger).unwrap_err(), AnnouncementError::UnknownKey);
    let namesake = [other.authority()];
    assert_eq!(verify(&token, &namesake).unwrap_err(), AnnouncementError::Signature);
    let keys = [key.authority()];
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        verify(&String::from_utf8(changed).unwrap(), &keys).unwrap_err();
    }
}

#[test]
fn claims_that_are_missing_foreign_or_too_many_are_refused() {
    for name in ["exp", "iat", "iss", "policy", "sha256", "version"] {
        let error = refused(|claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert!(matches!(error, AnnouncementError::Claims(_)), "{name}");
    }
    for (name, value) in [
        ("exp", json!("4600")),
        ("version", json!(-1)),
        ("sha256", json!("00")),
        ("sub", json!("spiffe://example.org/web")),
        ("nbf", json!(1)),
    ] {
        let error = refused(|claims| claims[name] = value);
        assert!(matches!(error, AnnouncementError::Claims(_)), "{name}");
    }
    let array = |claims: &mut Value| {
        *claims = claims.as_object().unwrap().values().cloned().collect();
    };
    assert!(matches!(refused(array), AnnouncementError::Claims(_)));
    let foreign = refused(|claims| claims["iss"] = json!("spiffe://other.org"));
    assert_eq!(foreign, AnnouncementError::Foreign("spiffe://other.org".to_owned()));
}

#[test]
fn none_lasts_longer_than_a_day() {
    for end in [0, 1_000, 1_000 + 86_401] {
        let error = refused(|claims| claims["exp"] = json!(end));
        assert!(matches!(error, AnnouncementError::Life(_)), "{end}");
    }
    for secs in [0, 299, 86_401] {
        PolicyTtl::try_from(secs).unwrap_err();
    }
    assert_eq!(PolicyTtl::try_from(3_600), Ok(PolicyTtl::HOUR));
}

#[test]
fn policies_have_their_time() {
    let key = TokenKey::generate("k");
    let token = key.token(PoliciesContents::KIND, &contents().claims(NOW, END));
    let announced = Announcement::verify(&token, &domain(), &[key.authority()]).unwrap();
    let at = |secs| announced.check(UnixTime::from_secs(secs));
    assert_eq!(at(989), Err(Untimely::NotYet(NOW)));
    assert_eq!((at(990), at(4_599)), (Ok(()), Ok(())));
    assert_eq!(at(4_600), Err(Untimely::Expired(END)));
}

/// One key signs all of them, and no validator may take one for the other.
#[test]
fn an_announcement_is_never_taken_for_anything_else() {
    let key = TokenKey::generate("k");
    let authorities = [key.authority()];
    let claims = contents().claims(NOW, END);
    // Even with the type of an SVID, it lacks what a validator asks for.
    for kind in [PoliciesContents::KIND, JwtSvidContents::KIND, WitSvidContents::KIND] {
        let token = key.token(kind, &claims);
        JwtSvid::validate(&token, "spiffe://example.org", NOW, |_| Some(&authorities[..]))
            .unwrap_err();
        WitSvid::validate(&token, NOW, |_| Some(&authorities[..])).unwrap_err();
    }
    for kind in [JwtSvidContents::KIND, WitSvidContents::KIND, EarContents::KIND, "", "jwt"] {
        let token = key.token(kind, &claims);
        let error = Announcement::verify(&token, &domain(), &authorities).unwrap_err();
        assert_eq!(error, AnnouncementError::Kind, "{kind}");
    }
}
