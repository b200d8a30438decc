//! An entry as JSON: what `--output json` prints and `--data` reads, in the names of SPIRE's file.

use claviger_core::id::SpiffeId;
use claviger_core::selector::Selector;
use claviger_proto::spire::types;
use claviger_proto::spire::types::entry::AdditionalAttributes;
use serde::{Deserialize, Serialize};

use crate::commands::selection;

/// A file of entries: `{"entries":[…]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) entries: Vec<Document>,
}

/// One entry.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Document {
    /// Made up by the server if empty.
    #[serde(alias = "id")]
    entry_id: String,
    spiffe_id: String,
    parent_id: String,
    selectors: Vec<SelectorDocument>,
    /// Seconds; 0 for the server's default.
    x509_svid_ttl: i32,
    /// Seconds; 0 for the server's default.
    jwt_svid_ttl: i32,
    federates_with: Vec<String>,
    admin: bool,
    downstream: bool,
    /// Seconds since 1970; 0 for never.
    #[serde(alias = "entryExpiry")]
    expires_at: i64,
    dns_names: Vec<String>,
    store_svid: bool,
    hint: String,
    additional_attributes: Attributes,
    /// The server's; ignored in a file.
    revision_number: i64,
    /// The server's; ignored in a file.
    created_at: i64,
}

/// What SPIRE keeps apart from the other fields.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Attributes {
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SelectorDocument {
    r#type: String,
    value: String,
}

impl From<AdditionalAttributes> for Attributes {
    fn from(wire: AdditionalAttributes) -> Self {
        let AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = wire;
        Self { disable_x509_svid_prefetch, jwt_svid_include_jti }
    }
}

impl From<Attributes> for Option<AdditionalAttributes> {
    /// Unset if none is, as with SPIRE.
    fn from(attributes: Attributes) -> Self {
        let Attributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = attributes;
        (attributes != Attributes::default())
            .then_some(AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti })
    }
}

impl From<&types::Entry> for Document {
    fn from(wire: &types::Entry) -> Self {
        let selector = |one: &types::Selector| SelectorDocument {
            r#type: one.r#type.clone(),
            value: one.value.clone(),
        };
        Self {
            entry_id: wire.id.clone(),
            spiffe_id: selection::spiffe_id(wire.spiffe_id.as_ref()),
            parent_id: selection::spiffe_id(wire.parent_id.as_ref()),
            selectors: wire.selectors.iter().map(selector).collect(),
            x509_svid_ttl: wire.x509_svid_ttl,
            jwt_svid_ttl: wire.jwt_svid_ttl,
            federates_with: wire.federates_with.clone(),
            admin: wire.admin,
            downstream: wire.downstream,
            expires_at: wire.expires_at,
            dns_names: wire.dns_names.clone(),
            store_svid: wire.store_svid,
            hint: wire.hint.clone(),
            additional_attributes: wire.additional_attributes.unwrap_or_default().into(),
            revision_number: wire.revision_number,
            created_at: wire.created_at,
        }
    }
}

impl TryFrom<Document> for types::Entry {
    type Error = String;

    /// The server judges the rest; what is not even a name is told here, with its value.
    fn try_from(document: Document) -> Result<Self, String> {
        let id = |field: &str, text: &str| match text.parse::<SpiffeId>() {
            Ok(id) => Ok(Some((&id).into())),
            Err(error) => Err(format!("{field} `{text}`: {error}")),
        };
        let selector = |one: &SelectorDocument| match Selector::new(&one.r#type, &one.value) {
            Ok(selector) => Ok((&selector).into()),
            Err(error) => Err(format!("selector `{}:{}`: {error}", one.r#type, one.value)),
        };
        Ok(Self {
            spiffe_id: id("spiffe_id", &document.spiffe_id)?,
            parent_id: match document.parent_id.as_str() {
                "" => None,
                parent => id("parent_id", parent)?,
            },
            selectors: document.selectors.iter().map(selector).collect::<Result<_, _>>()?,
            id: document.entry_id,
            x509_svid_ttl: document.x509_svid_ttl,
            jwt_svid_ttl: document.jwt_svid_ttl,
            federates_with: document.federates_with,
            admin: document.admin,
            downstream: document.downstream,
            expires_at: document.expires_at,
            dns_names: document.dns_names,
            store_svid: document.store_svid,
            hint: document.hint,
            additional_attributes: document.additional_attributes.into(),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spires_file_is_read() {
        let file = r#"{"entries":[{"selectors":[{"type":"unix","value":"uid:1111"}],
            "spiffe_id":"spiffe://example.org/Blog","parent_id":"spiffe://example.org/agent",
            "x509_svid_ttl":200,"admin":true,"entryExpiry":7,"dns_names":["blog"],
            "federates_with":["spiffe://other.org"],"downstream":true,"store_svid":true,"hint":"h",
            "jwt_svid_ttl":60,"additional_attributes":{"jwt_svid_include_jti":true}}]}"#;
        let mut file: File = serde_json::from_str(file).unwrap();
        let entry = types::Entry::try_from(file.entries.remove(0)).unwrap();
        assert_eq!(entry.spiffe_id.unwrap().path, "/Blog");
        assert_eq!(entry.selectors[0].value, "uid:1111");
        assert_eq!((entry.x509_svid_ttl, entry.jwt_svid_ttl, entry.expires_at), (200, 60, 7));
        assert!(entry.admin && entry.downstream && entry.store_svid);
        assert_eq!((entry.dns_names[0].as_str(), entry.hint.as_str()), ("blog", "h"));
        assert_eq!(entry.federates_with, ["spiffe://other.org"]);
        let attributes = entry.additional_attributes.unwrap();
        assert!(attributes.jwt_svid_include_jti && !attributes.disable_x509_svid_prefetch);
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let wire = types::Entry {
            id: "e".into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "a.org".into(), path: "/x".into() }),
            parent_id: Some(types::Spiffeid { trust_domain: "a.org".into(), path: "/p".into() }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
            hint: "h".into(),
            additional_attributes: Some(AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: false,
            }),
            ..types::Entry::default()
        };
        let json = serde_json::to_string(&Document::from(&wire)).unwrap();
        let back: Document = serde_json::from_str(&json).unwrap();
        assert_eq!(types::Entry::try_from(back), Ok(wire));
    }

    #[test]
    fn a_bad_file_is_refused_with_the_value() {
        let unknown = r#"{"entries":[{"spifeid":"spiffe://a.org/x"}]}"#;
        let error = serde_json::from_str::<File>(unknown).unwrap_err().to_string();
        assert!(error.contains("spifeid"), "{error}");
        let document = Document { spiffe_id: "http://x".into(), ..Document::default() };
        let error = types::Entry::try_from(document).unwrap_err();
        assert!(error.contains("http://x"), "{error}");
    }
}
