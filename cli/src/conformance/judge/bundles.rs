//! Bundles, X.509 and JSON (SPIFFE Workload API §5.2.2, §6.2.2, §7.2.2; SPIFFE Trust Domain and
//! Bundle).

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use x509_parser::prelude::X509Certificate;

use super::super::certificate::{is_ca, key_usage, split, subject, uris};
use super::super::jose::{JwkSet, Object, same_key, text};
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;
use super::super::spiffe_id;
use super::{keyed, own_trust_domains};

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let own = own_trust_domains(observed);
    let mut authorities = Authorities::default();
    if let Some(message) = observed.first.x509_bundles.first.given() {
        keyed(notes, 12, "FetchX509Bundles", &own, &names(&message.bundles));
        for (trust_domain, bundle) in &message.bundles {
            x509(notes, 12, "FetchX509Bundles", trust_domain, bundle);
            let is_own = own.iter().any(|own| trust_domain.strip_prefix("spiffe://") == Some(own));
            let seen = ensure(!is_own || !bundle.is_empty(), || "FetchX509Bundles".to_owned());
            notes.must(12, "the bundle of one's own trust domain is not empty", seen);
            authorities.certificates(trust_domain, bundle);
        }
    }
    if let Some(message) = observed.first.x509.first.given() {
        for (trust_domain, bundle) in &message.federated_bundles {
            authorities.certificates(trust_domain, bundle);
        }
    }
    let jwt: Vec<_> = observed.first.jwt_bundles.first.given().map(sets).unwrap_or_default();
    if let Some(message) = observed.first.jwt_bundles.first.given() {
        keyed(notes, 14, "FetchJWTBundles", &own, &names(&message.bundles));
    }
    let wit: Vec<_> = observed
        .first
        .wit_bundles
        .first
        .given()
        .map(|message| {
            message
                .bundles
                .iter()
                .map(|(td, json)| (td.as_str(), JwkSet::parse(json.as_bytes())))
                .collect()
        })
        .unwrap_or_default();
    if let Some(message) = observed.first.wit_bundles.first.given() {
        keyed(notes, 16, "FetchWITBundles", &own, &names(&message.bundles));
    }
    for (trust_domain, set) in &jwt {
        let context = format!("FetchJWTBundles, {trust_domain}");
        if let Some(set) = whole(notes, 14, &context, set) {
            jwt_set(notes, &context, set, find(&wit, trust_domain));
            authorities.keys(trust_domain, set);
        }
    }
    for (trust_domain, set) in &wit {
        let context = format!("FetchWITBundles, {trust_domain}");
        if let Some(set) = whole(notes, 16, &context, set) {
            wit_set(notes, &context, set, find(&jwt, trust_domain));
        }
    }
    authorities.judge(notes);
}

/// The keys of a bundle map.
fn names<V>(bundles: &HashMap<String, V>) -> Vec<&str> {
    bundles.keys().map(String::as_str).collect()
}

type Sets<'a> = [(&'a str, Result<JwkSet, String>)];

fn sets(
    message: &claviger_proto::workload::JwtBundlesResponse,
) -> Vec<(&str, Result<JwkSet, String>)> {
    message.bundles.iter().map(|(td, json)| (td.as_str(), JwkSet::parse(json))).collect()
}

fn find<'a>(sets: &'a Sets<'_>, trust_domain: &str) -> &'a [Object] {
    let set = sets.iter().find(|(td, _)| *td == trust_domain);
    set.and_then(|(_, set)| set.as_ref().ok()).map(JwkSet::keys).unwrap_or_default()
}

