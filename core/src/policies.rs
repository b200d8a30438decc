//! The server's word on which policies are in force, for those who decide by themselves: a token that
//! names the policies by the SHA-256 of their bytes, and says how long they may be decided by.
//!
//! It is no SVID and no attestation result and can't be taken for one, though one key signs all of
//! them: its `typ` is another, it has neither `sub` nor `aud`, and no claim but its own. In turn,
//! [`Announcement::verify`] takes nothing with another `typ`, or with any other claim.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bundle::TokenAuthority;
use crate::grant::PolicyDigest;
use crate::id::TrustDomain;
use crate::jose::Algorithm;
use crate::jose::compact::{self, Compact, CompactError};
use crate::svid::Validity;
use crate::time::UnixTime;

/// The most bytes of policies that are sent and taken in.
pub const MAX_BYTES: usize = 4 << 20;

/// What the signer is allowed to say about policies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoliciesContents {
    /// For whom they decide.
    pub trust_domain: TrustDomain,
    /// The number of the announcement. It rises with every one: who has seen a higher one does not
    /// take this one in.
    pub version: u64,
    /// The SHA-256 of the policies' bytes.
    pub sha256: [u8; 32],
    /// What decisions by them are named after.
    pub policy: PolicyDigest,
    /// How long they may be decided by; the signer shortens it to the signing key's end.
    pub ttl: PolicyTtl,
}

impl PoliciesContents {
    /// The `typ`.
    pub const KIND: &'static str = "claviger-policies+jwt";

    /// The claims of an announcement that is made at `now` and ends at `expires_at`.
    #[must_use]
    pub fn claims(&self, now: UnixTime, expires_at: UnixTime) -> Value {
        let claims = Claims {
            exp: expires_at,
            iat: now,
            iss: self.trust_domain.id().to_string(),
            policy: self.policy,
            sha256: self.sha256,
            version: self.version,
        };
        json!(claims)
    }
}

/// The SHA-256 of policies' bytes.
#[must_use]
pub fn sha256(policies: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, policies).as_ref());
    bytes
}

/// Makes an announcement of `claims`.
///
/// # Errors
///
/// Whatever `sign` says.
pub fn encode<E>(
    algorithm: Algorithm,
    key_id: &str,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    compact::build(algorithm, key_id, PoliciesContents::KIND, claims, sign)
}

/// All there is, in the order in which it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    exp: UnixTime,
    iat: UnixTime,
    iss: String,
    policy: PolicyDigest,
    #[serde(with = "hex::serde")]
    sha256: [u8; 32],
    version: u64,
}

/// What the server says about policies. Whether its time has come, or is over, is asked when it is
/// decided by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// For whom they decide.
    pub trust_domain: TrustDomain,
    /// The number of the announcement.
    pub version: u64,
    /// The SHA-256 of the policies' bytes.
    pub sha256: [u8; 32],
    /// What decisions by them are named after.
    pub policy: PolicyDigest,
    /// When it was signed.
    pub issued_at: UnixTime,
    /// The first second in which nothing is decided by them any more.
    pub expires_at: UnixTime,
}

