//! The claims of a token.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Value as Json};

/// How many objects and lists may lie within one another, the claims themselves counted. Each is up
/// to three messages on the wire, and protobuf's libraries read no more than 100.
pub const MAX_DEPTH: usize = 32;

/// The claims as a message. Numbers become doubles, as in all of this type's uses: integers stay
/// exact up to 2^53.
///
/// # Errors
///
/// [`TooDeep`] if nobody could read the message.
pub fn to_struct(claims: Map<String, Json>) -> Result<Struct, TooDeep> {
    object(claims, MAX_DEPTH)
}

fn object(members: Map<String, Json>, depth: usize) -> Result<Struct, TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    let member = |(name, json)| Ok((name, value(json, depth)?));
    Ok(Struct { fields: members.into_iter().map(member).collect::<Result<_, _>>()? })
}

fn list(elements: Vec<Json>, depth: usize) -> Result<ListValue, TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    let values = elements.into_iter().map(|json| value(json, depth)).collect::<Result<_, _>>()?;
    Ok(ListValue { values })
}

fn value(json: Json, depth: usize) -> Result<Value, TooDeep> {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(truth),
        // A number that was read has a double next to it.
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(elements) => Kind::ListValue(list(elements, depth)?),
        Json::Object(members) => Kind::StructValue(object(members, depth)?),
    };
    Ok(Value { kind: Some(kind) })
}

/// Claims that lie too deep within one another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the token's claims lie within one another more than {MAX_DEPTH} deep")]
pub struct TooDeep;

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::workload::ValidateJwtsvidResponse;

    fn converted(json: Json) -> Result<Struct, TooDeep> {
        to_struct(json.as_object().unwrap().clone())
    }

    #[test]
    fn every_kind_of_claim_has_its_form() {
        let claims = json!({
            "aud": ["a", "b"], "exp": 9_007_199_254_740_992_u64, "n": -1, "f": 0.5,
            "yes": true, "none": null, "o": {"k": "v"},
        });
        let fields = converted(claims).unwrap().fields;
        let kind = |name: &str| fields[name].kind.clone().unwrap();
        assert_eq!(kind("exp"), Kind::NumberValue(9_007_199_254_740_992.0));
        assert_eq!(kind("n"), Kind::NumberValue(-1.0));
        assert_eq!(kind("f"), Kind::NumberValue(0.5));
        assert_eq!(kind("yes"), Kind::BoolValue(true));
        assert_eq!(kind("none"), Kind::NullValue(0));
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let list = ListValue { values: vec![text("a"), text("b")] };
        assert_eq!(kind("aud"), Kind::ListValue(list));
        let inner = Struct { fields: [("k".to_owned(), text("v"))].into() };
        assert_eq!(kind("o"), Kind::StructValue(inner));
    }

    #[test]
    fn what_is_converted_can_be_read() {
        let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({"a": inner}));
        let claims = Some(converted(nested(MAX_DEPTH)).unwrap());
        let message = ValidateJwtsvidResponse { claims, ..Default::default() };
        let read = ValidateJwtsvidResponse::decode(&*message.encode_to_vec()).unwrap();
        assert_eq!(read, message);
        assert_eq!(converted(nested(MAX_DEPTH + 1)), Err(TooDeep));
        let lists = (1..MAX_DEPTH).fold(json!([]), |inner, _| json!([inner]));
        assert_eq!(converted(json!({"a": lists})), Err(TooDeep));
    }
}