/// Notes on the X.509 bundle of a trust domain, received by `rpc`; `check` is that of the field.
pub(super) fn x509(notes: &mut Notes, check: u8, rpc: &str, trust_domain: &str, bundle: &[u8]) {
    const EXPECTED: &str = "a bundle is one of DER certificates";

    match split(bundle) {
        // A foreign trust domain may have no authority, or have revoked them all.
        Err(_none) if bundle.is_empty() => {}
        Ok(authorities) => {
            notes.must(check, EXPECTED, Ok(()));
            notes.must(23, "each trust domain has a signing authority", Ok(()));
            let name = trust_domain.strip_prefix("spiffe://");
            for authority in &authorities {
                signing_certificate(
                    notes,
                    &format!("{rpc}, bundle of `{trust_domain}`"),
                    authority,
                    name,
                );
            }
        }
        Err(why) => {
            notes.must(check, EXPECTED, Err(format!("{rpc}, bundle of `{trust_domain}`: {why}")));
        }
    }
}

/// Notes on a certificate that signs others (X509-SVID §3.2); it is an authority of
/// `trust_domain`, or an intermediate.
pub(super) fn signing_certificate(
    notes: &mut Notes,
    context: &str,
    certificate: &X509Certificate<'_>,
    trust_domain: Option<&str>,
) {
    let name = subject(certificate);
    let seen = ensure(is_ca(certificate), || format!("{context}: {name} is none"));
    notes.must(26, "a signing certificate is a CA", seen);
    let signs = key_usage(certificate).is_some_and(|(_, usage)| usage.key_cert_sign());
    let seen = ensure(signs, || format!("{context}: {name} has it not"));
    notes.must(26, "a signing certificate has keyCertSign", seen);
    for uri in uris(certificate).iter().filter(|uri| uri.starts_with("spiffe://")) {
        let id = spiffe_id::parse(uri);
        let pathless = id.is_ok_and(|id| id.path.is_empty());
        let seen = ensure(pathless, || format!("{context}: `{uri}`"));
        notes.must(26, "the SPIFFE ID of a signing certificate has no path", seen);
        if let (Some(trust_domain), Ok(id)) = (trust_domain, id) {
            let seen = ensure(id.trust_domain == trust_domain, || format!("{context}: `{uri}`"));
            notes.should(23, "an authority's SPIFFE ID is of its trust domain", seen);
        }
    }
}

/// Notes on a JWK Set, which is given back if it is one.
fn whole<'a>(
    notes: &mut Notes,
    check: u8,
    context: &str,
    set: &'a Result<JwkSet, String>,
) -> Option<&'a JwkSet> {
    let expected = "a bundle is a JWK Set in JSON";
    let set = match set {
        Ok(set) => set,
        Err(why) => {
            notes.must(check, expected, Err(format!("{context}: {why}")));
            return None;
        }
    };
    notes.must(check, expected, Ok(()));
    let seen = ensure(set.keys.is_some(), || format!("{context}: it has not"));
    notes.must(55, "a JWK Set has the list `keys`", seen);
    for key in set.keys() {
        let kty = text(key, "kty").is_some_and(|kty| !kty.is_empty());
        let seen = ensure(kty, || format!("{context}: key {}", kid(key)));
        notes.must(56, "every JWK has `kty`", seen);
    }
    for (check, name) in [(53, "spiffe_sequence"), (54, "spiffe_refresh_hint")] {
        if let Some(value) = set.document.get(name) {
            let seen = ensure(value.is_u64(), || format!("{context}: {name} is {value}"));
            notes.should(check, "where a set carries it, it is an integer", seen);
        }
    }
    Some(set)
}

