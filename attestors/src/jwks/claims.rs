//! What a token claims (RFC 7519 §4).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use claviger_core::time::UnixTime;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The claims of a token. No name is there twice, at any depth: two readers of one token must not
/// find two things in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Reads the payload of a token.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] if it is no JSON object, or has a name twice.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        let Strict(value) = serde_json::from_slice(payload)?;
        match value {
            Value::Object(claims) => Ok(Self(claims)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(ClaimsError::NoObject),
        }
    }

    /// The claim `name`; a null is no claim.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The claim `name`, which has to be a text.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] if it is missing or something else.
    pub fn text(&self, name: &'static str) -> Result<&str, ClaimError> {
        self.optional_text(name)?.ok_or(ClaimError::Missing(name))
    }

    /// The claim `name`, which has to be a text if it is there.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] if it is something else.
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&str>, ClaimError> {
        let text = |value: &'_ Value| value.as_str().is_some();
        match self.find(name) {
            Some(value) if !text(value) => Err(ClaimError::Type(name)),
            found => Ok(found.and_then(Value::as_str)),
        }
    }

    /// For whom the token is. One that is for several is refused: each of them could present it here.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] if there is none, or more than one.
    pub fn audience(&self) -> Result<&str, ClaimError> {
        match self.find("aud").ok_or(ClaimError::Missing("aud"))? {
            Value::String(one) => Ok(one),
            Value::Array(names) => match names.as_slice() {
                [Value::String(one)] => Ok(one),
                [_, _, ..] => Err(ClaimError::Audiences(names.len())),
                [] | [_] => Err(ClaimError::Type("aud")),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                Err(ClaimError::Type("aud"))
            }
        }
    }

    /// When the token was made and when it ends: `iat` and `exp`, which have to be there, and `nbf`.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] if one is missing, or is not a number of whole seconds.
    pub fn times(&self) -> Result<Times, ClaimError> {
        let expires_at = self.time("exp")?.ok_or(ClaimError::Missing("exp"))?;
        let issued_at = self.time("iat")?.ok_or(ClaimError::Missing("iat"))?;
        Ok(Times { issued_at, not_before: self.time("nbf")?, expires_at })
    }

    fn time(&self, name: &'static str) -> Result<Option<UnixTime>, ClaimError> {
        let Some(value) = self.find(name) else { return Ok(None) };
        let seconds = value.as_u64().ok_or(ClaimError::Type(name))?;
        Ok(Some(UnixTime::from_secs(seconds)))
    }
}

/// The one spelling of a text, a number or a truth; other values have none.
#[must_use]
pub fn spelled(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        // A fraction has many spellings.
        Value::Number(number) if number.is_u64() || number.is_i64() => {
            Some(Cow::Owned(number.to_string()))
        }
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// When a token was made, and when it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// `iat`.
    pub issued_at: UnixTime,
    /// `nbf`.
    pub not_before: Option<UnixTime>,
    /// `exp`.
    pub expires_at: UnixTime,
}

/// What the times of a token have to be like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeRules {
    /// How far the issuer's clock may be off.
    pub leeway: Duration,
    /// How long ago a token may have been made.
    pub max_age: Duration,
    /// How long a token may last from when it was made.
    pub max_lifetime: Duration,
}

impl Times {
    /// Checks them at `now`.
    ///
    /// # Errors
    ///
    /// [`TimeError`] says which rule they break.
    pub fn check(&self, now: UnixTime, rules: TimeRules) -> Result<(), TimeError> {
        let TimeRules { leeway, max_age, max_lifetime } = rules;
        let Self { issued_at, not_before, expires_at } = *self;
        if expires_at.after(leeway) <= now {
            return Err(TimeError::Expired);
        }
        let latest = now.after(leeway);
        if latest < issued_at || not_before.is_some_and(|start| latest < start) {
            return Err(TimeError::NotYet);
        }
        if expires_at <= issued_at || max_lifetime < expires_at.since(issued_at) {
            return Err(TimeError::Lifetime(max_lifetime));
        }
        if max_age.saturating_add(leeway) < now.since(issued_at) {
            return Err(TimeError::Age(max_age));
        }
        Ok(())
    }
}

/// A JSON value in which no object has a name twice. `serde_json` bounds the depth.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Strict(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, _>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Strict(Value::Object(members)))
    }
}

/// Why a payload has no claims.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// It is no JSON, or a name is there twice.
    #[error("the token's claims cannot be read: {0}")]
    Json(String),
    /// It is another kind of value.
    #[error("the token's claims are not a JSON object")]
    NoObject,
}

