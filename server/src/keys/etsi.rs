//! What is asked by ETSI GS QKD 014 V1.1.1: §5 and the data formats of §6. Every byte of it is somebody
//! else's.

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::psk::{KeyBits, PskTtl, Purpose};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::id::KeyId;
use super::wanted::{Malformed, Query};

/// The most keys of one request.
pub(crate) const MAX_KEYS: usize = 64;

/// The most extensions of one request, and members of one.
const MAX_EXTENSIONS: usize = 16;

/// What is asked, read whole. Ends are named as the path names them.
#[derive(Debug)]
pub(crate) enum Asked {
    /// "Get status", §5.1.
    Status { slave: String },
    /// "Get key", §5.2.
    Encrypt { slave: String, request: KeyRequest },
    /// "Get key with key IDs", §5.3.
    Decrypt { master: String, ids: Vec<KeyId> },
}

/// "Key request", §6.2.
#[derive(Debug)]
pub(crate) struct KeyRequest {
    /// How many.
    pub(crate) number: usize,
    pub(crate) bits: KeyBits,
    /// What for, if it says so.
    pub(crate) purpose: Option<Purpose>,
    /// For how long, if it says so.
    pub(crate) ttl: Option<PskTtl>,
    /// Whether all optional extensions are heeded.
    pub(crate) all_heeded: bool,
}

impl KeyRequest {
    /// Reads a query: only number and size stand in one.
    pub(crate) fn of(query: &mut Query) -> Result<Self, Malformed> {
        let (number, size) = (query.number("number")?, query.number("size")?);
        Wire { number, size, ..Wire::default() }.try_into()
    }

    /// Reads a body; an empty one asks for one key of the default size.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        if body.is_empty() {
            return Wire::default().try_into();
        }
        object::<Wire>(body)?.try_into()
    }
}

/// A key request as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    number: Option<u64>,
    size: Option<u64>,
    #[serde(rename = "additional_slave_SAE_IDs")]
    additional_slaves: Option<Vec<String>>,
    extension_mandatory: Option<Vec<Extension>>,
    extension_optional: Option<Vec<Extension>>,
}

/// One extension parameter, or several: names, each there once, and their values.
#[derive(Debug)]
struct Extension(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Extension;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extension, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                    if MAX_EXTENSIONS < members.len() {
                        return Err(A::Error::custom("too many members"));
                    }
                }
                Ok(Extension(members))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// What the extensions that we know say.
#[derive(Debug, Default)]
struct Heeded {
    purpose: Option<Purpose>,
    ttl: Option<PskTtl>,
}

/// Why an extension is not heeded.
enum Unheeded {
    /// Nobody knows it.
    Unknown,
    /// It asks for what there is not, or says something twice.
    Unmet,
}

impl Heeded {
    fn heed(&mut self, name: &str, value: Value) -> Result<(), Unheeded> {
        match name {
            "claviger_purpose" => once(&mut self.purpose, value),
            "claviger_ttl_seconds" => once(&mut self.ttl, value),
            _unknown => Err(Unheeded::Unknown),
        }
    }
}

fn once<T: DeserializeOwned>(slot: &mut Option<T>, value: Value) -> Result<(), Unheeded> {
    let value = T::deserialize(value).map_err(|_unfit| Unheeded::Unmet)?;
    if slot.is_some() {
        return Err(Unheeded::Unmet);
    }
    *slot = Some(value);
    Ok(())
}

impl TryFrom<Wire> for KeyRequest {
    type Error = Malformed;

    fn try_from(wire: Wire) -> Result<Self, Malformed> {
        if wire.additional_slaves.is_some_and(|slaves| !slaves.is_empty()) {
            // A key that three have does not say which of them is there (RFC 9257 §4.1).
            let why = "additional_slave_SAE_IDs: a key is for two (max_SAE_ID_count is 0)";
            return Err(Malformed::new(why));
        }
        let number = wire.number.map_or(Ok(1), usize::try_from).unwrap_or(usize::MAX);
        if !(1..=MAX_KEYS).contains(&number) {
            return Err(Malformed::new(format!("number shall be 1 to {MAX_KEYS}")));
        }
        let mandatory = wire.extension_mandatory.unwrap_or_default();
        let optional = wire.extension_optional.unwrap_or_default();
        if [&mandatory, &optional].iter().any(|extensions| MAX_EXTENSIONS < extensions.len()) {
            return Err(Malformed::new("there are too many extensions"));
        }
        let mut heeded = Heeded::default();
        for (name, value) in mandatory.into_iter().flat_map(|one| one.0) {
            heeded.heed(&name, value).map_err(|unheeded| {
                Malformed::new(match unheeded {
                    Unheeded::Unknown => "not all extension_mandatory parameters are supported",
                    Unheeded::Unmet => "not all extension_mandatory request options could be met",
                })
            })?;
        }
        let optional = optional.into_iter().flat_map(|one| one.0);
        let unheeded = optional.filter_map(|(name, value)| heeded.heed(&name, value).err()).count();
        let Heeded { purpose, ttl } = heeded;
        Ok(Self { number, bits: bits(wire.size)?, purpose, ttl, all_heeded: unheeded == 0 })
    }
}

