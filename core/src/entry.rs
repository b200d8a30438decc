//! Registration entries: who is entitled to which identity.
//!
//! An entry says: "under the node or identity `parent_id`, a workload with all of `selectors` is
//! `spiffe_id`". The fields are those of SPIRE's registration entry, so that its tools work.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{SpiffeId, TrustDomain};
use crate::selector::Selectors;
use crate::svid::{DnsName, SvidTtl};
use crate::time::UnixTime;

/// The name of an entry: 1 to 255 characters of `A-Z a-z 0-9 . - _`. The server makes a UUID where
/// the operator gives none.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(Box<str>);

impl EntryId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryId {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        let sound = (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if sound { Ok(Self(text.into())) } else { Err(EntryError::Id) }
    }
}

impl TryFrom<String> for EntryId {
    type Error = EntryError;

    fn try_from(text: String) -> Result<Self, EntryError> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One registration entry.
///
/// Each field's type refuses bad values; [`Entry::check`] holds the rules between fields.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "SPIRE's entries have these five")]
pub struct Entry {
    /// Its name, unique in the server.
    pub id: EntryId,
    /// The identity it gives.
    pub spiffe_id: SpiffeId,
    /// The agent it is delegated to, a node alias, or the server itself for an alias.
    pub parent_id: SpiffeId,
    /// What a workload (or a node, for an alias) must show; all of them.
    pub selectors: Selectors,
    /// How long an X.509-SVID lasts; the server's default if unset.
    pub x509_svid_ttl: Option<SvidTtl>,
    /// How long a JWT-SVID lasts; the server's default if unset.
    pub jwt_svid_ttl: Option<SvidTtl>,
    /// The foreign trust domains whose bundles the workload receives.
    pub federates_with: BTreeSet<TrustDomain>,
    /// Whether the identity may use the operator's API.
    pub admin: bool,
    /// Whether the identity is a server of a nested deployment.
    pub downstream: bool,
    /// When the entry stops being one.
    pub expires_at: Option<UnixTime>,
    /// The DNS names in the X.509-SVID; the first is also its common name.
    pub dns_names: Vec<DnsName>,
    /// Rises by one with every change; 0 at first.
    pub revision: u64,
    /// Whether the SVID may be exported to a secret store.
    pub store_svid: bool,
    /// Tells a workload with several identities what this one is for; at most
    /// [`Entry::MAX_HINT`] bytes.
    pub hint: String,
    /// When it was made.
    pub created_at: UnixTime,
    /// Whether the agent waits for the first request before it asks for an X.509-SVID.
    #[serde(default)]
    pub x509_on_demand: bool,
    /// Whether every JWT-SVID carries its own `jti`, so that none is given out twice.
    #[serde(default)]
    pub jwt_jti: bool,
}

impl Entry {
    /// The longest hint, in bytes (SPIFFE Workload API §8).
    pub const MAX_HINT: usize = 1_024;
    /// The most selectors one entry asks for.
    pub const MAX_SELECTORS: usize = 64;
    /// The most DNS names in one entry.
    pub const MAX_DNS_NAMES: usize = 64;
    /// The most foreign trust domains in one entry.
    pub const MAX_FEDERATES_WITH: usize = 64;

    /// Checks the rules between fields, for a server of `trust_domain`.
    ///
    /// # Errors
    ///
    /// [`EntryError`] names the field that breaks one.
    pub fn check(&self, trust_domain: &TrustDomain) -> Result<(), EntryError> {
        let ours = |field, id: &SpiffeId| {
            if id.trust_domain() != trust_domain {
                return Err(EntryError::Foreign { field, id: id.clone() });
            }
            if id.is_trust_domain() {
                return Err(EntryError::Root { field });
            }
            Ok(())
        };
        ours("spiffe_id", &self.spiffe_id)?;
        ours("parent_id", &self.parent_id)?;
        if self.spiffe_id == self.parent_id {
            return Err(EntryError::OwnParent);
        }
        if self.spiffe_id.is_reserved() {
            return Err(EntryError::Reserved(self.spiffe_id.clone()));
        }
        let counts = [
            ("selectors", self.selectors.len(), 1..=Self::MAX_SELECTORS),
            ("dns_names", self.dns_names.len(), 0..=Self::MAX_DNS_NAMES),
            ("federates_with", self.federates_with.len(), 0..=Self::MAX_FEDERATES_WITH),
            ("hint", self.hint.len(), 0..=Self::MAX_HINT),
        ];
        for (field, count, allowed) in counts {
            if !allowed.contains(&count) {
                return Err(EntryError::Count {
                    field,
                    count,
                    min: *allowed.start(),
                    max: *allowed.end(),
                });
            }
        }
        if self.federates_with.contains(trust_domain) {
            return Err(EntryError::FederatesWithItself);
        }
        Ok(())
    }