impl From<serde_json::Error> for ClaimsError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// Why a claim can't be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClaimError {
    /// It is not there.
    #[error("the token has no claim `{0}`")]
    Missing(&'static str),
    /// It is not what it has to be.
    #[error("the token's claim `{0}` is of the wrong type")]
    Type(&'static str),
    /// The token is for several.
    #[error("the token is for {0} audiences; only a token for one is accepted")]
    Audiences(usize),
}

/// What is wrong with the times of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TimeError {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet, or was made in the future; check the clocks")]
    NotYet,
    /// It lasts too long, or not at all.
    #[error("the token lasts longer than {0:?}, or ends before it was made")]
    Lifetime(Duration),
    /// It was made too long ago.
    #[error("the token was made more than {0:?} ago")]
    Age(Duration),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> Claims {
        Claims::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn everything_in_a_payload_is_kept() {
        let value = json!({"a": null, "b": [1, -1, 1.5, "x", true], "c": {"d": {"e": "ü\n"}}});
        assert_eq!(claims(&value).0, *value.as_object().unwrap());
        assert_eq!(claims(&value).find("a"), None);
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        for text in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
        ] {
            let error = Claims::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("twice"), "{text}: {error}");
        }
        for text in ["", "[]", "1", "\"a\"", "null", "{} {}", &"[".repeat(1_000)] {
            Claims::parse(text.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn a_token_is_for_one_audience() {
        let audience = |aud: Value| {
            let claims = claims(&json!({"aud": aud}));
            claims.audience().map(str::to_owned)
        };
        assert_eq!(audience(json!("a")), Ok("a".to_owned()));
        assert_eq!(audience(json!(["a"])), Ok("a".to_owned()));
        assert_eq!(audience(json!(["a", "b"])), Err(ClaimError::Audiences(2)));
        assert_eq!(audience(json!(["a", "a"])), Err(ClaimError::Audiences(2)));
        for other in [json!([]), json!([1]), json!(1), json!({"a": "a"})] {
            assert_eq!(audience(other), Err(ClaimError::Type("aud")));
        }
        assert_eq!(audience(Value::Null), Err(ClaimError::Missing("aud")));
    }

    #[test]
    fn times_are_whole_seconds() {
        let times = |name: &str, value: Value| {
            let mut value_of = json!({"iat": 100, "exp": 200});
            value_of[name] = value;
            claims(&value_of).times()
        };
        assert_eq!(times("nbf", json!(100)).unwrap().not_before, Some(UnixTime::from_secs(100)));
        assert_eq!(times("exp", Value::Null), Err(ClaimError::Missing("exp")));
        assert_eq!(times("iat", Value::Null), Err(ClaimError::Missing("iat")));
        for odd in [json!("200"), json!(-1), json!(200.5), json!(1e300), json!([200])] {
            assert_eq!(times("exp", odd), Err(ClaimError::Type("exp")));
        }
    }

    #[test]
    fn a_token_has_its_time() {
        let seconds = Duration::from_secs;
        let rules =
            TimeRules { leeway: seconds(30), max_age: seconds(600), max_lifetime: seconds(3_600) };
        let at = UnixTime::from_secs;
        let check = |issued, start: Option<u64>, end, now| {
            let not_before = start.map(at);
            let times = Times { issued_at: at(issued), not_before, expires_at: at(end) };
            times.check(at(now), rules)
        };
        assert_eq!(check(1_000, Some(1_000), 2_000, 1_000), Ok(()));
        assert_eq!(check(1_000, None, 1_300, 1_329), Ok(()));
        assert_eq!(check(1_000, None, 1_300, 1_330), Err(TimeError::Expired));
        assert_eq!(check(1_000, None, 2_000, 970), Ok(()));
        assert_eq!(check(1_000, None, 2_000, 969), Err(TimeError::NotYet));
        assert_eq!(check(1_000, Some(1_100), 2_000, 1_069), Err(TimeError::NotYet));
        assert_eq!(check(1_000, None, 2_000, 1_630), Ok(()));
        assert_eq!(check(1_000, None, 2_000, 1_631), Err(TimeError::Age(seconds(600))));
        assert_eq!(check(1_000, None, 4_600, 1_000), Ok(()));
        let too_long = Err(TimeError::Lifetime(seconds(3_600)));
        assert_eq!(check(1_000, None, 4_601, 1_000), too_long);
        assert_eq!(check(1_000, None, u64::MAX, 1_000), too_long);
        assert_eq!(check(1_000, None, 1_000, 1_000), too_long);
    }

    #[test]
    fn values_have_one_spelling_or_none() {
        assert_eq!(spelled(&json!("x")).unwrap(), "x");
        assert_eq!(spelled(&json!(42)).unwrap(), "42");
        assert_eq!(spelled(&json!(-42)).unwrap(), "-42");
        assert_eq!(spelled(&json!(true)).unwrap(), "true");
        for odd in [json!(4.2), json!(1e3), json!(null), json!([]), json!({})] {
            assert_eq!(spelled(&odd), None, "{odd}");
        }
    }
}