/// The size of a key, in bits.
pub(crate) fn bits(size: Option<u64>) -> Result<KeyBits, Malformed> {
    let Some(size) = size else { return Ok(KeyBits::default()) };
    if size & 7 != 0 {
        return Err(Malformed::new("size shall be a multiple of 8"));
    }
    let bits = u16::try_from(size).ok().and_then(|size| KeyBits::try_from(size).ok());
    let (least, most) = (KeyBits::RANGE.start(), KeyBits::RANGE.end());
    bits.ok_or_else(|| Malformed::new(format!("size shall be {least} to {most}")))
}

/// "Key IDs", §6.4.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIds {
    #[serde(rename = "key_IDs")]
    ids: Vec<WireId>,
    #[serde(rename = "key_IDs_extension")]
    _extension: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireId {
    #[serde(rename = "key_ID")]
    id: String,
    #[serde(rename = "key_ID_extension")]
    _extension: Option<IgnoredAny>,
}

/// The keys that a body names, each once.
pub(crate) fn ids(body: &[u8]) -> Result<Vec<KeyId>, Malformed> {
    let WireIds { ids, .. } = object(body)?;
    if !(1..=MAX_KEYS).contains(&ids.len()) {
        return Err(Malformed::new(format!("key_IDs shall name 1 to {MAX_KEYS} keys")));
    }
    let ids = ids.iter().map(|one| id(&one.id)).collect::<Result<Vec<_>, _>>()?;
    let unique: BTreeSet<&KeyId> = ids.iter().collect();
    if unique.len() < ids.len() {
        return Err(Malformed::new("key_IDs names a key twice"));
    }
    Ok(ids)
}

/// The one key that a query names.
pub(crate) fn one_id(query: &mut Query) -> Result<Vec<KeyId>, Malformed> {
    let text = query.take("key_ID").ok_or_else(|| Malformed::new("key_ID is missing"))?;
    Ok(vec![id(&text)?])
}

fn id(text: &str) -> Result<KeyId, Malformed> {
    KeyId::from_uuid(text).ok_or_else(|| Malformed::new("key_ID is no UUID"))
}

fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    // Serde would take an array for the members of an object in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed::new("the body is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Malformed::new(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(body: &str, why: &str) {
        let refused = KeyRequest::parse(body.as_bytes()).unwrap_err();
        assert!(refused.0.contains(why), "{body}: {refused}");
    }

    #[test]
    fn a_request_says_how_many_how_long_and_what_for() {
        let null = br#"{"number":null,"additional_slave_SAE_IDs":null,"extension_optional":null}"#;
        assert_eq!(KeyRequest::parse(null).unwrap().number, 1);
        let default = KeyRequest::parse(b"").unwrap();
        assert_eq!((default.number, default.bits.get(), default.all_heeded), (1, 256, true));
        let all = br#"{"number":3,"size":128,"additional_slave_SAE_IDs":[],
            "extension_mandatory":[{"claviger_purpose":"macsec"}],
            "extension_optional":[{"claviger_ttl_seconds":30},{"route":"short"}]}"#;
        let all = KeyRequest::parse(all).unwrap();
        assert_eq!((all.number, all.bits.get(), all.all_heeded), (3, 128, false));
        assert_eq!(all.purpose.unwrap().as_str(), "macsec");
        assert_eq!(all.ttl.unwrap().duration().as_secs(), 30);
    }

    #[test]
    fn what_cannot_be_done_is_said_in_the_standards_words() {
        refuses(r#"{"size":250}"#, "size shall be a multiple of 8");
        refuses(r#"{"size":56}"#, "size shall be 64 to 1024");
        refuses(r#"{"size":18446744073709551608}"#, "size shall be 64 to 1024");
        refuses(r#"{"number":0}"#, "number shall be 1 to 64");
        refuses(r#"{"number":65}"#, "number shall be 1 to 64");
        refuses(r#"{"additional_slave_SAE_IDs":["c"]}"#, "max_SAE_ID_count is 0");
        let unknown = "not all extension_mandatory parameters are supported";
        refuses(r#"{"extension_mandatory":[{"route":"direct"}]}"#, unknown);
        let unmet = "not all extension_mandatory request options could be met";
        refuses(r#"{"extension_mandatory":[{"claviger_ttl_seconds":301}]}"#, unmet);
        refuses(
            r#"{"extension_mandatory":[{"claviger_purpose":"a"},{"claviger_purpose":"b"}]}"#,
            unmet,
        );
    }

    #[test]
    fn nothing_is_there_twice() {
        refuses(r#"{"number":1,"number":2}"#, "duplicate field");
        refuses(r#"{"extension_optional":[{"a":1,"a":2}]}"#, "twice");
        refuses(r#"{"more":1}"#, "unknown field");
        for body in ["[]", "null", "{}{}", "[1,128]", "{"] {
            KeyRequest::parse(body.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn keys_are_named_by_uuids_and_each_once() {
        let one = "00000000-0000-0000-0000-000000000001";
        let body = |ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(|id| format!(r#"{{"key_ID":"{id}"}}"#)).collect();
            format!(r#"{{"key_IDs":[{}]}}"#, ids.join(","))
        };
        assert_eq!(ids(body(&[one]).as_bytes()).unwrap(), [KeyId::from_uuid(one).unwrap()]);
        for (body, why) in [
            (body(&[]), "1 to 64"),
            (body(&[one, one]), "twice"),
            (body(&["1"]), "no UUID"),
            (body(&vec![one; 65]), "1 to 64"),
            ("{}".to_owned(), "missing field `key_IDs`"),
        ] {
            let refused = ids(body.as_bytes()).unwrap_err();
            assert!(refused.0.contains(why), "{body}: {refused}");
        }
    }
}
