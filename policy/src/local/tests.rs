use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use claviger_core::decision::{Action, Context, Verdict};
use claviger_core::jose::key::Jwk;
use claviger_core::jose::{Algorithm, PublicKey};
use claviger_core::policies::{PoliciesContents, PolicyTtl};
use claviger_core::standing::Risk;

use super::*;

const PERMIT: &str = r#"permit (principal, action == Action::"connect", resource);"#;
const CALM: &str = r#"
    permit (principal, action == Action::"connect", resource) when { context.risk < 50 };
"#;

/// Who signs.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn authorities(&self) -> [TokenAuthority; 1] {
        let spki: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let public_key = PublicKey::from_spki(spki.as_ref()).unwrap();
        [TokenAuthority { key_id: "k".to_owned(), public_key, expires_at: None, tainted: false }]
    }

    /// Announces `policies` from 1000 to 4600, under the number `version`.
    fn announce(&self, domain: &str, policies: &Source, version: u64) -> String {
        let contents = PoliciesContents {
            trust_domain: domain.parse().unwrap(),
            version,
            sha256: policies::sha256(&policies.to_bytes()),
            policy: policies.digest(),
            ttl: PolicyTtl::HOUR,
        };
        let claims = contents.claims(at(1_000), at(4_600));
        let sign = |message: &[u8]| {
            self.0.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec())
        };
        policies::encode(Algorithm::Es256, "k", &claims, sign).unwrap()
    }

    fn signed(&self, text: &str, version: u64) -> Signed {
        let policies = source(text);
        let token = self.announce("example.org", &policies, version);
        Signed::open(&token, &policies.to_bytes(), &domain(), &self.authorities()).unwrap()
    }
}

fn source(text: &str) -> Source {
    Source::new(vec![("a.cedar".to_owned(), text.to_owned())])
}

fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

const fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn local(standings: HashMap<SpiffeId, Standing>) -> Local {
    Local::new(domain(), 0, Arc::new(standings))
}

fn question() -> Question {
    Question {
        principal: Party::new("spiffe://example.org/web".parse().unwrap()),
        action: Action::Connect,
        resource: Resource::Identity(Party::new("spiffe://example.org/db".parse().unwrap())),
        context: Context { purpose: Some("read".parse().unwrap()), ..Context::default() },
    }
}

#[track_caller]
fn verdict(local: &Local, secs: u64) -> Verdict {
    local.decide(question(), at(secs)).unwrap().decision.verdict
}

#[test]
fn nothing_is_decided_without_policies() {
    let local = local(HashMap::new());
    assert_eq!(local.decide(question(), at(1_000)), Err(Undecided::NoPolicies));
    local.adopt(Signer::new().signed(PERMIT, 1)).unwrap();
    assert_eq!(verdict(&local, 1_000), Verdict::Permit);
    local.withdraw();
    assert_eq!(local.decide(question(), at(1_000)), Err(Undecided::NoPolicies));
}

#[test]
fn policies_decide_in_their_time_only() {
    let local = local(HashMap::new());
    local.adopt(Signer::new().signed(PERMIT, 1)).unwrap();
    let early = Err(Undecided::Untimely(Untimely::NotYet(at(1_000))));
    assert_eq!(local.decide(question(), at(900)), early);
    let decided = local.decide(question(), at(4_599)).unwrap();
    assert_eq!(decided.question.context.time, at(4_599));
    let late = Err(Undecided::Untimely(Untimely::Expired(at(4_600))));
    assert_eq!(local.decide(question(), at(4_600)), late);
}

#[test]
fn a_clock_that_is_set_back_revives_nothing() {
    let (signer, local) = (Signer::new(), local(HashMap::new()));
    local.adopt(signer.signed(PERMIT, 1)).unwrap();
    let late = Err(Undecided::Untimely(Untimely::Expired(at(4_600))));
    assert_eq!(local.decide(question(), at(4_600)), late);
    assert_eq!(local.decide(question(), at(2_000)), late);
    // Nor does the same announcement, heard again.
    local.adopt(signer.signed(PERMIT, 1)).unwrap();
    assert_eq!(local.decide(question(), at(2_000)), late);
    local.adopt(signer.signed(PERMIT, 2)).unwrap();
    assert_eq!(verdict(&local, 2_000), Verdict::Permit);
}

#[test]
fn older_policies_never_come_back() {
    let (signer, local) = (Signer::new(), local(HashMap::new()));
    local.adopt(signer.signed("", 7)).unwrap();
    let older = local.adopt(signer.signed(PERMIT, 6)).unwrap_err();
    assert_eq!(older, NotAdopted::Older { offered: 6, known: 7 });
    assert_eq!(local.adopt(signer.signed(PERMIT, 7)).unwrap_err(), NotAdopted::Forked(7));
    assert_eq!(verdict(&local, 1_000), Verdict::Deny);
    local.withdraw();
    local.adopt(signer.signed(PERMIT, 6)).unwrap_err();
    local.adopt(signer.signed(PERMIT, 8)).unwrap();
    assert_eq!((verdict(&local, 1_000), local.version()), (Verdict::Permit, 8));
    let remembers = Local::new(domain(), 9, Arc::new(HashMap::new()));
    remembers.adopt(signer.signed(PERMIT, 8)).unwrap_err();
}