    /// Whether a workload with these facts is entitled, at `now`.
    #[must_use]
    pub fn admits(&self, facts: &Selectors, now: UnixTime) -> bool {
        !self.expired(now) && self.selectors.is_subset(facts)
    }

    /// Whether the entry has ended at `now`.
    #[must_use]
    pub fn expired(&self, now: UnixTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// What no two entries may share: identity, parent and selectors.
    #[must_use]
    pub fn similarity(&self) -> (&SpiffeId, &SpiffeId, &Selectors) {
        (&self.spiffe_id, &self.parent_id, &self.selectors)
    }
}

/// Why an entry is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// The name is malformed.
    #[error("an entry id has 1 to 255 characters of `A-Z a-z 0-9 . - _`")]
    Id,
    /// An identity belongs to another trust domain.
    #[error("{field} `{id}` is not in this server's trust domain")]
    Foreign {
        /// The field.
        field: &'static str,
        /// Its value.
        id: SpiffeId,
    },
    /// An identity names a whole trust domain.
    #[error("{field} names the trust domain itself; give it a path")]
    Root {
        /// The field.
        field: &'static str,
    },
    /// The entry is its own parent.
    #[error("spiffe_id and parent_id are the same")]
    OwnParent,
    /// The identity is one of the broker's own.
    #[error("`{0}` lies under /spire, which is reserved for servers and agents")]
    Reserved(SpiffeId),
    /// A list is too short or too long.
    #[error("{field} has {count} elements or bytes; {min} to {max} are allowed")]
    Count {
        /// The field.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many there must be.
        min: usize,
        /// How many there may be.
        max: usize,
    },
    /// The entry federates with its own trust domain.
    #[error("federates_with names this server's own trust domain")]
    FederatesWithItself,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: "e1".parse().unwrap(),
            spiffe_id: "spiffe://example.org/web".parse().unwrap(),
            parent_id: "spiffe://example.org/spire/agent/x".parse().unwrap(),
            selectors: Selectors::from(["unix:uid:1".parse().unwrap()]),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: BTreeSet::new(),
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            revision: 0,
            store_svid: false,
            hint: String::new(),
            created_at: UnixTime::from_secs(5),
            x509_on_demand: false,
            jwt_jti: false,
        }
    }

    fn ours() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    #[track_caller]
    fn refuses(change: impl FnOnce(&mut Entry), why: &str) {
        let mut entry = entry();
        change(&mut entry);
        let error = entry.check(&ours()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn rules_between_fields_hold() {
        assert_eq!(entry().check(&ours()), Ok(()));
        refuses(|e| e.spiffe_id = "spiffe://other/web".parse().unwrap(), "not in this server's");
        refuses(|e| e.parent_id = "spiffe://other/web".parse().unwrap(), "parent_id");
        refuses(|e| e.spiffe_id = ours().id(), "names the trust domain itself");
        refuses(|e| e.parent_id = e.spiffe_id.clone(), "are the same");
        refuses(|e| e.spiffe_id = ours().join("/spire/server").unwrap(), "reserved");
        refuses(|e| e.selectors.clear(), "selectors has 0");
        refuses(|e| e.hint = "x".repeat(1_025), "hint has 1025");
        refuses(|e| e.federates_with = [ours()].into(), "own trust domain");
    }

    #[test]
    fn all_selectors_must_be_shown() {
        let mut entry = entry();
        entry.selectors.insert("unix:gid:1".parse().unwrap());
        let mut facts = Selectors::from(["unix:uid:1".parse().unwrap()]);
        assert!(!entry.admits(&facts, UnixTime::default()));
        facts.insert("unix:gid:1".parse().unwrap());
        facts.insert("unix:path:/x".parse().unwrap());
        assert!(entry.admits(&facts, UnixTime::default()));
    }

    #[test]
    fn an_expired_entry_admits_nobody() {
        let entry = Entry { expires_at: Some(UnixTime::from_secs(10)), ..entry() };
        assert!(entry.admits(&entry.selectors, UnixTime::from_secs(9)));
        assert!(!entry.admits(&entry.selectors, UnixTime::from_secs(10)));
    }

    #[test]
    fn stored_entries_with_unknown_fields_are_refused() {
        let mut json = serde_json::to_value(entry()).unwrap();
        assert_eq!(serde_json::from_value::<Entry>(json.clone()).unwrap(), entry());
        json["surprise"] = true.into();
        serde_json::from_value::<Entry>(json).unwrap_err();
    }
}
