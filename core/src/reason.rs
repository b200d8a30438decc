//! Why somebody does not get an identity, in words that programs can rely on, and what they lack.

use std::fmt;
use std::str::FromStr;

use crate::selector::{Selector, Selectors};

/// Why an entry gives somebody no identity, or not yet. The names are stable: they are in logs, in
/// answers to operators, and in what `claviger why` prints. A stranger is never told any of them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// There is no entry at all.
    NoEntry,
    /// Selectors of the entry are no facts about the process.
    SelectorsMissing,
    /// The entry has ended.
    EntryExpired,
    /// The entry is for a secret store, and for nobody who asks on a socket.
    ForSecretStore,
    /// The identity is in quarantine, or the agent is.
    Quarantined,
    /// The agent has more entries than it may have.
    OverEntryLimit,
    /// The SVID has not come from the server yet.
    SvidPending,
    /// The server refuses the SVID, or sent none.
    SvidRefused,
    /// The entry hangs under another agent.
    OtherParent,
    /// The entry hangs under a node alias whose selectors the agent's node does not have.
    NodeSelectorsMissing,
}

impl Reason {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::NoEntry,
        Self::SelectorsMissing,
        Self::EntryExpired,
        Self::ForSecretStore,
        Self::Quarantined,
        Self::OverEntryLimit,
        Self::SvidPending,
        Self::SvidRefused,
        Self::OtherParent,
        Self::NodeSelectorsMissing,
    ];

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEntry => "no_entry",
            Self::SelectorsMissing => "selectors_missing",
            Self::EntryExpired => "entry_expired",
            Self::ForSecretStore => "for_secret_store",
            Self::Quarantined => "quarantined",
            Self::OverEntryLimit => "over_entry_limit",
            Self::SvidPending => "svid_pending",
            Self::SvidRefused => "svid_refused",
            Self::OtherParent => "other_parent",
            Self::NodeSelectorsMissing => "node_selectors_missing",
        }
    }

    /// The same in words, to complete "it gets no identity: …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoEntry => "there is no entry at all",
            Self::SelectorsMissing => "the process does not have every selector of the entry",
            Self::EntryExpired => "the entry has ended",
            Self::ForSecretStore => "the entry is for a secret store (store_svid)",
            Self::Quarantined => "the identity, or its agent, is in quarantine",
            Self::OverEntryLimit => "the agent has more entries than `limits.entries` allows",
            Self::SvidPending => "the SVID has not come from the server yet",
            Self::SvidRefused => "the server refuses the SVID",
            Self::OtherParent => "the entry is for the workloads of another agent",
            Self::NodeSelectorsMissing => "the agent's node does not match the entry's node alias",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.name() == name).ok_or(UnknownReason)
    }
}

/// A name is not that of a [`Reason`]; a newer version may have more of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the name of a reason")]
pub struct UnknownReason;

/// A selector that is asked for and is no fact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// What is asked for.
    pub selector: Selector,
    /// What is there in its place: facts of the same kind and name, at most [`Self::MAX_INSTEAD`].
    pub instead: Vec<Selector>,
}

impl Missing {
    /// The most facts that are named in place of one.
    pub const MAX_INSTEAD: usize = 16;

    /// Those of `asked` that are not among `facts`.
    #[must_use]
    pub fn of(asked: &Selectors, facts: &Selectors) -> Vec<Self> {
        let alike = |selector: &Selector| {
            let same =
                |fact: &&Selector| (fact.kind(), fact.name()) == (selector.kind(), selector.name());
            facts.iter().filter(same).take(Self::MAX_INSTEAD).cloned().collect()
        };
        let missing = asked.difference(facts);
        missing
            .map(|selector| Self { selector: selector.clone(), instead: alike(selector) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<_> = Reason::ALL.into_iter().map(Reason::name).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
        assert_eq!("other".parse::<Reason>(), Err(UnknownReason));
    }

    #[test]
    fn what_is_missing_is_named_beside_what_is_there() {
        let set = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let asked: Selectors = set(&["unix:uid:1", "unix:path:/bin/a", "k8s:ns:web"]);
        let facts: Selectors = set(&["unix:uid:1", "unix:path:/bin/b", "unix:sha256:00"]);
        let missing = Missing::of(&asked, &facts);
        let texts: Vec<_> = missing
            .iter()
            .map(|missing| {
                let instead = missing.instead.iter().map(ToString::to_string).collect::<Vec<_>>();
                (missing.selector.to_string(), instead)
            })
            .collect();
        assert_eq!(
            texts,
            [
                ("k8s:ns:web".to_owned(), vec![]),
                ("unix:path:/bin/a".to_owned(), vec!["unix:path:/bin/b".to_owned()]),
            ]
        );
        assert_eq!(Missing::of(&facts, &facts), []);
    }
}
