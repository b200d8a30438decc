//! What is on record about evidence that was accepted: an attestation result (RFC 9334 §3.3) in the
//! terms of AR4SI (draft-ietf-rats-ar4si).

use std::collections::BTreeMap;
use std::fmt;

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
    /// How far it is to be trusted, and in what. Of composite evidence, what its parts come to.
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

    /// What all of it comes to: the tier of the worst claim, be it of a part.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.parts.iter().map(Self::tier).fold(self.trust.tier(), Tier::max)
    }
}

/// One line for people: kind, bond, tier, the claims, and what was measured.
impl fmt::Display for Appraisal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.kind, self.bond.name())?;
        if !self.source.is_empty() {
            write!(f, ", {}", self.source)?;
        }
        write!(f, "): {}", self.tier().name())?;
        for (aspect, claim) in self.trust.claims() {
            write!(f, " {}={}", aspect.name(), claim.value())?;
        }
        for (name, value) in &self.measured {
            write!(f, " {name}={value}")?;
        }
        for part in &self.parts {
            write!(f, " [{part}]")?;
        }
        Ok(())
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

    /// What it claims, aspect by aspect; aspects of which nothing is said are left out.
    pub fn claims(&self) -> impl Iterator<Item = (Aspect, TrustClaim)> {
        let claims = Aspect::ALL.map(|aspect| (aspect, self.claim(aspect)));
        claims.into_iter().filter(|(_, claim)| !claim.is_none())
    }

    const fn claim(&self, aspect: Aspect) -> TrustClaim {
        match aspect {
            Aspect::InstanceIdentity => self.instance_identity,
            Aspect::Configuration => self.configuration,
            Aspect::Executables => self.executables,
            Aspect::FileSystem => self.file_system,
            Aspect::Hardware => self.hardware,
            Aspect::RuntimeOpaque => self.runtime_opaque,
            Aspect::StorageOpaque => self.storage_opaque,
            Aspect::SourcedData => self.sourced_data,
        }
    }

    /// The tier of the worst claim.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.claims().map(|(_, claim)| claim.tier()).fold(Tier::None, Tier::max)
    }

    /// What can be said of something that consists of both: of each aspect the worse claim, or the only
    /// one.
    #[must_use]
    pub fn worst(&self, other: &Self) -> Self {
        let worst = |aspect| TrustClaim::worst(self.claim(aspect), other.claim(aspect));
        Self {
            instance_identity: worst(Aspect::InstanceIdentity),
            configuration: worst(Aspect::Configuration),
            executables: worst(Aspect::Executables),
            file_system: worst(Aspect::FileSystem),
            hardware: worst(Aspect::Hardware),
            runtime_opaque: worst(Aspect::RuntimeOpaque),
            storage_opaque: worst(Aspect::StorageOpaque),
            sourced_data: worst(Aspect::SourcedData),
        }
    }
}

/// What a claim is about (draft-ietf-rats-ar4si §2.3.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aspect {
    /// Who the attester is.
    InstanceIdentity,
    /// How it is configured.
    Configuration,
    /// Which programs it has loaded.
    Executables,
    /// Which files it can see.
    FileSystem,
    /// Its hardware and firmware.
    Hardware,
    /// Whether its memory can be read from outside.
    RuntimeOpaque,
    /// Whether what it stores can be read from outside.
    StorageOpaque,
    /// Whether its input can be trusted.
    SourcedData,
}

impl Aspect {
    /// All of them, in the order of the draft's vector.
    pub const ALL: [Self; 8] = [
        Self::InstanceIdentity,
        Self::Configuration,
        Self::Executables,
        Self::FileSystem,
        Self::Hardware,
        Self::RuntimeOpaque,
        Self::StorageOpaque,
        Self::SourcedData,
    ];

