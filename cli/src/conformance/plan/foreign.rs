//! Tokens that break one rule and no other, signed with the keys of the suite's own trust domain.

use aws_lc_rs::error::Unspecified;
use serde_json::{Value, json};

use super::{Grounds, INVALID, Level, Plan, Want, ids};
use crate::conformance::client::Ask;
use crate::conformance::foreign::ForeignDomain;
use crate::conformance::forge::eddsa;
use crate::conformance::jose::Object;

/// An hour.
const HOUR: u64 = 3_600;

pub(super) fn plans(grounds: &Grounds<'_>) -> Vec<Plan> {
    let Some(domain) = grounds.foreign else { return Vec::new() };
    let mint = Mint { grounds, domain };
    let plans = [
        mint.controls(),
        mint.headers(),
        mint.subjects(),
        mint.audiences(),
        mint.times(),
        mint.other_bundles(),
    ];
    // Signing fails for want of randomness only; then there are fewer requests.
    plans.into_iter().filter_map(Result::ok).flatten().collect()
}

/// Makes tokens of the suite's own trust domain.
struct Mint<'a> {
    grounds: &'a Grounds<'a>,
    domain: &'a ForeignDomain,
}

type Plans = Result<Vec<Plan>, Unspecified>;

impl Mint<'_> {
    fn id() -> String {
        format!("spiffe://{}/somebody", ForeignDomain::NAME)
    }

    fn header(&self) -> Object {
        object(json!({ "alg": "ES256", "kid": self.domain.kid(), "typ": "JWT" }))
    }

    fn claims(&self) -> Object {
        let now = self.grounds.now.as_secs();
        object(json!({
            "sub": Self::id(),
            "aud": [self.grounds.audience],
            "exp": now.saturating_add(HOUR),
            "iat": now,
        }))
    }

    fn sign(&self, header: Object, claims: Object) -> Result<String, Unspecified> {
        let (header, claims) = (Value::Object(header), Value::Object(claims));
        self.domain.es256.sign(&header.to_string(), &claims.to_string())
    }

    fn refused(&self, check: u8, expected: &'static str, what: &str, token: String) -> Plan {
        self.plan(check, expected, what, token, INVALID)
    }

    fn plan(
        &self,
        check: u8,
        expected: &'static str,
        what: &str,
        token: String,
        want: Want,
    ) -> Plan {
        Plan {
            check,
            level: Level::Must,
            expected,
            what: format!("ValidateJWTSVID of a federated trust domain's token, {what}"),
            ask: Ask::Validate { audience: self.grounds.audience.to_owned(), token },
            want,
        }
    }

    /// Without these being accepted, the others show nothing.
    fn controls(&self) -> Plans {
        let expected = "ValidateJWTSVID accepts a valid token of a federated trust domain";
        let accepted = |what, token| self.plan(15, expected, what, token, Want::Granted);
        let joined = set(self.claims(), "aud", json!(self.grounds.audience));
        Ok(vec![
            accepted("valid", self.sign(self.header(), self.claims())?),
            accepted(
                "with `typ: JOSE`",
                self.sign(set(self.header(), "typ", json!("JOSE")), self.claims())?,
            ),
            accepted("without typ", self.sign(unset(self.header(), "typ"), self.claims())?),
            accepted("with one audience as a text", self.sign(self.header(), joined)?),
        ])
    }

    fn headers(&self) -> Plans {
        let only = "ValidateJWTSVID refuses headers other than alg, kid and typ with \
                    INVALID_ARGUMENT";
        let typ = "ValidateJWTSVID refuses a typ other than JWT and JOSE with INVALID_ARGUMENT";
        let alg = "ValidateJWTSVID refuses algorithms other than RS, ES and PS with \
                   INVALID_ARGUMENT";
        let ed25519 = object(json!({ "alg": "EdDSA", "kid": self.domain.ed25519_kid() }));
        let claims = Value::Object(self.claims()).to_string();
        let ed25519 = eddsa(&self.domain.ed25519, &Value::Object(ed25519).to_string(), &claims);
        let header = |name, value| self.sign(set(self.header(), name, value), self.claims());
        Ok(vec![
            self.refused(34, only, "with the header `cty`", header("cty", json!("JWT"))?),
            self.refused(34, only, "with the header `crit`", header("crit", json!(["exp"]))?),
            self.refused(34, only, "with the header `x-private`", header("x-private", json!(1))?),
            self.refused(35, alg, "signed with EdDSA", ed25519),
            self.refused(36, typ, "with `typ: at+jwt`", header("typ", json!("at+jwt"))?),
            self.refused(36, typ, "with `typ: wit+jwt`", header("typ", json!("wit+jwt"))?),
        ])
    }

    fn subjects(&self) -> Plans {
        let expected = "ValidateJWTSVID refuses a subject that is no SPIFFE ID with \
                        INVALID_ARGUMENT";
        let with_sub = |sub: Value| self.sign(self.header(), set(self.claims(), "sub", sub));
        let mut plans = vec![
            self.refused(
                37,
                expected,
                "without sub",
                self.sign(self.header(), unset(self.claims(), "sub"))?,
            ),
            self.refused(37, expected, "with a number for sub", with_sub(json!(1))?),
            self.refused(37, expected, "with the sub `somebody`", with_sub(json!("somebody"))?),
        ];
        for (check, id) in ids::malformed(&Self::id(), ForeignDomain::NAME) {
            let what = format!("with the sub `{id}`");
            plans.push(self.refused(check, expected, &what, with_sub(json!(id))?));
        }
        Ok(plans)
    }

    fn audiences(&self) -> Plans {
        let expected = "ValidateJWTSVID refuses a token that is for other audiences with \
                        INVALID_ARGUMENT";
        let with_aud = |aud: Value| self.sign(self.header(), set(self.claims(), "aud", aud));
        // Whoever does not refuse a claim given twice takes the last (RFC 7519 §4).
        let claims = Value::Object(self.claims()).to_string();
        let twice = claims.replacen('}', r#","aud":["somebody else"]}"#, 1);
        let header = Value::Object(self.header()).to_string();
        Ok(vec![
            self.refused(
                38,
                expected,
                "without aud",
                self.sign(self.header(), unset(self.claims(), "aud"))?,
            ),
            self.refused(38, expected, "with an empty list for aud", with_aud(json!([]))?),
            self.refused(
                38,
                expected,
                "with the aud `somebody else`",
                with_aud(json!("somebody else"))?,
            ),
            self.refused(
                38,
                expected,
                "with two aud, the last for somebody else",
                self.domain.es256.sign(&header, &twice)?,
            ),
        ])
    }

    fn times(&self) -> Plans {
        let expired = "ValidateJWTSVID refuses a token without exp, or after it, with \
                       INVALID_ARGUMENT";
        let early = "ValidateJWTSVID refuses a token before its nbf with INVALID_ARGUMENT";
        let now = self.grounds.now.as_secs();
        let with = |name, value| self.sign(self.header(), set(self.claims(), name, value));
        Ok(vec![
            self.refused(
                39,
                expired,
                "without exp",
                self.sign(self.header(), unset(self.claims(), "exp"))?,
            ),
            self.refused(
                39,
                expired,
                "expired an hour ago",
                with("exp", json!(now.saturating_sub(HOUR)))?,
            ),
            self.refused(39, expired, "with the exp 0", with("exp", json!(0))?),
            self.refused(39, expired, "with the exp 1.5", with("exp", json!(1.5))?),
            self.refused(
                39,
                expired,
                "with a text for exp",
                with("exp", json!(now.saturating_add(HOUR).to_string()))?,
            ),
            self.refused(39, expired, "with null for exp", with("exp", Value::Null)?),
            self.refused(
                15,
                early,
                "with an nbf in an hour",
                with("nbf", json!(now.saturating_add(HOUR)))?,
            ),
        ])
    }

    /// A foreign authority speaks for its own trust domain only.
    fn other_bundles(&self) -> Plans {
        let expected = "ValidateJWTSVID verifies with the bundle of the subject's trust domain \
                        alone";
        let Some(id) = self.grounds.id else { return Ok(Vec::new()) };
        let claims = set(self.claims(), "sub", json!(id));
        let token = self.sign(self.header(), claims)?;
        let what = format!("whose subject is `{id}`");
        Ok(vec![self.refused(15, expected, &what, token)])
    }
}

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { Object::new() }
}

fn set(mut object: Object, name: &str, value: Value) -> Object {
    object.insert(name.to_owned(), value);
    object
}

fn unset(mut object: Object, name: &str) -> Object {
    object.remove(name);
    object
}