fn jwt_set(notes: &mut Notes, context: &str, set: &JwkSet, wit: &[Object]) {
    let mut kids = HashSet::new();
    for key in set.keys() {
        let shown = kid(key);
        let purpose = key.get("use");
        let fits = matches!(purpose.map(Value::as_str), None | Some(Some("jwt-svid" | "sig")));
        let seen = ensure(fits, || format!("{context}: key {shown} has the use {purpose:?}"));
        notes.must(14, "there are no keys of other uses: by `use`", seen);
        let seen = ensure(!key.contains_key("x5c"), || format!("{context}: key {shown} has x5c"));
        notes.must(14, "there are no keys of other uses: X.509 authorities", seen);
        let also_wit = wit.iter().any(|other| same_key(key, other));
        let seen = ensure(!also_wit, || format!("{context}: key {shown}"));
        notes.must(14, "there are no keys of other uses: those of the WIT bundle", seen);
        let private = ["d", "p", "q", "k"].iter().any(|name| key.contains_key(*name));
        let seen = ensure(!private, || format!("{context}: key {shown}"));
        notes.must(14, "there are no private keys", seen);
        let named = text(key, "kid").filter(|kid| !kid.is_empty());
        let seen = ensure(named.is_some(), || format!("{context}: a key has none"));
        notes.must(40, "every JWK has a kid", seen);
        if let Some(kid) = named {
            let seen = ensure(kids.insert(kid), || format!("{context}: `{kid}` is given twice"));
            notes.must(40, "a kid is unique within its bundle", seen);
        }
    }
}

fn wit_set(notes: &mut Notes, context: &str, set: &JwkSet, jwt: &[Object]) {
    let mut kids: HashSet<&str> = jwt.iter().filter_map(|key| text(key, "kid")).collect();
    for key in set.keys() {
        let shown = kid(key);
        let named = text(key, "kid").filter(|kid| !kid.is_empty());
        let seen = ensure(named.is_some(), || format!("{context}: a key has none"));
        notes.must(17, "every JWK of a WIT bundle has a kid", seen);
        if let Some(kid) = named {
            let seen = ensure(kids.insert(kid), || {
                format!("{context}: `{kid}` is given twice, here or in the JWT bundle")
            });
            notes.must(52, "a kid is unique across the bundles of a trust domain", seen);
        }
        let purpose = key.get("use");
        let fits = matches!(purpose.map(Value::as_str), None | Some(Some("wit-svid" | "sig")));
        let seen = ensure(fits, || format!("{context}: key {shown} has the use {purpose:?}"));
        notes.must(52, "where a key has a `use`, it is wit-svid", seen);
    }
}

fn kid(key: &Object) -> String {
    text(key, "kid").map_or_else(|| "without kid".to_owned(), |kid| format!("`{kid}`"))
}

/// Which trust domains each authority is in the bundles of.
#[derive(Default)]
struct Authorities {
    domains: HashSet<String>,
    holders: BTreeMap<Vec<u8>, HashSet<String>>,
    named: HashMap<Vec<u8>, String>,
}

impl Authorities {
    fn certificates(&mut self, trust_domain: &str, bundle: &[u8]) {
        self.domains.insert(trust_domain.to_owned());
        for authority in split(bundle).unwrap_or_default() {
            self.add(trust_domain, authority.as_raw().to_vec(), subject(&authority));
        }
    }

    fn keys(&mut self, trust_domain: &str, set: &JwkSet) {
        self.domains.insert(trust_domain.to_owned());
        for key in set.keys() {
            let material = ["kty", "crv", "x", "y", "n", "e"].map(|name| key.get(name));
            let material = format!("{material:?}").into_bytes();
            self.add(trust_domain, material, format!("key {}", kid(key)));
        }
    }

    fn add(&mut self, trust_domain: &str, authority: Vec<u8>, name: String) {
        self.named.insert(authority.clone(), name);
        self.holders.entry(authority).or_default().insert(trust_domain.to_owned());
    }

    fn judge(self, notes: &mut Notes) {
        if self.domains.len() < 2 {
            return notes.unseen(59, "there are bundles of one trust domain only");
        }
        for (authority, holders) in &self.holders {
            let seen = ensure(holders.len() == 1, || {
                let name = self.named.get(authority).map_or("an authority", String::as_str);
                format!("{name} is in the bundles of {holders:?}")
            });
            notes.must(59, "no authority is in the bundles of two trust domains", seen);
        }
    }
}