    /// Its name in attestation results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InstanceIdentity => "instance-identity",
            Self::Configuration => "configuration",
            Self::Executables => "executables",
            Self::FileSystem => "file-system",
            Self::Hardware => "hardware",
            Self::RuntimeOpaque => "runtime-opaque",
            Self::StorageOpaque => "storage-opaque",
            Self::SourcedData => "sourced-data",
        }
    }

    /// What `claim` says about it, in words; empty for a value that the draft has no words for.
    #[must_use]
    pub const fn says(self, claim: TrustClaim) -> &'static str {
        match (self, claim.0) {
            (_, 0) => "nothing is said",
            (_, 1) => "the evidence has parts that the verifier does not know",
            (_, -1) => "the verifier failed",
            (_, 99) => "a signature is not genuine",
            (Self::InstanceIdentity, 2) => "recognised, and not known to be compromised",
            (Self::InstanceIdentity, 96) => "recognised, and not to be trusted",
            (Self::InstanceIdentity | Self::Hardware, 97) => "not recognised, and should be",
            (Self::Configuration, 2) => "known and approved",
            (Self::Configuration, 3) => "exposes no known vulnerability",
            (Self::Configuration, 32) => "exposes known vulnerabilities",
            (Self::Configuration, 36) => "not all of it could be seen",
            (Self::Configuration, 96) => "exposes vulnerabilities that can't be accepted",
            (Self::Executables, 2) => "only approved ones were loaded, during and after boot",
            (Self::Executables, 3) => "only approved ones were loaded during boot",
            (Self::Executables, 32) => "only recognised ones were loaded, some with known faults",
            (Self::Executables, 33) => "some are not recognised",
            (Self::Executables | Self::FileSystem, 96) => "some are known to be bad",
            (Self::FileSystem, 2) => "only approved files were found",
            (Self::FileSystem, 32) => "some files are not recognised",
            (Self::Hardware, 2) => "genuine and supported",
            (Self::Hardware, 32) => "genuine, with known vulnerabilities",
            (Self::Hardware, 96) => "recognised, and not to be trusted",
            (Self::RuntimeOpaque, 2) => "encrypted, and hidden from the host",
            (Self::RuntimeOpaque, 32) => "hidden from other guests, but not from the host",
            (Self::RuntimeOpaque, 96) => "can be seen from outside",
            (Self::StorageOpaque, 2) => "secrets are encrypted by keys that hardware keeps",
            (Self::StorageOpaque, 32) => "secrets are encrypted by keys that software keeps",
            (Self::StorageOpaque, 96) => "secrets are not encrypted",
            (Self::SourcedData, 2) => "from attesters that are affirmed",
            (Self::SourcedData, 32) => "from some that are not attested, or warned of",
            (Self::SourcedData, 96) => "from some that are not to be trusted",
            _unnamed => "",
        }
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
    /// Of executables: only approved ones were loaded during boot; nobody looked afterwards.
    pub const APPROVED_BOOT: Self = Self(3);
    /// Of configuration, executables or hardware: what is known, with vulnerabilities that are known.
    pub const VULNERABLE: Self = Self(32);
    /// Of the opaqueness of memory: other guests can't look in, the host can.
    pub const ISOLATED: Self = Self(32);
    /// Of executables: some are not recognised.
    pub const UNRECOGNISED: Self = Self(33);
    /// Of configuration: not all of it could be seen.
    pub const UNAVAILABLE: Self = Self(36);
    /// The aspect is known to be bad; of memory, it can be read from outside.
    pub const CONTRAINDICATED: Self = Self(96);

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

    /// The worse of two claims about one aspect. A claim of which nothing follows is no worse than any.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        // Within a tier, a higher number is a lesser assurance, be it a standard one or one's own.
        let badness = |claim: Self| (claim.tier(), claim.0.unsigned_abs(), claim.0);
        std::cmp::max_by_key(self, other, |claim| badness(*claim))
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
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing is known.
    #[default]
    None,
    /// As it should be.
    Affirming,
    /// Not as it should be, but not known to be bad.
    Warning,
    /// Not to be trusted.
    Contraindicated,
}

