//! What is on record about evidence that was accepted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Bond;

/// What is on record about evidence that was accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Appraisal {
    /// The kind of evidence, such as `x509pop`.
    pub kind: String,
    /// What keeps others from presenting it.
    pub bond: Bond,
    /// By whose word it was accepted, such as `token review` or `cached keys`; empty if the evidence
    /// speaks for itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// How far it is to be trusted, and in what.
    #[serde(default, skip_serializing_if = "TrustVector::is_empty")]
    pub trust: TrustVector,
    /// What was measured, by name, as far as it matters to whoever relies on this: digests in
    /// hexadecimal digits, versions, states.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, String>,
    /// The appraisals of its parts, if it is composite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Self>,
}

impl Appraisal {
    /// Evidence of `kind` with this bond, of which nothing else is on record.
    #[must_use]
    pub fn new(kind: &str, bond: Bond) -> Self {
        Self {
            kind: kind.to_owned(),
            bond,
            source: String::new(),
            trust: TrustVector::default(),
            measured: BTreeMap::new(),
            parts: Vec::new(),
        }
    }
}

/// How far an attester is to be trusted: one claim for each aspect (draft-ietf-rats-ar4si §2.3.4).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustVector {
    /// Whether it is known who the attester is.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub instance_identity: TrustClaim,
    /// How it is configured.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub configuration: TrustClaim,
    /// Which programs it has loaded.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub executables: TrustClaim,
    /// Which files it can see.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub file_system: TrustClaim,
    /// Its hardware and firmware.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub hardware: TrustClaim,
    /// Whether its memory can be read from outside.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub runtime_opaque: TrustClaim,
    /// Whether what it stores can be read from outside.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub storage_opaque: TrustClaim,
    /// Whether its input can be trusted.
    #[serde(skip_serializing_if = "TrustClaim::is_none")]
    pub sourced_data: TrustClaim,
}

impl TrustVector {
    /// Whether it claims nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A claim about one aspect of an attester (draft-ietf-rats-ar4si §2.3.2). Its value says which, and
/// its range the [`Tier`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct TrustClaim(i8);

impl TrustClaim {
    /// Nothing is said.
    pub const NONE: Self = Self(0);
    /// The aspect is as it is known and wanted.
    pub const AFFIRMING: Self = Self(2);

    /// The claim with this value.
    #[must_use]
    pub const fn new(value: i8) -> Self {
        Self(value)
    }

    /// Its value.
    #[must_use]
    pub const fn value(self) -> i8 {
        self.0
    }

    /// Whether nothing is said.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// How good or bad that is.
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self.0 {
            -1..=1 => Tier::None,
            -32..=-2 | 2..=31 => Tier::Affirming,
            -96..=-33 | 32..=95 => Tier::Warning,
            i8::MIN..=-97 | 96..=i8::MAX => Tier::Contraindicated,
        }
    }
}

/// How far something is to be trusted, from best to worst (draft-ietf-rats-ar4si §2.3.2). Nothing is
/// said by `None`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing is known.
    None,
    /// As it should be.
    Affirming,
    /// Not as it should be, but not known to be bad.
    Warning,
    /// Not to be trusted.
    Contraindicated,
}
