//! JWT-SVIDs (SPIFFE Workload API §6, JWT-SVID).

use claviger_proto::workload::{Jwtsvid, JwtsvidResponse, ValidateJwtsvidResponse};
use prost_types::value::Kind;

use super::super::answer::Answer;
use super::super::jose::{ALGORITHMS, JwkSet, Token};
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;
use super::super::spiffe_id;
use super::{UNASKED, by_id, hints, id, seconds};

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let Some(message) = observed.first.jwt.given() else { return };
    let seen = ensure(!message.svids.is_empty(), || "none".to_owned());
    notes.must(13, "a response has at least one SVID", seen);
    let given: Vec<_> = message.svids.iter().map(|svid| svid.hint.as_str()).collect();
    hints(notes, 13, "FetchJWTSVID", &given);
    for svid in &message.svids {
        look(svid, observed, notes);
    }
    identities(message, observed, notes);
    two_audiences(observed, notes);
    for (token, answer) in &observed.second.validated {
        validated(token, answer, notes);
    }
}

fn ids(message: &JwtsvidResponse) -> Vec<&str> {
    message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// Everything the caller is entitled to one by one, it gets when it asks for nothing in particular.
fn identities(message: &JwtsvidResponse, observed: &Observed, notes: &mut Notes) {
    let answers = &observed.second.jwt_by_id;
    let all = ids(message);
    let own: Vec<_> =
        answers.iter().filter(|(id, _)| all.contains(&id.as_str())).cloned().collect();
    by_id(notes, 13, "FetchJWTSVID", &own, ids);
    for (id, answer) in answers {
        if answer.given().is_some() {
            let seen = ensure(all.contains(&id.as_str()), || {
                format!("FetchJWTSVID gives {all:?}, and when asked also `{id}`")
            });
            notes.must(13, "who asks for no identity in particular gets all of them", seen);
        }
    }
}

fn two_audiences(observed: &Observed, notes: &mut Notes) {
    let Some(answer) = &observed.second.jwt_two else { return };
    let expected = "a token's audience is the one requested";
    match answer {
        Answer::Given(message) => {
            for svid in &message.svids {
                let Ok(token) = Token::parse(&svid.svid) else { continue };
                let audience = token.audience();
                let both = audience.len() == 2 && audience.contains(&observed.audience.as_str());
                let seen = ensure(both, || format!("two were requested, and {audience:?} given"));
                notes.must(13, expected, seen);
            }
        }
        Answer::Unasked => notes.unseen(13, UNASKED),
        refused @ (Answer::Refused(..) | Answer::Late) => {
            notes.must(13, expected, Err(format!("FetchJWTSVID with two audiences: {refused}")));
        }
    }
}

fn look(svid: &Jwtsvid, observed: &Observed, notes: &mut Notes) {
    let context = format!("FetchJWTSVID, `{}`", svid.spiffe_id);
    let filled = !svid.spiffe_id.is_empty() && !svid.svid.is_empty();
    let seen = ensure(filled, || format!("{context}: something is left out"));
    notes.must(13, "every field but the hint is set", seen);
    let compact = "a token is in compact serialization";
    let token = match Token::parse(&svid.svid) {
        Ok(token) => token,
        Err(why) => return notes.must(33, compact, Err(format!("{context}: {why}"))),
    };
    notes.must(33, compact, Ok(()));
    header(&token, &context, notes);
    claims(&token, svid, observed, &context, notes);
    signature(&token, svid, observed, &context, notes);
}

fn header(token: &Token<'_>, context: &str, notes: &mut Notes) {
    for name in token.header.keys() {
        let seen = ensure(["alg", "kid", "typ"].contains(&name.as_str()), || {
            format!("{context}: the header `{name}`")
        });
        notes.must(34, "a token's header is alg, kid and typ", seen);
    }
    let alg = token.header("alg").unwrap_or_default();
    let seen = ensure(ALGORITHMS.contains(&alg), || format!("{context}: `{alg}`"));
    notes.must(35, "a token's alg is one of RS, ES and PS", seen);
    let typ = token.header.get("typ").map(|typ| typ.as_str().unwrap_or_default());
    let seen = ensure(matches!(typ, None | Some("JWT" | "JOSE")), || {
        format!("{context}: `{}`", typ.unwrap_or_default())
    });
    notes.must(36, "a token's typ, if it has one, is JWT or JOSE", seen);
}

fn claims(
    token: &Token<'_>,
    svid: &Jwtsvid,
    observed: &Observed,
    context: &str,
    notes: &mut Notes,
) {
    let sub = token.claim("sub").unwrap_or_default();
    let is_id = spiffe_id::parse(sub);
    let seen = is_id.map(drop).map_err(|flaw| format!("{context}: `{sub}` {}", flaw.why));
    notes.must(37, "a token's sub is a SPIFFE ID", seen);
    if is_id.is_ok() {
        id(notes, "a token's sub", sub);
        let seen = ensure(sub == svid.spiffe_id, || format!("{context}: sub is `{sub}`"));
        notes.must(13, "`spiffe_id` is the token's sub", seen);
    }
    let audience = token.audience();
    let seen = ensure(!audience.is_empty(), || format!("{context}: it has none"));
    notes.must(38, "a token has an aud", seen);
    if !audience.is_empty() {
        let wanted = observed.audience.as_str();
        let seen = ensure(audience == [wanted], || {
            format!("{context}: `{wanted}` was requested, and {audience:?} given")
        });
        notes.must(13, "a token's audience is the one requested", seen);
    }
    let exp = token.claims.get("exp").and_then(serde_json::Value::as_f64);
    let seen = ensure(exp.is_some(), || format!("{context}: it has none"));
    notes.must(39, "a token has an exp, a number", seen);
    if let Some(exp) = exp {
        let now = observed.now.as_secs();
        let seen = ensure(exp > seconds(now), || format!("{context}: {exp}, and it is {now}"));
        notes.must(39, "a token handed out is not expired", seen);
    }
}

fn signature(
    token: &Token<'_>,
    svid: &Jwtsvid,
    observed: &Observed,
    context: &str,
    notes: &mut Notes,
) {
    let (Some(bundles), Ok(id)) =
        (observed.first.jwt_bundles.first.given(), spiffe_id::parse(&svid.spiffe_id))
    else {
        return;
    };
    let bundle = bundles.bundles.get(&format!("spiffe://{}", id.trust_domain));
    let Some(Ok(bundle)) = bundle.map(|json| JwkSet::parse(json)) else { return };
    let keys = match token.header("kid") {
        Some(kid) => bundle.find(kid).into_iter().collect(),
        None => bundle.keys().iter().collect::<Vec<_>>(),
    };
    let verified: Option<Vec<bool>> = keys.into_iter().map(|key| token.is_signed_by(key)).collect();
    match verified {
        Some(verified) => {
            let seen = ensure(verified.contains(&true), || {
                let kid = token.header("kid").unwrap_or_default();
                format!("{context}: no key of the JWT bundle, kid `{kid}`")
            });
            notes.must(58, "a token is signed by a key that is published", seen);
        }
        None => notes.unseen(58, "a signature of a kind that this suite cannot verify"),
    }
}

/// What the server makes of its own token.
fn validated(token: &str, answer: &Answer<ValidateJwtsvidResponse>, notes: &mut Notes) {
    let accepted = "ValidateJWTSVID accepts a genuine token";
    let Ok(token) = Token::parse(token) else { return };
    match answer {
        Answer::Given(response) => {
            notes.must(15, accepted, Ok(()));
            let sub = token.claim("sub").unwrap_or_default();
            let seen = ensure(response.spiffe_id == sub, || {
                format!("ValidateJWTSVID: `{}` for the sub `{sub}`", response.spiffe_id)
            });
            notes.must(15, "ValidateJWTSVID answers with the token's sub", seen);
            for name in ["sub", "aud", "exp"] {
                let claims = response.claims.as_ref().map(|claims| &claims.fields);
                let kind = claims.and_then(|fields| fields.get(name)?.kind.as_ref());
                let seen = ensure(!matches!(kind, None | Some(Kind::NullValue(_))), || {
                    format!("ValidateJWTSVID: no `{name}`")
                });
                notes.must(15, "ValidateJWTSVID answers with the claims sub, aud and exp", seen);
            }
        }
        Answer::Unasked => notes.unseen(15, UNASKED),
        refused @ (Answer::Refused(..) | Answer::Late) => {
            notes.must(15, accepted, Err(format!("ValidateJWTSVID: {refused}")));
        }
    }
}
