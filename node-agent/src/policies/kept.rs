//! What outlives a restart: the highest number that was in force, and, until they expire, the
//! policies themselves. An agent that starts without its server decides by them.

use bytes::Bytes;
use claviger_core::bundle::TokenAuthority;
use claviger_core::id::TrustDomain;
use claviger_core::jose::PublicKey;
use claviger_policy::local::{Signed, SignedError};
use serde::{Deserialize, Serialize};

use super::{Candidate, InForce};
use crate::files::{DataDir, DataDirError};

/// Where they are.
const FILE: &str = "policies.json";

/// What is kept.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// The highest number that was in force.
    pub(super) version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policies: Option<KeptPolicies>,
}

/// Policies, and all that is needed to check them again.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptPolicies {
    token: String,
    key_id: String,
    /// SubjectPublicKeyInfo.
    #[serde(with = "hex::serde")]
    key: Vec<u8>,
    /// JSON in itself, as it was signed.
    policies: String,
}

impl Kept {
    /// What was kept before the last stop.
    pub(super) async fn load(dir: &DataDir) -> Result<Self, LoadPoliciesError> {
        let Some(text) = dir.read(FILE).await? else { return Ok(Self::default()) };
        serde_json::from_slice(&text).map_err(|source| LoadPoliciesError::Damaged {
            path: dir.path(FILE).display().to_string(),
            source,
        })
    }

    /// That number `version` was in force, and what it names, if that is still good.
    pub(super) fn of(version: u64, in_force: Option<&InForce>) -> Self {
        let policies = in_force.map(|in_force| KeptPolicies {
            token: in_force.token.clone(),
            key_id: in_force.key.key_id.clone(),
            key: in_force.key.public_key.spki().to_vec(),
            policies: String::from_utf8_lossy(&in_force.bytes).into_owned(),
        });
        Self { version, policies }
    }

    /// Writes it down.
    pub(super) async fn save(&self, dir: &DataDir) -> Result<(), SavePoliciesError> {
        let text = serde_json::to_vec(self)?;
        Ok(dir.write(FILE, text.into()).await?)
    }

    /// The policies of `trust_domain` that were kept, checked anew.
    pub(super) fn open(self, trust_domain: &TrustDomain) -> Option<Result<Candidate, SignedError>> {
        let KeptPolicies { token, key_id, key, policies } = self.policies?;
        // A key that is none has signed nothing.
        let public_key = PublicKey::from_spki(&key).ok()?;
        let key = TokenAuthority { key_id, public_key, expires_at: None, tainted: false };
        let bytes = Bytes::from(policies);
        let signed = Signed::open(&token, &bytes, trust_domain, std::slice::from_ref(&key));
        Some(signed.map(|signed| Candidate { signed, token, key, bytes }))
    }
}

/// What was kept can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadPoliciesError {
    /// The directory can't be used.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The file is not what we wrote.
    #[error("`{path}` is damaged; remove it to take in the server's next announcement")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// It can't be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SavePoliciesError {
    #[error(transparent)]
    Dir(#[from] DataDirError),
    #[error("the policies can't be written as JSON")]
    Json(#[from] serde_json::Error),
}