impl Tier {
    /// Its name in attestation results, in policies and in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges of draft-ietf-rats-ar4si §2.3.2.
    #[test]
    fn each_value_has_the_tier_of_its_range() {
        let tier = |value| TrustClaim::new(value).tier();
        for (tier_of, values) in [
            (Tier::None, [-1, 0, 1, 1]),
            (Tier::Affirming, [2, 31, -2, -32]),
            (Tier::Warning, [32, 95, -33, -96]),
            (Tier::Contraindicated, [96, 127, -97, -128]),
        ] {
            for value in values {
                assert_eq!(tier(value), tier_of, "{value}");
            }
        }
    }

    #[test]
    fn a_whole_is_as_good_as_its_worst_part() {
        let claim = TrustClaim::new;
        for (one, other, worst) in [
            (2, 3, 3),
            (2, 0, 2),
            (1, 2, 2),
            (2, 32, 32),
            (33, 32, 33),
            (96, 2, 96),
            (-2, 96, 96),
            (2, -2, 2),
            (-97, 96, -97),
        ] {
            assert_eq!(claim(one).worst(claim(other)), claim(worst), "{one} {other}");
            assert_eq!(claim(other).worst(claim(one)), claim(worst), "{other} {one}");
        }
        let tpm = TrustVector {
            hardware: TrustClaim::AFFIRMING,
            executables: TrustClaim::APPROVED_BOOT,
            ..TrustVector::default()
        };
        let gpu = TrustVector { hardware: TrustClaim::VULNERABLE, ..TrustVector::default() };
        let both = tpm.worst(&gpu);
        assert_eq!(both, TrustVector { hardware: TrustClaim::VULNERABLE, ..tpm });
        assert_eq!((tpm.tier(), both.tier()), (Tier::Affirming, Tier::Warning));
        assert_eq!(TrustVector::default().tier(), Tier::None);

        let mut whole = Appraisal::new("composite", Bond::Key);
        whole.parts = vec![Appraisal { trust: gpu, ..Appraisal::new("nvidia_gpu", Bond::Key) }];
        assert_eq!(whole.tier(), Tier::Warning, "a part is never passed over");
    }

    #[test]
    fn every_value_that_has_a_name_has_words() {
        let words = |value: i8| Aspect::ALL.map(|aspect| aspect.says(TrustClaim::new(value)));
        for value in [0, 1, -1, 2, 99] {
            assert!(words(value).iter().all(|words| !words.is_empty()), "{value}");
        }
        assert!(words(31).iter().all(|words| words.is_empty()));
        assert_eq!(Aspect::Executables.says(TrustClaim::APPROVED_BOOT), words(3)[2]);
        let json = serde_json::to_value(TrustVector {
            sourced_data: TrustClaim::new(-128),
            ..TrustVector::default()
        });
        assert_eq!(json.unwrap(), serde_json::json!({"sourced-data": -128}));
    }

    #[test]
    fn people_read_one_line() {
        let mut tpm = Appraisal::new("tpm", Bond::Key);
        tpm.trust.hardware = TrustClaim::AFFIRMING;
        tpm.measured.insert("pcr0".to_owned(), "00ff".to_owned());
        let mut token = Appraisal::new("k8s_psat", Bond::Bearer);
        token.source = "cached keys".to_owned();
        assert_eq!(token.to_string(), "k8s_psat (bearer, cached keys): none");
        let mut both = Appraisal::new("composite", Bond::Bearer);
        (both.trust, both.parts) = (tpm.trust, vec![token, tpm]);
        let want = "composite (bearer): affirming hardware=2 [k8s_psat (bearer, cached keys): none] \
                    [tpm (key): affirming hardware=2 pcr0=00ff]";
        assert_eq!(both.to_string(), want);
    }
}
