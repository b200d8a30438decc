//! WIT-SVIDs (SPIFFE Workload API §7, WIT-SVID).

use claviger_proto::workload::{Witsvid, WitsvidResponse};
use serde_json::Value;

use super::super::jose::{ALGORITHMS, JwkSet, Object, Token, same_key, text};
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;
use super::super::spiffe_id;
use super::{by_id, hints, id, seconds};

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let (svids, bundles) = (&observed.first.wit.first, &observed.first.wit_bundles.first);
    let seen = ensure(svids.is_unimplemented() == bundles.is_unimplemented(), || {
        format!("FetchWITSVID: {svids}; FetchWITBundles: {bundles}")
    });
    notes.must(16, "either both RPCs are served or both unimplemented", seen);
    let Some(message) = svids.given() else { return };
    let seen = ensure(!message.svids.is_empty(), || "none".to_owned());
    notes.must(16, "a response has at least one SVID", seen);
    let given: Vec<_> = message.svids.iter().map(|svid| svid.hint.as_str()).collect();
    hints(notes, 16, "FetchWITSVID", &given);
    for svid in &message.svids {
        look(svid, observed, notes);
    }
    let all = ids(message);
    let answers = &observed.second.wit_by_id;
    let own: Vec<_> =
        answers.iter().filter(|(id, _)| all.contains(&id.as_str())).cloned().collect();
    by_id(notes, 16, "FetchWITSVID", &own, ids);
    for (id, answer) in answers {
        if answer.given().is_some_and(|message| ids(message).contains(&id.as_str())) {
            let seen = ensure(all.contains(&id.as_str()), || {
                format!("FetchWITSVID gives {all:?}, and when asked also `{id}`")
            });
            notes.must(16, "who asks for no identity in particular gets all of them", seen);
        }
    }
}

