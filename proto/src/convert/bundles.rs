//! Bundles.

use std::time::Duration;

use claviger_core::bundle::{Bundle, TokenAuthority, X509Authority};
use claviger_core::der;
use claviger_core::jose::PublicKey;

use super::{FieldError, Problem, ids, times};
use crate::spire::types;

impl TryFrom<types::X509Certificate> for X509Authority {
    type Error = FieldError;

    fn try_from(wire: types::X509Certificate) -> Result<Self, FieldError> {
        der::check_one(&wire.asn1).map_err(|error| FieldError::new("asn1", error))?;
        Ok(Self { der: wire.asn1, tainted: wire.tainted })
    }
}

impl From<&X509Authority> for types::X509Certificate {
    fn from(authority: &X509Authority) -> Self {
        Self { asn1: authority.der.clone(), tainted: authority.tainted }
    }
}

/// Both kinds of keys for tokens have the same fields, in two messages.
macro_rules! token_key {
    ($message:ident) => {
        impl TryFrom<types::$message> for TokenAuthority {
            type Error = FieldError;

            fn try_from(wire: types::$message) -> Result<Self, FieldError> {
                let types::$message { public_key, key_id, expires_at, tainted } = wire;
                if !(1..=Bundle::MAX_KEY_ID).contains(&key_id.len()) {
                    return Err(FieldError::new("key_id", Problem::KeyId(key_id.len())));
                }
                let public_key = PublicKey::from_spki(&public_key)
                    .map_err(|error| FieldError::new("public_key", error))?;
                let expires_at = times::end(expires_at)
                    .map_err(|problem| FieldError::new("expires_at", problem))?;
                Ok(Self { key_id, public_key, expires_at, tainted })
            }
        }

        impl From<&TokenAuthority> for types::$message {
            fn from(authority: &TokenAuthority) -> Self {
                Self {
                    public_key: authority.public_key.spki().to_vec(),
                    key_id: authority.key_id.clone(),
                    expires_at: times::end_to_wire(authority.expires_at),
                    tainted: authority.tainted,
                }
            }
        }
    };
}

token_key!(JwtKey);
token_key!(WitKey);

/// The authorities in the list `field`.
///
/// # Errors
///
/// [`FieldError`] if the list is too long or holds something that is no authority.
pub fn authorities<W, A>(wire: Vec<W>, field: &str) -> Result<Vec<A>, FieldError>
where
    A: TryFrom<W, Error = FieldError>,
{
    if Bundle::MAX_AUTHORITIES < wire.len() {
        let problem = Problem::TooMany { count: wire.len(), max: Bundle::MAX_AUTHORITIES };
        return Err(FieldError::new(field, problem));
    }
    let authority = |(at, wire)| {
        A::try_from(wire).map_err(|error: FieldError| error.within(&format!("{field}[{at}]")))
    };
    wire.into_iter().enumerate().map(authority).collect()
}

impl TryFrom<types::Bundle> for Bundle {
    type Error = FieldError;

    fn try_from(wire: types::Bundle) -> Result<Self, FieldError> {
        let seconds = u64::try_from(wire.refresh_hint).map_err(|_negative| {
            FieldError::new("refresh_hint", Problem::Negative(wire.refresh_hint))
        })?;
        Ok(Self {
            trust_domain: ids::trust_domain(&wire.trust_domain)
                .map_err(|problem| FieldError::new("trust_domain", problem))?,
            x509_authorities: authorities(wire.x509_authorities, "x509_authorities")?,
            jwt_authorities: unique(
                authorities(wire.jwt_authorities, "jwt_authorities")?,
                "jwt_authorities",
            )?,
            wit_authorities: unique(
                authorities(wire.wit_authorities, "wit_authorities")?,
                "wit_authorities",
            )?,
            sequence: wire.sequence_number,
            refresh_hint: (seconds != 0).then(|| Duration::from_secs(seconds)),
        })
    }
}

