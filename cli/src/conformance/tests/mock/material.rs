//! The mock's keys, certificates and bundles.

use claviger_core::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::super::super::forge::Signer;
use super::x509::Authority;
use super::{Fault, ForeignDomain, OWN, THIRD};
use crate::conformance::jose::{JwkSet, Object};

/// Everything that is made once.
pub(super) struct Material {
    fault: Option<Fault>,
    pub(super) now: u64,
    pub(super) root: Authority,
    /// The authority of the suite's own trust domain.
    pub(super) foreign_root: Authority,
    pub(super) jwt: Signer,
    pub(super) wit: Signer,
    /// A key that is published nowhere.
    pub(super) hidden: Signer,
    foreign_jwks: Value,
}

pub(super) const JWT_KID: &str = "jwt-1";
pub(super) const WIT_KID: &str = "wit-1";

impl Material {
    pub(super) fn new(fault: Option<Fault>, foreign: &ForeignDomain) -> Self {
        let id = match fault {
            Some(Fault::AuthorityIdWithPath) => "spiffe://example.org/ca",
            Some(Fault::AuthorityOfAnotherDomain) => "spiffe://example.net",
            _ => "spiffe://example.org",
        };
        Self {
            fault,
            now: SystemClock.now().as_secs(),
            root: Authority::root(id),
            foreign_root: Authority::root("spiffe://conformance.test"),
            jwt: Signer::generate().unwrap(),
            wit: Signer::generate().unwrap(),
            hidden: Signer::generate().unwrap(),
            foreign_jwks: foreign.bundle(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The JWT bundles, by trust domain ID.
    pub(super) fn jwt_bundles(&self) -> Vec<(String, Vec<u8>)> {
        let mut bundles = vec![
            (format!("spiffe://{}", ForeignDomain::NAME), self.foreign_jwks.to_string()),
            (THIRD.to_owned(), self.third().to_string()),
        ];
        if !self.has(Fault::JwksWithoutOwn) {
            bundles.push((format!("spiffe://{OWN}"), self.own().to_string()));
        }
        bundles.into_iter().map(|(key, json)| (key, json.into_bytes())).collect()
    }

    fn third(&self) -> Value {
        match self.fault {
            Some(Fault::JwksWithoutKeys) => json!({}),
            Some(Fault::JwksNoJson) => json!("no set"),
            Some(Fault::JwkWithoutKty) => json!({ "keys": [{ "kid": "a" }] }),
            Some(Fault::JwkWithoutKid) => json!({ "keys": [Signer::generate().unwrap().jwk()] }),
            Some(Fault::JwksSequenceIsText) => json!({ "keys": [], "spiffe_sequence": "1" }),
            Some(Fault::JwksRefreshHintIsFraction) => {
                json!({ "keys": [], "spiffe_refresh_hint": 1.5 })
            }
            _ => json!({ "keys": [] }),
        }
    }

    fn own(&self) -> Value {
        let mut keys = vec![named(self.jwt.jwk(), JWT_KID)];
        let extra = || Signer::generate().unwrap().jwk();
        match self.fault {
            Some(Fault::JwkKidTwice) => keys.push(named(extra(), JWT_KID)),
            Some(Fault::JwksWithWitKey) => keys.push(named(self.wit.jwk(), WIT_KID)),
            Some(Fault::JwksWithPrivateKey) => {
                let mut key = named(extra(), "private");
                key["d"] = json!("AA");
                keys.push(key);
            }
            Some(Fault::JwksWithX509Key) => {
                let mut key = named(extra(), "x509");
                key["use"] = json!("x509-svid");
                key["x5c"] = json!(["AA=="]);
                keys.push(key);
            }
            _ => {}
        }
        json!({ "keys": keys })
    }

    /// The WIT bundle of the trust domain.
    pub(super) fn wit_bundle(&self) -> String {
        let mut key = named(self.wit.jwk(), WIT_KID);
        if self.has(Fault::WitJwkUseJwt) {
            key["use"] = json!("jwt-svid");
        }
        let mut keys = vec![key];
        let extra = || Signer::generate().unwrap().jwk();
        match self.fault {
            Some(Fault::WitJwkWithoutKid) => keys.push(extra()),
            Some(Fault::WitJwkKidTwice) => keys.push(named(extra(), WIT_KID)),
            _ => {}
        }
        json!({ "keys": keys }).to_string()
    }

    /// The JWT keys of a trust domain.
    pub(super) fn keys(&self, trust_domain: &str) -> Vec<Object> {
        let id = format!("spiffe://{trust_domain}");
        let bundle = self.jwt_bundles().into_iter().find(|(key, _)| *key == id);
        bundle
            .and_then(|(_, json)| JwkSet::parse(&json).ok())
            .map(|set| set.keys().to_vec())
            .unwrap_or_default()
    }
}

fn named(mut jwk: Value, kid: &str) -> Value {
    jwk["kid"] = json!(kid);
    jwk
}
