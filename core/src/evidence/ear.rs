//! Attestation results for others (EAR, draft-ietf-rats-ear): what this verifier found out about a
//! node, as a token that relying parties elsewhere can check.
//!
//! It is no SVID and can't be taken for one, though one key signs both: its `typ` is another, it has
//! neither `sub` nor `aud`, which every validator of JWT-SVIDs asks for, and its `iss` is the trust
//! domain and not the address that OpenID Connect knows it by. The node is named by a claim of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::Appraisal;
use crate::id::SpiffeId;
use crate::jose::Algorithm;
use crate::jose::compact;
use crate::svid::SvidTtl;
use crate::time::UnixTime;

/// What the signer is allowed to put into one attestation result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EarContents {
    /// The node that was appraised.
    pub agent: SpiffeId,
    /// How.
    pub appraisal: Appraisal,
    /// When.
    pub appraised_at: UnixTime,
    /// What the relying party sent, to be sure that the result is fresh.
    pub nonce: Option<EarNonce>,
    /// How long it is asked to last; the signer shortens it to the signing key's end.
    pub ttl: SvidTtl,
}

impl EarContents {
    /// The `typ` (RFC 9782 §6.1, without `application/`).
    pub const KIND: &'static str = "eat+jwt";
    /// The `eat_profile` (draft-ietf-rats-ear-04 §3).
    pub const PROFILE: &'static str = "tag:ietf.org,2026:rats/ear#04";