impl Announcement {
    /// What `token` says about the policies of `trust_domain`, whose keys for tokens are
    /// `authorities`.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError`] says why it is not believed.
    pub fn verify(
        token: &str,
        trust_domain: &TrustDomain,
        authorities: &[TokenAuthority],
    ) -> Result<Self, AnnouncementError> {
        let token = Compact::parse(token)?;
        if token.kind.as_deref() != Some(PoliciesContents::KIND) {
            return Err(AnnouncementError::Kind);
        }
        if token.algorithm != Algorithm::Es256 {
            return Err(AnnouncementError::Algorithm(token.algorithm));
        }
        let key = authorities.iter().find(|authority| authority.key_id == token.key_id);
        let key = &key.ok_or(AnnouncementError::UnknownKey)?.public_key;
        if !key.verifies(token.algorithm, token.signed.as_bytes(), &token.signature) {
            return Err(AnnouncementError::Signature);
        }
        // An array of the claims in their order would be read as well, and is no object.
        if token.payload.first() != Some(&b'{') {
            return Err(AnnouncementError::Claims("they are no object".to_owned()));
        }
        let claims: Claims = serde_json::from_slice(&token.payload)
            .map_err(|error| AnnouncementError::Claims(error.to_string()))?;
        if claims.iss != trust_domain.id().to_string() {
            return Err(AnnouncementError::Foreign(claims.iss));
        }
        let lasts = claims.exp.since(claims.iat);
        if lasts.is_zero() || PolicyTtl::MAX.duration() < lasts {
            return Err(AnnouncementError::Life(lasts.as_secs()));
        }
        Ok(Self {
            trust_domain: trust_domain.clone(),
            version: claims.version,
            sha256: claims.sha256,
            policy: claims.policy,
            issued_at: claims.iat,
            expires_at: claims.exp,
        })
    }

    /// Whether the policies may be decided by at `now`.
    ///
    /// # Errors
    ///
    /// [`Untimely`] says why not. A clock that is behind the server's by no more than certificates
    /// allow for, [`Validity::CUSHION`], is right enough.
    pub fn check(&self, now: UnixTime) -> Result<(), Untimely> {
        if now < self.issued_at.before(Validity::CUSHION) {
            return Err(Untimely::NotYet(self.issued_at));
        }
        if self.expires_at <= now { Err(Untimely::Expired(self.expires_at)) } else { Ok(()) }
    }
}

/// Why an announcement is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnnouncementError {
    /// It is no token.
    #[error(transparent)]
    Form(#[from] CompactError),
    /// It says that it is something else.
    #[error("the token's typ says that it announces no policies")]
    Kind,
    /// It is signed in a way that the server does not sign.
    #[error("policies are announced with ES256, not with {}", .0.name())]
    Algorithm(Algorithm),
    /// The key is not one of the trust domain's.
    #[error("the token's kid names no key of the trust domain")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature does not verify")]
    Signature,
    /// A claim is missing, of the wrong type, or one too many.
    #[error("the token's claims are not as they have to be: {0}")]
    Claims(String),
    /// It is for others.
    #[error("the policies are `{0}`'s")]
    Foreign(String),
    /// It lasts longer than any may, or not at all.
    #[error("the announcement lasts {0} seconds; 1 to {max} are believed", max = PolicyTtl::MAX.0)]
    Life(u64),
}

/// Policies may not be decided by at this time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untimely {
    /// Their time is over.
    #[error("the policies have expired at {0} (Unix time)")]
    Expired(UnixTime),
    /// The clock is behind the server's.
    #[error("the policies were signed at {0} (Unix time), which is still to come; set the clock")]
    NotYet(UnixTime),
}

/// How long policies may be decided by without a word from the server: five minutes to a day.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PolicyTtl(u32);

impl PolicyTtl {
    /// The shortest.
    pub const MIN: Self = Self(300);
    /// One hour, the default.
    pub const HOUR: Self = Self(3_600);
    /// The longest.
    pub const MAX: Self = Self(86_400);

    /// The time.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl TryFrom<u32> for PolicyTtl {
    type Error = PolicyTtlError;

    fn try_from(secs: u32) -> Result<Self, PolicyTtlError> {
        let ttl = Self(secs);
        if (Self::MIN..=Self::MAX).contains(&ttl) { Ok(ttl) } else { Err(PolicyTtlError(secs)) }
    }
}

impl From<PolicyTtl> for u32 {
    fn from(ttl: PolicyTtl) -> Self {
        ttl.0
    }
}

/// Too short to be renewed in time, or too long to be withdrawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "policies last {min} to {max} seconds without a word from the server, not {0}",
    min = PolicyTtl::MIN.0,
    max = PolicyTtl::MAX.0
)]
pub struct PolicyTtlError(u32);

#[cfg(test)]
mod tests;
