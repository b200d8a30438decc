//! What ends are called beside their SPIFFE IDs: by standards that know no such thing, and by machines that
//! cannot be told one.

use std::collections::BTreeMap;

use claviger_core::id::{SpiffeId, TrustDomain};

/// Names, each of one identity, and of each identity one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    ids: BTreeMap<String, SpiffeId>,
    names: BTreeMap<SpiffeId, String>,
}

/// Why something is no name here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAName {
    /// It is no plain word.
    #[error("a name has 1 to {max} characters of `A-Z a-z 0-9 . _ - : @`", max = Names::MAX_LEN)]
    Form,
    /// What is named never shows an X.509-SVID here.
    #[error("names the identity of another trust domain, which is not let in")]
    Foreign,
    /// What is named has another name already.
    #[error("names the same identity as `{0}`; give each one name")]
    Taken(String),
    /// There are too many.
    #[error("at most {max} names are allowed", max = Names::MOST)]
    TooMany,
}

impl Names {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;
    /// The most names.
    pub const MOST: usize = 10_000;

    /// Calls `id` by `name`.
    ///
    /// # Errors
    ///
    /// [`NotAName`]; then nothing has changed.
    pub fn add(&mut self, name: &str, id: SpiffeId, own: &TrustDomain) -> Result<(), NotAName> {
        let sound = (1..=Self::MAX_LEN).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:@".contains(&byte));
        if !sound {
            return Err(NotAName::Form);
        }
        if id.trust_domain() != own {
            return Err(NotAName::Foreign);
        }
        if let Some(other) = self.names.get(&id) {
            return Err(NotAName::Taken(other.clone()));
        }
        if Self::MOST <= self.ids.len() {
            return Err(NotAName::TooMany);
        }
        self.names.insert(id.clone(), name.to_owned());
        self.ids.insert(name.to_owned(), id);
        Ok(())
    }

    /// Whom `text` means: one of the names, or a SPIFFE ID.
    pub(crate) fn id(&self, text: &str) -> Option<SpiffeId> {
        self.ids.get(text).cloned().or_else(|| text.parse().ok())
    }

    /// What `id` is called: its name, or else its SPIFFE ID.
    pub(crate) fn name(&self, id: &SpiffeId) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// All names but that of `id`.
    pub(crate) fn others(&self, id: &SpiffeId) -> Vec<&str> {
        let others = self.ids.iter().filter(|(_, other)| *other != id);
        others.map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str) -> SpiffeId {
        format!("spiffe://example.org/{path}").parse().unwrap()
    }

    #[test]
    fn a_name_or_a_spiffe_id_means_one_identity() {
        let own = "example.org".parse().unwrap();
        let mut names = Names::default();
        names.add("alice", id("a"), &own).unwrap();
        names.add("Bob", id("b"), &own).unwrap();
        assert_eq!(names.id("alice"), Some(id("a")));
        assert_eq!(names.id("spiffe://example.org/c"), Some(id("c")));
        assert_eq!((names.id("Alice"), names.id("")), (None, None));
        assert_eq!(
            (names.name(&id("b")), names.name(&id("c"))),
            ("Bob".to_owned(), id("c").to_string())
        );
        assert_eq!(names.others(&id("b")), ["alice"]);
    }

    #[test]
    fn what_would_be_read_in_two_ways_is_no_name() {
        let own: TrustDomain = "example.org".parse().unwrap();
        let mut names = Names::default();
        names.add("alice", id("a"), &own).unwrap();
        // A pattern of SKIP's, a SPIFFE ID, or a path.
        for bad in
            ["", "a*", "a?", "[a]", "spiffe://example.org/a", "a/b", "a b", "ü", &"x".repeat(65)]
        {
            assert_eq!(names.add(bad, id("b"), &own), Err(NotAName::Form), "{bad}");
        }
        assert_eq!(names.add("al", id("a"), &own), Err(NotAName::Taken("alice".to_owned())));
        let foreign = "spiffe://example.com/a".parse().unwrap();
        assert_eq!(names.add("b", foreign, &own), Err(NotAName::Foreign));
    }
}