    /// The claims of a result issued at `now` that ends at `expires_at`.
    #[must_use]
    pub fn claims(&self, now: UnixTime, expires_at: UnixTime) -> Value {
        let mut claims = Map::new();
        claims.insert("claviger_agent".to_owned(), json!(self.agent));
        claims.insert("ear_status".to_owned(), json!(self.appraisal.tier()));
        claims
            .insert("ear_verifier_id".to_owned(), json!({"build": BUILD, "developer": "Claviger"}));
        if let Some(nonce) = &self.nonce {
            claims.insert("eat_nonce".to_owned(), URL_SAFE_NO_PAD.encode(&nonce.0).into());
        }
        claims.insert("eat_profile".to_owned(), Self::PROFILE.into());
        claims.insert("exp".to_owned(), expires_at.as_secs().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("iss".to_owned(), self.agent.trust_domain().id().to_string().into());
        claims.insert("submods".to_owned(), self.submods());
        Value::Object(claims)
    }

    /// One submodule for each part, by its kind; evidence that has none is the only part of itself.
    fn submods(&self) -> Value {
        let appraisal = &self.appraisal;
        let whole = [appraisal];
        let parts: Vec<_> = if appraisal.parts.is_empty() {
            whole.to_vec()
        } else {
            appraisal.parts.iter().collect()
        };
        let submods = parts.into_iter().map(|part| (part.kind.clone(), self.submod(part)));
        Value::Object(submods.collect())
    }

    fn submod(&self, part: &Appraisal) -> Value {
        let mut submod = Map::new();
        if !part.measured.is_empty() {
            submod.insert("ear_attester_claims".to_owned(), json!(part.measured));
        }
        // The rules of its kind, as its page in the documentation has them.
        let policy = format!("claviger:{}", part.kind);
        submod.insert("ear_appraisal_policy_ids".to_owned(), json!([policy]));
        submod.insert("ear_status".to_owned(), json!(part.tier()));
        // A vector that claims nothing would be malformed.
        if !part.trust.is_empty() {
            submod.insert("ear_trustworthiness_vector".to_owned(), json!(part.trust));
        }
        let mut ours = Map::new();
        ours.insert("appraised_at".to_owned(), self.appraised_at.as_secs().into());
        ours.insert("bond".to_owned(), part.bond.name().into());
        if !part.source.is_empty() {
            ours.insert("source".to_owned(), part.source.clone().into());
        }
        submod.insert("ear_verifier_claims".to_owned(), Value::Object(ours));
        Value::Object(submod)
    }
}

/// The software that appraised.
const BUILD: &str = concat!("claviger ", env!("CARGO_PKG_VERSION"));

/// What a relying party sends, to be sure that a result is fresh: 8 to 64 bytes (RFC 9711 §4.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EarNonce(Vec<u8>);

impl EarNonce {
    /// The nonce with these bytes; none if there are too few or too many.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (8..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes a result of `claims`.
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
    compact::build(algorithm, key_id, EarContents::KIND, claims, sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::fixture::TokenKey;
    use crate::evidence::{Bond, TrustClaim, TrustVector};
    use crate::svid::jwt::JwtSvid;
    use crate::svid::wit::WitSvid;

    const NOW: UnixTime = UnixTime::from_secs(1_000);
    const END: UnixTime = UnixTime::from_secs(4_600);

    fn contents() -> EarContents {
        let mut tee = Appraisal::new("sev_snp", Bond::Key);
        tee.trust = TrustVector {
            hardware: TrustClaim::AFFIRMING,
            executables: TrustClaim::APPROVED_BOOT,
            ..TrustVector::default()
        };
        tee.measured.insert("measurement".to_owned(), "00ff".to_owned());
        let mut gpu = Appraisal::new("nvidia_gpu", Bond::Key);
        gpu.trust.hardware = TrustClaim::VULNERABLE;
        gpu.source = "cached rims".to_owned();
        let mut whole = Appraisal::new("composite", Bond::Key);
        whole.trust = tee.trust.worst(&gpu.trust);
        whole.parts = vec![gpu, tee];
        EarContents {
            agent: "spiffe://example.org/spire/agent/composite/1".parse().unwrap(),
            appraisal: whole,
            appraised_at: UnixTime::from_secs(900),
            nonce: EarNonce::new(b"12345678".to_vec()),
            ttl: SvidTtl::HOUR,
        }
    }

    #[test]
    fn a_composite_node_has_a_submodule_for_each_part() {
        let want = json!({
            "claviger_agent": "spiffe://example.org/spire/agent/composite/1",
            "ear_status": "warning",
            "ear_verifier_id": {"build": BUILD, "developer": "Claviger"},
            "eat_nonce": "MTIzNDU2Nzg",
            "eat_profile": "tag:ietf.org,2026:rats/ear#04",
            "exp": 4600,
            "iat": 1000,
            "iss": "spiffe://example.org",
            "submods": {
                "nvidia_gpu": {
                    "ear_appraisal_policy_ids": ["claviger:nvidia_gpu"],
                    "ear_status": "warning",
                    "ear_trustworthiness_vector": {"hardware": 32},
                    "ear_verifier_claims":
                        {"appraised_at": 900, "bond": "key", "source": "cached rims"},
                },
                "sev_snp": {
                    "ear_attester_claims": {"measurement": "00ff"},
                    "ear_appraisal_policy_ids": ["claviger:sev_snp"],
                    "ear_status": "affirming",
                    "ear_trustworthiness_vector": {"executables": 3, "hardware": 2},
                    "ear_verifier_claims": {"appraised_at": 900, "bond": "key"},
                },
            },
        });
        assert_eq!(contents().claims(NOW, END), want);
    }

    #[test]
    fn what_claims_nothing_is_still_one_submodule() {
        let appraisal = Appraisal::new("join_token", Bond::Bearer);
        let contents = EarContents { appraisal, nonce: None, ..contents() };
        let claims = contents.claims(NOW, END);
        let want = json!({"join_token": {
            "ear_appraisal_policy_ids": ["claviger:join_token"],
            "ear_status": "none",
            "ear_verifier_claims": {"appraised_at": 900, "bond": "bearer"},
        }});
        assert_eq!(claims["submods"], want);
        assert!(claims.get("eat_nonce").is_none());
    }

    /// One key signs both, and no validator may take one for the other.
    #[test]
    fn a_result_is_never_taken_for_an_svid() {
        let key = TokenKey::generate("k");
        let authorities = [key.authority()];
        let claims = contents().claims(NOW, END);
        let audience = "spiffe://example.org";
        // Even with the type of an SVID, it lacks what a validator asks for.
        for kind in [EarContents::KIND, "JWT"] {
            let token = key.token(kind, &claims);
            JwtSvid::validate(&token, audience, NOW, |_| Some(&authorities[..])).unwrap_err();
            WitSvid::validate(&token, NOW, |_| Some(&authorities[..])).unwrap_err();
        }
        for claim in ["sub", "aud"] {
            assert!(claims.get(claim).is_none(), "{claim}");
        }
    }

    #[test]
    fn a_nonce_has_the_length_that_the_standard_gives_it() {
        for length in [8, 64] {
            assert!(EarNonce::new(vec![1; length]).is_some());
        }
        for length in [0, 7, 65] {
            assert!(EarNonce::new(vec![1; length]).is_none());
        }
    }
}