#[test]
fn policies_of_others_are_not_adopted() {
    let (signer, policies) = (Signer::new(), source(PERMIT));
    let (token, bytes) = (signer.announce("other.org", &policies, 1), policies.to_bytes());
    let error = Signed::open(&token, &bytes, &domain(), &signer.authorities()).unwrap_err();
    assert!(matches!(error, SignedError::Announcement(AnnouncementError::Foreign(_))), "{error}");
    let other = "other.org".parse().unwrap();
    let signed = Signed::open(&token, &bytes, &other, &signer.authorities()).unwrap();
    let foreign = local(HashMap::new()).adopt(signed).unwrap_err();
    assert_eq!(foreign, NotAdopted::Foreign(other));
}

#[test]
fn only_the_bytes_that_were_signed_are_compiled() {
    let (signer, policies) = (Signer::new(), source(PERMIT));
    let open = |announced: &Source, bytes: &[u8]| {
        let token = signer.announce("example.org", announced, 1);
        Signed::open(&token, bytes, &domain(), &signer.authorities()).unwrap_err()
    };
    let mut tampered = policies.to_bytes();
    for at in 0..tampered.len() {
        tampered[at] ^= 1;
        assert!(matches!(open(&policies, &tampered), SignedError::OtherBytes));
        tampered[at] ^= 1;
    }
    let wrong = source("permit (principal, action, resource) when { principal.pathh == \"\" };");
    assert!(matches!(open(&wrong, &wrong.to_bytes()), SignedError::Load(_)));
    let large = vec![b' '; policies::MAX_BYTES + 1];
    assert!(matches!(open(&policies, &large), SignedError::OtherBytes));
}

#[test]
fn a_digest_that_does_not_match_refuses() {
    let policies = source(PERMIT);
    let announcement = Announcement {
        trust_domain: domain(),
        version: 1,
        sha256: policies::sha256(&policies.to_bytes()),
        policy: PolicyDigest::of(b"another schema"),
        issued_at: at(1_000),
        expires_at: at(4_600),
    };
    let error = Signed::compile(announcement, &policies.to_bytes()).unwrap_err();
    assert!(matches!(error, SignedError::OtherDigest { .. }), "{error}");
}

#[test]
fn what_is_announced_anew_need_not_be_compiled_again() {
    let signer = Signer::new();
    let (one, two) = (signer.signed(PERMIT, 1), signer.signed(CALM, 2));
    assert!(one.renewed(two.announcement).is_none());
    let later = Announcement { version: 3, expires_at: at(5_000), ..one.announcement.clone() };
    let renewed = one.renewed(later).unwrap();
    assert!(std::ptr::eq(renewed.set(), one.set()));
    let local = local(HashMap::new());
    local.adopt(one).unwrap();
    local.adopt(renewed).unwrap();
    assert_eq!(verdict(&local, 4_999), Verdict::Permit);
}

#[test]
fn both_ends_count_by_how_they_stand() {
    let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
    for id in [web, db] {
        let stands = |standing| HashMap::from([(id.parse().unwrap(), standing)]);
        let risky = Standing { risk: Risk::try_from(50).unwrap(), ..Standing::default() };
        let risked = local(stands(risky));
        risked.adopt(Signer::new().signed(CALM, 1)).unwrap();
        assert_eq!(verdict(&risked, 1_000), Verdict::Deny, "{id}");
        let shut = local(stands(Standing { quarantined: true, ..Standing::default() }));
        shut.adopt(Signer::new().signed(PERMIT, 1)).unwrap();
        let refused = shut.decide(question(), at(1_000));
        assert_eq!(refused, Err(Undecided::Quarantined(id.parse().unwrap())));
    }
    let calm = local(HashMap::new());
    calm.adopt(Signer::new().signed(CALM, 1)).unwrap();
    assert_eq!(verdict(&calm, 1_000), Verdict::Permit);
    // What a caller says of its own risk counts for nothing.
    let mut asked = question();
    asked.principal.risk = Risk::MAX;
    assert_eq!(calm.decide(asked, at(1_000)).unwrap().decision.verdict, Verdict::Permit);
}

/// Computed with Python's `json`, `hashlib` and `cryptography`; see `tests/vectors/policies.py`.
#[test]
fn another_implementation_signs_and_writes_the_same() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/policies.json")).unwrap();
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let public_key: Jwk = serde_json::from_value(vector["public_key"].clone()).unwrap();
    let public_key = PublicKey::from_jwk(&public_key).unwrap();
    let key_id = "k".to_owned();
    let key = TokenAuthority { key_id, public_key, expires_at: None, tainted: false };
    let says = Announcement::verify(&text("token"), &domain(), &[key]).unwrap();
    assert_eq!((says.version, says.issued_at), (1_800_000_000, at(1_800_000_000)));
    assert_eq!(says.expires_at, at(1_800_003_600));
    assert_eq!(says.policy.to_string(), text("policy"));
    let bytes = text("policies").into_bytes();
    assert_eq!(says.sha256, policies::sha256(&bytes));
    let source = Source::from_bytes(&bytes).unwrap();
    assert_eq!(source.files().len(), 2);
    assert_eq!(source.to_bytes(), bytes);
}