/// Nobody could say which of two keys with one name is meant.
fn unique(
    authorities: Vec<TokenAuthority>,
    field: &str,
) -> Result<Vec<TokenAuthority>, FieldError> {
    let mut seen = std::collections::BTreeSet::new();
    match authorities.iter().find(|authority| !seen.insert(&authority.key_id)) {
        Some(twice) => Err(FieldError::new(field, Problem::Repeated(twice.key_id.clone()))),
        None => Ok(authorities),
    }
}

impl From<&Bundle> for types::Bundle {
    fn from(bundle: &Bundle) -> Self {
        let seconds = bundle.refresh_hint.map_or(0, |hint| hint.as_secs());
        Self {
            trust_domain: bundle.trust_domain.as_str().to_owned(),
            x509_authorities: bundle.x509_authorities.iter().map(Into::into).collect(),
            jwt_authorities: bundle.jwt_authorities.iter().map(Into::into).collect(),
            refresh_hint: i64::try_from(seconds).unwrap_or(i64::MAX),
            sequence_number: bundle.sequence,
            wit_authorities: bundle.wit_authorities.iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const ONE: &[u8] = &[0x30, 0x01, 0xaa];
    const TWO: &[u8] = &[0x30, 0x02, 0xbb, 0xbb];

    /// The key of RFC 7515 §A.3.
    fn token_authority(key_id: &str) -> TokenAuthority {
        let jwk = serde_json::json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let jwk = serde_json::from_value(jwk).unwrap();
        TokenAuthority {
            key_id: key_id.to_owned(),
            public_key: PublicKey::from_jwk(&jwk).unwrap(),
            expires_at: Some(claviger_core::time::UnixTime::from_secs(9)),
            tainted: true,
        }
    }

    fn bundle() -> Bundle {
        Bundle {
            x509_authorities: vec![
                X509Authority { der: Bytes::from_static(ONE), tainted: true },
                X509Authority { der: Bytes::from_static(TWO), tainted: false },
            ],
            jwt_authorities: vec![token_authority("j")],
            wit_authorities: vec![token_authority("w")],
            sequence: 7,
            refresh_hint: Some(Duration::from_secs(300)),
            ..Bundle::empty("example.org".parse().unwrap())
        }
    }

    #[track_caller]
    fn refuses(change: impl FnOnce(&mut types::Bundle), message: &str) {
        let mut wire = types::Bundle::from(&bundle());
        change(&mut wire);
        assert_eq!(Bundle::try_from(wire).unwrap_err().to_string(), message);
    }

    #[test]
    fn bundles_come_back_as_they_went() {
        assert_eq!(Bundle::try_from(types::Bundle::from(&bundle())), Ok(bundle()));
        let bare = Bundle::empty(bundle().trust_domain);
        assert_eq!(Bundle::try_from(types::Bundle::from(&bare)), Ok(bare));
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        refuses(
            |wire| wire.trust_domain = "spiffe://example.org/a".into(),
            "trust_domain: a trust domain has no path; write `example.org` or \
             `spiffe://example.org`",
        );
        refuses(|wire| wire.refresh_hint = -1, "refresh_hint: -1 is negative");
        refuses(
            |wire| wire.x509_authorities[1].asn1 = [ONE, TWO].concat().into(),
            "x509_authorities[1].asn1: holds more than one certificate",
        );
        refuses(
            |wire| wire.x509_authorities[0].asn1.clear(),
            "x509_authorities[0].asn1: holds no certificate",
        );
        refuses(
            |wire| wire.x509_authorities = vec![wire.x509_authorities[0].clone(); 257],
            "x509_authorities: has 257 elements; at most 256 are allowed",
        );
        refuses(
            |wire| wire.jwt_authorities[0].key_id.clear(),
            "jwt_authorities[0].key_id: has 0 bytes; a key's name has 1 to 255",
        );
        refuses(
            |wire| wire.wit_authorities[0].public_key.truncate(40),
            "wit_authorities[0].public_key: the key is malformed",
        );
        refuses(
            |wire| wire.jwt_authorities.push(wire.jwt_authorities[0].clone()),
            "jwt_authorities: `j` is listed twice",
        );
    }
}
