//! JSON that means one thing, whoever reads it.
//!
//! JSON may name a member twice, and readers differ in which one they take. A signed document that
//! does so says two things under one signature, so it says nothing.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::VerifyError;

/// What the object `json` says. Members that `T` does not ask for are ignored, but none may come twice,
/// however deep it lies.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, VerifyError> {
    // Serde would take an array for the members of an object in their order.
    beginning(json, b'{')
}

/// What the list `json` says, by the same rules.
pub(crate) fn read_list<T: DeserializeOwned>(json: &[u8]) -> Result<Vec<T>, VerifyError> {
    beginning(json, b'[')
}

fn beginning<T: DeserializeOwned>(json: &[u8], first: u8) -> Result<T, VerifyError> {
    if json.trim_ascii_start().first() != Some(&first) {
        return Err(VerifyError::Malformed);
    }
    serde_json::from_slice::<Unambiguous>(json).map_err(|_detail| VerifyError::Malformed)?;
    serde_json::from_slice(json).map_err(|_detail| VerifyError::Malformed)
}

/// Any value in which no object names a member twice.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)?;
        Ok(Self)
    }
}

#[derive(Clone, Copy)]
struct Walk;

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(self)?;
            if !names.insert(name) {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn unknown_members_are_ignored() {
        let json = br#" {"name":"a","other":{"x":[1,-1,0.5,true,null,"s",{"y":[]}]}} "#;
        assert_eq!(read::<Named>(json).unwrap().name, "a");
    }

    #[test]
    fn what_comes_twice_means_nothing() {
        for json in [
            &br#"{"name":"a","name":"b"}"#[..],
            br#"{"name":"a","name":"a"}"#,
            br#"{"name":"a","n\u0061me":"b"}"#,
            br#"{"name":"a","x":1,"x":1}"#,
            br#"{"name":"a","x":[{"y":{"z":1,"z":2}}]}"#,
        ] {
            let error = read::<Named>(json).unwrap_err();
            assert!(matches!(error, VerifyError::Malformed), "{error}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for json in
            [&b""[..], b"{", br#"{"name":"a"}x"#, br#"{"name":"a"}{}"#, br#"["a"]"#, b"\xff", b"1"]
        {
            read::<Named>(json).unwrap_err();
        }
        read::<Named>("[".repeat(100_000).as_bytes()).unwrap_err();
    }
}
