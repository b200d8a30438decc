//! Tokens and JWK Sets, read and verified by the texts of the standards alone: deliberately not
//! with the code that issues and validates them in this program.

use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The algorithms of JWT-SVIDs and WIT-SVIDs (JWT-SVID §2.1, WIT-SVID §2.3).
pub(super) const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// A token in JWS compact serialization (RFC 7515 §3.1).
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) header: Object,
    pub(super) claims: Object,
    /// Header and payload, encoded.
    pub(super) signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Reads a token, and does not verify it.
    pub(super) fn parse(token: &'a str) -> Result<Self, String> {
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts.as_slice() else {
            return Err(format!("{} parts instead of 3", parts.len()));
        };
        let (signed, _signature) = token.rsplit_once('.').unwrap_or_default();
        Ok(Self {
            header: object("header", header)?,
            claims: object("payload", payload)?,
            signed,
            signature: decode("signature", signature)?,
        })
    }

    /// A member of the header that is a text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// A claim that is a text.
    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// Its audiences (RFC 7519 §4.1.3).
    pub(super) fn audience(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether `jwk` signed it; nothing if its algorithm is none that we can verify.
    pub(super) fn is_signed_by(&self, jwk: &Object) -> Option<bool> {
        verify(self.header("alg")?, jwk, self.signed.as_bytes(), &self.signature)
    }
}

fn decode(what: &str, part: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| format!("its {what} is not base64url without padding: {error}"))
}

fn object(what: &str, part: &str) -> Result<Object, String> {
    serde_json::from_slice(&decode(what, part)?)
        .map_err(|error| format!("its {what} is no JSON object: {error}"))
}

/// A JWK Set (RFC 7517 §5).
#[derive(Debug)]
pub(super) struct JwkSet {
    pub(super) document: Object,
    /// `None` if `keys` is missing or no list of objects.
    pub(super) keys: Option<Vec<Object>>,
}

impl JwkSet {
    /// Reads a set as far as it is one.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Object =
            serde_json::from_slice(json).map_err(|error| format!("no JSON object: {error}"))?;
        let keys = document.get("keys").and_then(Value::as_array);
        let keys = keys.and_then(|keys| keys.iter().map(|key| key.as_object().cloned()).collect());
        Ok(Self { document, keys })
    }

    pub(super) fn keys(&self) -> &[Object] {
        self.keys.as_deref().unwrap_or_default()
    }

    /// The key that a token names.
    pub(super) fn find(&self, kid: &str) -> Option<&Object> {
        self.keys().iter().find(|key| text(key, "kid") == Some(kid))
    }
}

/// A member that is a text.
pub(super) fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// What makes a public key this one (RFC 7638).
pub(super) fn same_key(one: &Object, other: &Object) -> bool {
    let material = |key: &Object| ["kty", "crv", "x", "y", "n", "e"].map(|m| key.get(m).cloned());
    material(one) == material(other)
}

fn verify(alg: &str, jwk: &Object, signed: &[u8], signature: &[u8]) -> Option<bool> {
    let member = |name| URL_SAFE_NO_PAD.decode(text(jwk, name)?).ok();
    let ec = |algorithm: &'static EcdsaVerificationAlgorithm| {
        let point = [vec![4], member("x")?, member("y")?].concat();
        Some(UnparsedPublicKey::new(algorithm, point).verify(signed, signature).is_ok())
    };
    let rsa = |parameters: &'static RsaParameters| {
        let key = RsaPublicKeyComponents { n: member("n")?, e: member("e")? };
        Some(key.verify(parameters, signed, signature).is_ok())
    };
    match (alg, text(jwk, "kty")?, text(jwk, "crv")) {
        ("ES256", "EC", Some("P-256")) => ec(&signature::ECDSA_P256_SHA256_FIXED),
        ("ES384", "EC", Some("P-384")) => ec(&signature::ECDSA_P384_SHA384_FIXED),
        ("ES512", "EC", Some("P-521")) => ec(&signature::ECDSA_P521_SHA512_FIXED),
        ("RS256", "RSA", _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        ("RS384", "RSA", _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        ("RS512", "RSA", _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        ("PS256", "RSA", _) => rsa(&signature::RSA_PSS_2048_8192_SHA256),
        ("PS384", "RSA", _) => rsa(&signature::RSA_PSS_2048_8192_SHA384),
        ("PS512", "RSA", _) => rsa(&signature::RSA_PSS_2048_8192_SHA512),
        // A key of another kind did not sign this.
        (alg, _, _) if ALGORITHMS.contains(&alg) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515 §A.3, whose payload is a claims set.
    const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0\
                          dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6\
                          -Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    fn key() -> Object {
        serde_json::from_str(KEY).unwrap()
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_verified() {
        let token = Token::parse(SIGNED).unwrap();
        assert_eq!((token.header("alg"), token.claim("iss")), (Some("ES256"), Some("joe")));
        assert_eq!(token.is_signed_by(&key()), Some(true));
    }

    #[test]
    fn another_key_or_another_text_is_seen() {
        let parts: Vec<_> = SIGNED.split('.').collect();
        let broken = format!("{}.{}.{}", parts[0], parts[1], parts[2].replace('D', "E"));
        assert_eq!(Token::parse(&broken).unwrap().is_signed_by(&key()), Some(false));
        let other = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode("{}"), parts[2]);
        assert_eq!(Token::parse(&other).unwrap().is_signed_by(&key()), Some(false));
        let mut swapped = key();
        swapped.insert("kty".into(), "RSA".into());
        assert_eq!(Token::parse(SIGNED).unwrap().is_signed_by(&swapped), Some(false));
    }

    #[test]
    fn what_is_no_compact_token_is_told_as_such() {
        for bad in ["", "a.b", "a.b.c.d", "e30.e30.=", "W10.e30.", "e30=.e30.", "!.e30."] {
            let error = Token::parse(bad).unwrap_err();
            assert!(!error.is_empty(), "{bad}");
        }
        Token::parse("e30.e30.").unwrap();
    }

    #[test]
    fn one_audience_is_as_good_as_a_list_of_one() {
        let token = |claims: &str| format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(Token::parse(&token(r#"{"aud":"a"}"#)).unwrap().audience(), ["a"]);
        assert_eq!(Token::parse(&token(r#"{"aud":["a","b"]}"#)).unwrap().audience(), ["a", "b"]);
        assert!(Token::parse(&token("{}")).unwrap().audience().is_empty());
    }

    #[test]
    fn a_set_without_a_list_of_objects_has_no_keys() {
        assert!(JwkSet::parse(b"{}").unwrap().keys.is_none());
        assert!(JwkSet::parse(br#"{"keys":[1]}"#).unwrap().keys.is_none());
        assert_eq!(JwkSet::parse(br#"{"keys":[]}"#).unwrap().keys.unwrap().len(), 0);
        JwkSet::parse(b"[]").unwrap_err();
        let set = format!(r#"{{"keys":[{KEY}]}}"#);
        let set = JwkSet::parse(set.as_bytes()).unwrap();
        assert!(set.find("x").is_none() && same_key(&set.keys()[0], &key()));
    }
}
