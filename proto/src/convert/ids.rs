//! SPIFFE IDs (two fields on the wire) and trust domain names.

use claviger_core::id::{SpiffeId, TrustDomain};

use super::{FieldError, Problem};
use crate::spire::types;

impl TryFrom<types::Spiffeid> for SpiffeId {
    type Error = FieldError;

    fn try_from(wire: types::Spiffeid) -> Result<Self, FieldError> {
        let trust_domain: TrustDomain =
            wire.trust_domain.parse().map_err(|error| FieldError::new("trust_domain", error))?;
        trust_domain.join(&wire.path).map_err(|error| FieldError::new("path", error))
    }
}

impl From<&SpiffeId> for types::Spiffeid {
    fn from(id: &SpiffeId) -> Self {
        Self { trust_domain: id.trust_domain().as_str().to_owned(), path: id.path().to_owned() }
    }
}

/// The identity in the required field `field`.
///
/// # Errors
///
/// [`FieldError`] if it is missing or malformed.
pub fn required(wire: Option<types::Spiffeid>, field: &str) -> Result<SpiffeId, FieldError> {
    optional(wire, field)?.ok_or_else(|| FieldError::new(field, Problem::Missing))
}

/// The identity in the optional field `field`.
///
/// # Errors
///
/// [`FieldError`] if it is malformed.
pub fn optional(
    wire: Option<types::Spiffeid>,
    field: &str,
) -> Result<Option<SpiffeId>, FieldError> {
    wire.map(SpiffeId::try_from).transpose().map_err(|error| error.within(field))
}

/// A trust domain written as its name or as its SPIFFE ID. SPIRE's tools send what their user
/// typed, and its manual shows the second form.
///
/// # Errors
///
/// [`Problem`] if it is neither.
pub fn trust_domain(text: &str) -> Result<TrustDomain, Problem> {
    if !text.starts_with("spiffe://") {
        return Ok(text.parse()?);
    }
    let id: SpiffeId = text.parse()?;
    if id.is_trust_domain() { Ok(id.trust_domain().clone()) } else { Err(Problem::NotATrustDomain) }
}

#[cfg(test)]
mod tests {
    use claviger_core::id::ParseIdError;

    use super::*;

    fn wire(trust_domain: &str, path: &str) -> types::Spiffeid {
        types::Spiffeid { trust_domain: trust_domain.into(), path: path.into() }
    }

    #[track_caller]
    fn refuses(wire: types::Spiffeid, field: &str, error: ParseIdError) {
        assert_eq!(SpiffeId::try_from(wire), Err(FieldError::new(field, error)));
    }

    #[test]
    fn identities_come_back_as_they_went() {
        for uri in ["spiffe://example.org", "spiffe://example.org/db/Writer_1"] {
            let id: SpiffeId = uri.parse().unwrap();
            assert_eq!(SpiffeId::try_from(types::Spiffeid::from(&id)), Ok(id));
        }
    }

    #[test]
    fn a_second_spelling_is_refused_not_repaired() {
        refuses(wire("", "/a"), "trust_domain", ParseIdError::TrustDomainLength(0));
        refuses(wire("Example.org", "/a"), "trust_domain", ParseIdError::TrustDomainByte { at: 0 });
        refuses(
            wire("spiffe://example.org", "/a"),
            "trust_domain",
            ParseIdError::TrustDomainByte { at: 6 },
        );
        refuses(wire("example.org", "a"), "path", ParseIdError::Path);
        refuses(wire("example.org", "/"), "path", ParseIdError::Path);
        refuses(wire("example.org", "/a/"), "path", ParseIdError::Path);
        refuses(wire("example.org", "//a"), "path", ParseIdError::Path);
        refuses(wire("example.org", "/a/../b"), "path", ParseIdError::Path);
        refuses(wire("example.org", "/%61"), "path", ParseIdError::Path);
    }

    #[test]
    fn an_error_names_the_whole_path_to_the_field() {
        let missing = required(None, "parent_id").unwrap_err();
        assert_eq!(missing.to_string(), "parent_id: is missing");
        let malformed = required(Some(wire("example.org", "a")), "parent_id").unwrap_err();
        assert!(malformed.to_string().starts_with("parent_id.path: a path is empty or"));
        assert_eq!(optional(None, "agent_id"), Ok(None));
    }

    #[test]
    fn a_trust_domain_has_two_notations_on_the_wire() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert_eq!(trust_domain("example.org"), Ok(domain.clone()));
        assert_eq!(trust_domain("spiffe://example.org"), Ok(domain));
        assert_eq!(trust_domain("spiffe://example.org/a"), Err(Problem::NotATrustDomain));
        assert_eq!(
            trust_domain("https://example.org"),
            Err(ParseIdError::TrustDomainByte { at: 5 }.into())
        );
    }
}
