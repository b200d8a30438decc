//! What is registered of identities beside the policies: `identities.toml`.
//!
//! ```toml
//! [[group]]
//! name = "trainers"
//!
//! [[identity]]
//! id = "spiffe://example.org/trainer/*"
//! groups = ["trainers"]
//! purposes = ["training"]
//! data-scopes = ["corpus"]
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::psk::Purpose;
use serde::Deserialize;
use toml::Spanned;

use crate::groups::{Declared, Groups};
use crate::load::LoadError;
use crate::toml_file::{Text, TomlFile, nothing};

/// The file's name.
pub(crate) const FILE: &str = "identities.toml";

/// The most `[[identity]]` in the file.
const MAX_IDENTITIES: usize = 100_000;

/// The most purposes, or data scopes, of one.
const MAX_VALUES: usize = 64;

/// Whom an `[[identity]]` is about.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub enum Whom {
    /// One identity.
    One(SpiffeId),
    /// All that begin so; written with `/*` at its end. Of a trust domain's name, all in it.
    Below(SpiffeId),
}

impl FromStr for Whom {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text.strip_suffix("/*") {
            Some(above) => above.parse().map(Self::Below),
            None => text.parse().map(Self::One),
        }
    }
}

impl TryFrom<String> for Whom {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(id) => id.fmt(f),
            Self::Below(above) => write!(f, "{above}/*"),
        }
    }
}

/// What is registered of an identity, or of all below a prefix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// Of whom.
    pub whom: Whom,
    /// The groups that it is directly in.
    pub groups: BTreeSet<String>,
    /// What it is for.
    pub purposes: BTreeSet<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// For which customer it works.
    pub tenant: Option<String>,
    /// In which stage of a pipeline it is.
    pub stage: Option<String>,
    /// In which ring of a deployment it is.
    pub ring: Option<String>,
    /// Which data it may see.
    pub data_scopes: BTreeSet<String>,
}

/// All that is registered. Exactly one record applies to an identity: its own, or that of the longest
/// prefix.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identities {
    records: Vec<Registered>,
    /// Where the record of each is.
    places: HashMap<Whom, usize>,
}

/// One `[[identity]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    id: Spanned<Whom>,
    #[serde(default = "nothing")]
    groups: Spanned<Vec<Spanned<Text>>>,
    #[serde(default = "nothing")]
    purposes: Spanned<Vec<Purpose>>,
    owner: Option<Text>,
    tenant: Option<Text>,
    stage: Option<Text>,
    ring: Option<Text>,
    #[serde(default = "nothing")]
    data_scopes: Spanned<Vec<Text>>,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// What it declares as groups.
    #[serde(default)]
    pub(crate) group: Vec<Declared>,
    #[serde(default)]
    identity: Vec<Written>,
}

impl File {
    /// What it says of identities, whose groups are among `groups`.
    pub(crate) fn identities(
        self,
        file: TomlFile<'_>,
        groups: &Groups,
    ) -> Result<Identities, LoadError> {
        if let Some(first_too_many) = self.identity.get(MAX_IDENTITIES) {
            let size = self.identity.len();
            let at = first_too_many.id.span();
            file.at_most(at, size, MAX_IDENTITIES, "identities")?;
        }
        let mut all = Identities::default();
        for written in self.identity {
            let span = written.id.span();
            let registered = written.checked(file, groups)?;
            let whom = registered.whom.clone();
            if all.places.insert(whom, all.records.len()).is_some() {
                let reason = format!("`{}` is written twice", registered.whom);
                return Err(file.wrong(span, reason));
            }
            all.records.push(registered);
        }
        Ok(all)
    }
}

impl Written {
    fn checked(self, file: TomlFile<'_>, groups: &Groups) -> Result<Registered, LoadError> {
        let Self { id, groups: named, purposes, owner, tenant, stage, ring, data_scopes } = self;
        file.at_most(purposes.span(), purposes.get_ref().len(), MAX_VALUES, "purposes")?;
        file.at_most(data_scopes.span(), data_scopes.get_ref().len(), MAX_VALUES, "data scopes")?;
        let purposes = purposes.into_inner();
        Ok(Registered {
            whom: id.into_inner(),
            groups: groups.all_declared(file, named)?,
            purposes: purposes.iter().map(|purpose| purpose.as_str().to_owned()).collect(),
            owner: owner.map(Into::into),
            tenant: tenant.map(Into::into),
            stage: stage.map(Into::into),
            ring: ring.map(Into::into),
            data_scopes: data_scopes.into_inner().into_iter().map(Into::into).collect(),
        })
    }
}

impl Identities {
    /// What is registered of `id`.
    #[must_use]
    pub fn of(&self, id: &SpiffeId) -> Option<&Registered> {
        self.place(id).and_then(|place| self.records.get(place))
    }

    /// Where the record that applies to `id` is.
    pub(crate) fn place(&self, id: &SpiffeId) -> Option<usize> {
        if let Some(own) = self.places.get(&Whom::One(id.clone())) {
            return Some(*own);
        }
        let mut path = id.path();
        while let Some((above, _)) = path.rsplit_once('/') {
            let prefix = if above.is_empty() {
                Ok(id.trust_domain().id())
            } else {
                SpiffeId::new(id.trust_domain().clone(), above)
            };
            if let Some(found) = prefix.ok().and_then(|it| self.places.get(&Whom::Below(it))) {
                return Some(*found);
            }
            path = above;
        }
        None
    }

    /// All records, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.records.iter()
    }

    /// How many records there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is registered of anyone.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests;
