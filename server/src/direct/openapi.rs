//! What can be asked and what is answered, as an OpenAPI 3.1 document.

use bytes::Bytes;
use http::header::ALLOW;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::problem::Problem;
use super::reply;

/// Where it is.
pub(super) const PATH: &str = "/openapi.json";

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn answer(method: &Method) -> Response<Full<Bytes>> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return reply::response(
            StatusCode::OK,
            reply::JSON,
            Bytes::from_static(DOCUMENT.as_bytes()),
        );
    }
    let kind = ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED);
    let problem = Problem::new(kind, "The method is not GET", "this is to be read only");
    problem.with(ALLOW, "GET, HEAD").into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::super::{Wanted, wire};
    use super::*;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    fn schema(name: &str) -> Value {
        document()["components"]["schemas"][name].clone()
    }

    fn names(of: &Value) -> BTreeSet<String> {
        match of {
            Value::Object(members) => members.keys().cloned().collect(),
            Value::Array(items) => items.iter().map(|i| i.as_str().unwrap().to_owned()).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => panic!("{of}"),
        }
    }

    /// The fields that serde says it knows when it is shown one that it does not.
    fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
        let Err(error) = serde_json::from_value::<T>(json!({ "no such field": 1 })) else {
            panic!("unknown fields are taken");
        };
        let text = error.to_string();
        let known = text.split_once(", expected ").unwrap().1;
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[track_caller]
    fn same_request<T: DeserializeOwned>(name: &str) {
        let schema = schema(name);
        assert_eq!(names(&schema["properties"]), fields::<T>(), "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
        // What is required is, and nothing else.
        let example = &schema["examples"][0];
        assert!(serde_json::from_value::<T>(example.clone()).is_ok(), "{name}");
        for field in names(example) {
            let mut less = example.clone();
            less.as_object_mut().unwrap().remove(&field);
            let required = names(&schema["required"]).contains(&field);
            assert_eq!(serde_json::from_value::<T>(less).is_err(), required, "{name}.{field}");
        }
    }

    #[test]
    fn requests_are_as_described() {
        same_request::<wire::X509>("X509Request");
        same_request::<wire::Jwt>("JwtRequest");
        same_request::<wire::Psk>("PskRequest");
        same_request::<wire::Evidence>("Evidence");
        assert_eq!(schema("ChallengeRequest")["additionalProperties"], false);
        assert!(serde_json::from_value::<wire::Challenge>(json!({ "more": 1 })).is_err());
    }

    #[test]
    fn paths_are_those_that_are_served() {
        let paths = document()["paths"].clone();
        assert_eq!(names(&paths).len(), 5);
        for (path, item) in paths.as_object().unwrap() {
            assert!(super::super::Direct::is_at(path), "{path}");
            if path == PATH {
                assert!(item["get"].is_object());
            } else {
                assert!(Wanted::at(path).is_some() && item["post"].is_object(), "{path}");
            }
        }
    }

    /// Every reference leads somewhere.
    #[test]
    fn the_document_is_whole() {
        fn check(part: &Value, whole: &Value) {
            if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(whole.pointer(pointer).is_some(), "{reference}");
            }
            match part {
                Value::Object(members) => members.values().for_each(|part| check(part, whole)),
                Value::Array(items) => items.iter().for_each(|part| check(part, whole)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        check(&document, &document);
        assert_eq!(document["openapi"], "3.1.0");
    }
}