fn ids(message: &WitsvidResponse) -> Vec<&str> {
    message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

fn look(svid: &Witsvid, observed: &Observed, notes: &mut Notes) {
    let context = format!("FetchWITSVID, `{}`", svid.spiffe_id);
    let filled =
        ![&svid.spiffe_id, &svid.wit_svid, &svid.wit_svid_key].iter().any(|f| f.is_empty());
    let seen = ensure(filled, || format!("{context}: something is left out"));
    notes.must(16, "every field but the hint is set", seen);
    let token = match Token::parse(&svid.wit_svid) {
        Ok(token) => token,
        Err(why) => {
            let seen = Err(format!("{context}: {why}"));
            return notes.must(16, "a WIT-SVID is a token in compact serialization", seen);
        }
    };
    header(&token, &context, notes);
    signature(&token, svid, observed, &context, notes);
    claims(&token, svid, observed, &context, notes);
    confirmation(&token, svid, &context, notes);
}

fn header(token: &Token<'_>, context: &str, notes: &mut Notes) {
    let kid = token.header("kid").is_some_and(|kid| !kid.is_empty());
    let seen = ensure(kid, || format!("{context}: it has none"));
    notes.must(41, "a token has a kid", seen);
    let typ = token.header("typ").unwrap_or_default();
    let seen = ensure(typ == "wit+jwt", || format!("{context}: `{typ}`"));
    notes.must(42, "a token's typ is wit+jwt", seen);
    let alg = token.header("alg").unwrap_or_default();
    let seen = ensure(ALGORITHMS.contains(&alg), || format!("{context}: `{alg}`"));
    notes.must(43, "a token's alg is one of RS, ES and PS", seen);
}

fn signature(
    token: &Token<'_>,
    svid: &Witsvid,
    observed: &Observed,
    context: &str,
    notes: &mut Notes,
) {
    let (Some(kid), Some(bundles), Ok(id)) = (
        token.header("kid"),
        observed.first.wit_bundles.first.given(),
        spiffe_id::parse(&svid.spiffe_id),
    ) else {
        return;
    };
    let bundle = bundles.bundles.get(&format!("spiffe://{}", id.trust_domain));
    let Some(Ok(bundle)) = bundle.map(|json| JwkSet::parse(json.as_bytes())) else { return };
    let key = bundle.find(kid);
    let seen = ensure(key.is_some(), || format!("{context}: `{kid}` is not in the WIT bundle"));
    notes.must(58, "a token is signed by a key that is published", seen);
    match key.and_then(|key| token.is_signed_by(key)) {
        Some(signed) => {
            let seen = ensure(signed, || format!("{context}: not by `{kid}`"));
            notes.must(41, "a token's kid names the key that signed it", seen);
        }
        None => notes.unseen(41, "whether the key that the kid names signed the token"),
    }
}

fn claims(
    token: &Token<'_>,
    svid: &Witsvid,
    observed: &Observed,
    context: &str,
    notes: &mut Notes,
) {
    let now = observed.now.as_secs();
    let sub = token.claim("sub").unwrap_or_default();
    let seen = ensure(sub == svid.spiffe_id && spiffe_id::parse(sub).is_ok(), || {
        format!("{context}: `{sub}`")
    });
    notes.must(44, "a token's sub is the SPIFFE ID of its workload", seen);
    if !svid.spiffe_id.is_empty() {
        id(notes, "FetchWITSVID", &svid.spiffe_id);
    }
    let exp = token.claims.get("exp").and_then(Value::as_f64);
    let seen = ensure(exp.is_some_and(|exp| exp > seconds(now)), || {
        format!("{context}: {exp:?}, and it is {now}")
    });
    notes.must(46, "a token has an exp, which is to come", seen);
    match token.claims.get("nbf") {
        Some(nbf) => {
            let seen = ensure(nbf.as_f64().is_some_and(|nbf| nbf <= seconds(now)), || {
                format!("{context}: {nbf}, and it is {now}")
            });
            notes.must(47, "a token handed out is valid already", seen);
        }
        None => notes.unseen(47, "the tokens have no nbf"),
    }
    match token.claim("iss") {
        Some(iss) if iss.starts_with("https://") => {
            notes.unseen(49, "whether the https address in iss answers as an OIDC provider");
        }
        Some(_) | None => notes.should(49, "iss is no issuer that OIDC could discover", Ok(())),
    }
    let seen = ensure(!token.claims.contains_key("aud"), || format!("{context}: it has one"));
    notes.must(50, "a token has no aud", seen);
}

/// The key that the token confirms is the one that was handed out with it.
fn confirmation(token: &Token<'_>, svid: &Witsvid, context: &str, notes: &mut Notes) {
    let jwk = token.claims.get("cnf").and_then(|cnf| cnf.get("jwk")).and_then(Value::as_object);
    let seen = ensure(jwk.is_some(), || format!("{context}: it has none"));
    notes.must(45, "a token has cnf.jwk", seen);
    let Some(jwk) = jwk else { return };
    let alg = text(jwk, "alg").unwrap_or_default();
    let seen = ensure(ALGORITHMS.contains(&alg), || format!("{context}: `{alg}`"));
    notes.must(45, "the alg of cnf.jwk is one of RS, ES and PS", seen);
    let private = ["d", "p", "q", "k"].iter().any(|name| jwk.contains_key(*name));
    let seen = ensure(!private, || format!("{context}: it has"));
    notes.must(45, "cnf.jwk has no private member", seen);
    if svid.wit_svid_key.is_empty() {
        return;
    }
    let key: Option<Object> = serde_json::from_str(&svid.wit_svid_key).ok();
    let seen = ensure(key.as_ref().is_some_and(|key| key.contains_key("d")), || {
        format!("{context}: it is none")
    });
    notes.must(16, "the key of a WIT-SVID is a private JWK", seen);
    if let Some(key) = key {
        let seen = ensure(same_key(&key, jwk), || format!("{context}: it is another"));
        notes.must(45, "cnf.jwk is the public half of the key handed out", seen);
    }
}
