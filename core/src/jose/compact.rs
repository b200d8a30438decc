//! Tokens in the JWS compact serialization (RFC 7515 §3.1): `header.payload.signature`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::Algorithm;
use super::algorithm::UnknownAlgorithm;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 << 10;

/// A token taken apart; its signature has not been looked at.
#[derive(Debug)]
pub struct Compact<'a> {
    /// How it says it is signed.
    pub algorithm: Algorithm,
    /// Which key it says signed it.
    pub key_id: String,
    /// What it says it is.
    pub kind: Option<String>,
    /// What is signed: header and payload as they stand in the token.
    pub signed: &'a str,
    /// What it says: JSON.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// The header. A token with any other member, or with one twice, is refused (JWT-SVID §2).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

/// The header of a token that follows RFC 7515 and not SPIFFE: members that nobody here knows are
/// passed over (§4), among them those that point at keys. A token never says where its key is.
#[derive(Deserialize)]
struct ForeignHeader {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

impl TryFrom<ForeignHeader> for Header {
    type Error = CompactError;

    fn try_from(header: ForeignHeader) -> Result<Self, CompactError> {
        let ForeignHeader { alg, kid, typ, crit } = header;
        // What has to be understood would be an extension, and none is (§4.1.11).
        if crit.is_some() { Err(CompactError::Critical) } else { Ok(Self { alg, kid, typ }) }
    }
}

impl<'a> Compact<'a> {
    /// Takes `token` apart, which is one of SPIFFE's.
    ///
    /// # Errors
    ///
    /// [`CompactError`] says what is wrong with its form.
    pub fn parse(token: &'a str) -> Result<Self, CompactError> {
        Self::dissect(token, json::<Header>)
    }

    /// Takes `token` apart, which is somebody else's: its header may have members that are not ours
    /// to judge.
    ///
    /// # Errors
    ///
    /// [`CompactError`] says what is wrong with its form.
    pub fn parse_foreign(token: &'a str) -> Result<Self, CompactError> {
        Self::dissect(token, |header| json::<ForeignHeader>(header)?.try_into())
    }

    fn dissect(
        token: &'a str,
        read: impl FnOnce(&[u8]) -> Result<Header, CompactError>,
    ) -> Result<Self, CompactError> {
        if MAX_TOKEN < token.len() {
            return Err(CompactError::Length);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(CompactError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(CompactError::Parts)?;
        if payload.contains('.') {
            return Err(CompactError::Parts);
        }
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_detail| CompactError::Base64);
        let header = read(&decode(header)?)?;
        Ok(Self {
            algorithm: header.alg.parse()?,
            key_id: header.kid.filter(|kid| !kid.is_empty()).ok_or(CompactError::NoKeyId)?,
            kind: header.typ,
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

fn json<H: DeserializeOwned>(header: &[u8]) -> Result<H, CompactError> {
    serde_json::from_slice(header).map_err(|error| CompactError::Header(error.to_string()))
}

/// A new token, signed by `sign` with `algorithm`.
///
/// # Errors
///
/// Whatever `sign` says.
pub fn build<E>(
    algorithm: Algorithm,
    key_id: &str,
    kind: &str,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let header = json!({"alg": algorithm.name(), "kid": key_id, "typ": kind});
    let mut token = String::new();
    URL_SAFE_NO_PAD.encode_string(header.to_string(), &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// Why a string is not a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompactError {
    /// It is too long.
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    Length,
    /// It is no JWS, or one in the JSON serialization.
    #[error("the token does not have three parts")]
    Parts,
    /// A part is no base64url, or padded.
    #[error("a part of the token is not base64url")]
    Base64,
    /// The header is no JSON, or has other members than `alg`, `kid` and `typ`.
    #[error("the token's header is not as it has to be: {0}")]
    Header(String),
    /// The header asks for an extension.
    #[error("the token's header has a `crit`, and no extension is understood")]
    Critical,
    /// The algorithm is not permitted.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// Nothing says which key to check it with.
    #[error("the token's header has no kid")]
    NoKeyId,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &Value) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}.{}", text(header.to_string().as_bytes()), text(b"{}"), text(b"sig"))
    }

    fn refused(header: &Value) -> String {
        Compact::parse(&token(header)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_built_is_taken_apart_again() {
        let sign = |message: &[u8]| Ok::<_, std::convert::Infallible>(message.to_vec());
        let token = build(Algorithm::Es256, "k", "JWT", &json!({"a": 1}), sign).unwrap();
        let compact = Compact::parse(&token).unwrap();
        assert_eq!((compact.algorithm, &*compact.key_id), (Algorithm::Es256, "k"));
        assert_eq!(compact.kind.as_deref(), Some("JWT"));
        assert_eq!(compact.payload, br#"{"a":1}"#);
        assert_eq!(compact.signature, compact.signed.as_bytes());
        let header = token.split('.').next().unwrap();
        let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header, r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#);
    }

    #[test]
    fn only_three_members_may_be_in_a_header() {
        Compact::parse(&token(&json!({"alg": "ES256", "kid": "k"}))).unwrap();
        for extra in ["crit", "jku", "jwk", "x5u", "x5c", "b64", "cty"] {
            let header = json!({"alg": "ES256", "kid": "k", extra: []});
            assert!(refused(&header).contains("header"), "{extra}");
        }
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let twice = text(br#"{"alg":"ES256","kid":"k","alg":"none"}"#);
        let error = Compact::parse(&format!("{twice}.e30.e30")).unwrap_err().to_string();
        assert!(error.contains("duplicate"), "{error}");
    }

    #[test]
    fn others_may_have_more_members_but_none_that_has_to_be_understood() {
        for extra in ["x5t", "jku", "jwk", "x5u", "cty"] {
            let token = token(&json!({"alg": "RS256", "kid": "k", "typ": "JWT", extra: "x"}));
            assert_eq!(Compact::parse_foreign(&token).unwrap().key_id, "k", "{extra}");
        }
        let critical = token(&json!({"alg": "RS256", "kid": "k", "b64": false, "crit": ["b64"]}));
        assert_eq!(Compact::parse_foreign(&critical).unwrap_err(), CompactError::Critical);
        let none = token(&json!({"alg": "none", "kid": "k"}));
        assert!(matches!(Compact::parse_foreign(&none), Err(CompactError::Algorithm(_))));
        let twice = URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","kid":"k","alg":"none"}"#);
        let error = Compact::parse_foreign(&format!("{twice}.e30.e30")).unwrap_err().to_string();
        assert!(error.contains("duplicate"), "{error}");
    }

    #[test]
    fn forbidden_algorithms_and_missing_names_are_refused() {
        for algorithm in ["none", "HS256", "EdDSA"] {
            assert!(refused(&json!({"alg": algorithm, "kid": "k"})).contains("none of RS256"));
        }
        assert!(refused(&json!({"kid": "k"})).contains("alg"));
        assert!(refused(&json!({"alg": "ES256"})).contains("no kid"));
        assert!(refused(&json!({"alg": "ES256", "kid": ""})).contains("no kid"));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "a", "a.b", "a.b.c.d", "..", "e30=.e30.e30", "e30.e30.*"] {
            Compact::parse(text).unwrap_err();
        }
        let json = r#"{"payload":"e30","signatures":[]}"#;
        assert_eq!(Compact::parse(json).unwrap_err(), CompactError::Parts);
        assert_eq!(Compact::parse(&"a".repeat(MAX_TOKEN + 1)).unwrap_err(), CompactError::Length);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,200}") {
            drop(Compact::parse(&text));
            drop(Compact::parse_foreign(&text));
        }
    }
}
