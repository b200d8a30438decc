//! From claims to selectors.

use std::borrow::Cow;
use std::collections::BTreeMap;

use claviger_core::selector::{Selector, Selectors};
use serde_json::Value;

use super::KIND;
use crate::jwks::claims::{Claims, spelled};

/// The most values of one claim.
const MAX_VALUES: usize = 64;

/// The selectors `oidc:claim:value` of these claims; one for each value of a list, none for a claim
/// that is missing or empty.
pub(super) fn selectors(claims: &Claims, names: &[String]) -> Result<Selectors, FactError> {
    let mut selectors = Selectors::new();
    for name in names {
        for value in values(claims, name)?.iter().filter(|value| !value.is_empty()) {
            // What can't be shown in one line was not written by who it seems to be.
            let selector = Selector::new(KIND, &format!("{name}:{value}"))
                .map_err(|_odd| FactError::Odd(name.clone()))?;
            selectors.insert(selector);
        }
    }
    Ok(selectors)
}

/// Whether each of the claims has one of the values that are asked for.
pub(super) fn require(
    claims: &Claims,
    required: &BTreeMap<String, Vec<String>>,
) -> Result<(), FactError> {
    for (name, allowed) in required {
        let has = values(claims, name)?;
        if !has.iter().any(|value| allowed.iter().any(|one| one == value)) {
            let has = has.first().map(|value| value.chars().take(MAX_SHOWN).collect());
            return Err(FactError::NotAllowed { claim: name.clone(), value: has });
        }
    }
    Ok(())
}

/// The most characters of a value that an operator is shown.
const MAX_SHOWN: usize = 128;

/// The values of the claim `name`: none if it is missing, several if it is a list.
fn values<'a>(claims: &'a Claims, name: &str) -> Result<Vec<Cow<'a, str>>, FactError> {
    let not_a_fact = || FactError::Type(name.to_owned());
    match claims.find(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if MAX_VALUES < list.len() => {
            Err(FactError::TooMany(name.to_owned()))
        }
        Some(Value::Array(list)) => {
            list.iter().map(|value| spelled(value).ok_or_else(not_a_fact)).collect()
        }
        Some(value) => Ok(vec![spelled(value).ok_or_else(not_a_fact)?]),
    }
}

/// What is wrong with a claim.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum FactError {
    #[error("the claim `{0}` holds control characters, or is too long")]
    Odd(String),
    #[error("the claim `{0}` is neither a text, a whole number, a truth, nor a list of these")]
    Type(String),
    #[error("the claim `{0}` has more than {MAX_VALUES} values")]
    TooMany(String),
    #[error("the claim `{claim}` is {value:?}, which `require` does not list")]
    NotAllowed { claim: String, value: Option<String> },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> Claims {
        Claims::parse(value.to_string().as_bytes()).unwrap()
    }

    fn selected(value: &Value) -> Result<Vec<String>, FactError> {
        let selectors = selectors(&claims(value), &["a".to_owned(), "b".to_owned()])?;
        Ok(selectors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn claims_become_selectors() {
        let value = json!({"a": "refs/heads/x:y z", "b": 7, "c": "not asked for"});
        assert_eq!(selected(&value).unwrap(), ["oidc:a:refs/heads/x:y z", "oidc:b:7"]);
        let value = json!({"a": ["x", "y"], "b": false});
        assert_eq!(selected(&value).unwrap(), ["oidc:a:x", "oidc:a:y", "oidc:b:false"]);
        assert_eq!(selected(&json!({"a": "", "b": null})).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn values_with_odd_characters_are_refused() {
        for odd in ["a\nb", "\u{0}", "\u{7f}", "\u{85}", "a\u{1b}[2J", &"x".repeat(4_200)] {
            assert_eq!(selected(&json!({"a": odd})), Err(FactError::Odd("a".to_owned())));
        }
        for odd in [json!({"x": 1}), json!(1.5), json!([["x"]]), json!([null])] {
            assert_eq!(selected(&json!({"a": odd})), Err(FactError::Type("a".to_owned())));
        }
        let many = json!({"a": vec!["x"; 65]});
        assert_eq!(selected(&many), Err(FactError::TooMany("a".to_owned())));
    }

    #[test]
    fn what_is_required_is_matched_exactly() {
        let required = BTreeMap::from([
            ("owner".to_owned(), vec!["acme".to_owned(), "other".to_owned()]),
            ("id".to_owned(), vec!["7".to_owned()]),
        ]);
        let check = |value: &Value| require(&claims(value), &required);
        check(&json!({"owner": "acme", "id": 7})).unwrap();
        check(&json!({"owner": ["x", "other"], "id": "7"})).unwrap();
        for bad in ["Acme", "acme ", "acme-evil", "", "*"] {
            let error = check(&json!({"owner": bad, "id": 7})).unwrap_err();
            assert!(matches!(error, FactError::NotAllowed { .. }), "{bad}");
        }
        check(&json!({"owner": "acme"})).unwrap_err();
        check(&json!({"owner": "acme", "id": {"7": 7}})).unwrap_err();
    }
}
