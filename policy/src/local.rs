//! Deciding where it is enforced: by policies that the server signed, and by how identities stand.
//!
//! Whoever enforces keeps one [`Local`], tells it what the server announces, and asks it. Without
//! policies that are signed, in time and of the right trust domain, nothing is decided; and what is
//! not decided is denied. Older policies never come back: not when newer ones expire, not when
//! somebody repeats an older announcement, and not when the clock is set back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use claviger_core::bundle::TokenAuthority;
use claviger_core::decision::{Decided, Party, Question, Resource};
use claviger_core::grant::PolicyDigest;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::policies::{self, Announcement, AnnouncementError, Untimely};
use claviger_core::standing::Standing;
use claviger_core::time::UnixTime;

use crate::load::LoadError;
use crate::set::PolicySet;
use crate::source::{MalformedSource, Source};

/// Who knows how identities stand.
pub trait StandingOf: fmt::Debug + Send + Sync {
    /// How `id` stands.
    fn standing_of(&self, id: &SpiffeId) -> Standing;
}

impl StandingOf for HashMap<SpiffeId, Standing> {
    fn standing_of(&self, id: &SpiffeId) -> Standing {
        self.get(id).copied().unwrap_or_default()
    }
}

impl StandingOf for BTreeMap<SpiffeId, Standing> {
    fn standing_of(&self, id: &SpiffeId) -> Standing {
        self.get(id).copied().unwrap_or_default()
    }
}

/// Policies as the server signed them, ready to decide by.
#[derive(Debug)]
pub struct Signed {
    announcement: Announcement,
    set: Arc<PolicySet>,
    /// The latest time that anybody decided at, so that a clock that is set back revives nothing.
    latest: AtomicU64,
}

impl Signed {
    /// The policies `bytes`, which `token` announces for `trust_domain`, whose keys for tokens are
    /// `authorities`. This takes as long as compiling them does; do it beside what must not wait.
    ///
    /// # Errors
    ///
    /// [`SignedError`] says what is wrong with the token or the policies.
    pub fn open(
        token: &str,
        bytes: &[u8],
        trust_domain: &TrustDomain,
        authorities: &[TokenAuthority],
    ) -> Result<Self, SignedError> {
        Self::compile(Announcement::verify(token, trust_domain, authorities)?, bytes)
    }

    /// The policies `bytes`, which `announcement` is about.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn compile(announcement: Announcement, bytes: &[u8]) -> Result<Self, SignedError> {
        // Nothing is parsed that the server did not sign.
        if policies::MAX_BYTES < bytes.len() || policies::sha256(bytes) != announcement.sha256 {
            return Err(SignedError::OtherBytes);
        }
        let source = Source::from_bytes(bytes)?;
        if source.digest() != announcement.policy {
            let (announced, ours) = (announcement.policy, source.digest());
            return Err(SignedError::OtherDigest { announced, ours });
        }
        let set = Arc::new(PolicySet::compile(source)?);
        Ok(Self { announcement, set, latest: AtomicU64::new(0) })
    }

    /// The same policies, announced anew; none if `announcement` is about others.
    #[must_use]
    pub fn renewed(&self, announcement: Announcement) -> Option<Self> {
        let is_same = (announcement.sha256, announcement.policy)
            == (self.announcement.sha256, self.announcement.policy);
        let set = Arc::clone(&self.set);
        is_same.then(|| Self { announcement, set, latest: AtomicU64::new(0) })
    }

    /// What the server said about them.
    #[must_use]
    pub const fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// The policies.
    #[must_use]
    pub fn set(&self) -> &PolicySet {
        &self.set
    }

    /// The time to decide at, if one may: `now`, or the latest there was.
    fn time(&self, now: UnixTime) -> Result<UnixTime, Untimely> {
        let before = self.latest.fetch_max(now.as_secs(), Ordering::Relaxed);
        let time = now.max(UnixTime::from_secs(before));
        self.announcement.check(time)?;
        Ok(time)
    }
}

/// What an enforcement point decides by. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Local(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trust_domain: TrustDomain,
    standings: Arc<dyn StandingOf>,
    policies: RwLock<InForce>,
}

#[derive(Debug, Default)]
struct InForce {
    signed: Option<Arc<Signed>>,
    /// The highest version there ever was.
    version: u64,
}

impl Local {
    /// Decides nothing before there are policies for `trust_domain` that are no older than
    /// `version`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, version: u64, standings: Arc<dyn StandingOf>) -> Self {
        let policies = RwLock::new(InForce { signed: None, version });
        Self(Arc::new(Inner { trust_domain, standings, policies }))
    }

    /// Whose policies they are.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The policies that are decided by, for as long as they last.
    #[must_use]
    pub fn policies(&self) -> Option<Arc<Signed>> {
        self.0.policies.read().unwrap_or_else(PoisonError::into_inner).signed.clone()
    }

    /// The highest version that was ever in force.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.policies.read().unwrap_or_else(PoisonError::into_inner).version
    }

    /// Decides by `signed` from now on. To adopt what is in force already changes nothing.
    ///
    /// # Errors
    ///
    /// [`NotAdopted`] if they are for others, or older than what there was. What is in force stays.
    pub fn adopt(&self, signed: Signed) -> Result<Arc<Signed>, NotAdopted> {
        let offered = &signed.announcement;
        if offered.trust_domain != self.0.trust_domain {
            return Err(NotAdopted::Foreign(offered.trust_domain.clone()));
        }
        let mut policies = self.0.policies.write().unwrap_or_else(PoisonError::into_inner);
        if offered.version < policies.version {
            let (offered, known) = (offered.version, policies.version);
            return Err(NotAdopted::Older { offered, known });
        }
        if offered.version == policies.version
            && let Some(current) = &policies.signed
        {
            // Its time goes on: one that has expired does not begin again.
            return if current.announcement == *offered {
                Ok(Arc::clone(current))
            } else {
                Err(NotAdopted::Forked(offered.version))
            };
        }
        policies.version = offered.version;
        let signed = Arc::new(signed);
        policies.signed = Some(Arc::clone(&signed));
        Ok(signed)
    }

    /// Decides nothing from now on: the key that signed the policies is believed no more.
    pub fn withdraw(&self) {
        self.0.policies.write().unwrap_or_else(PoisonError::into_inner).signed = None;
    }

    /// Decides `question` at `now`. How identities stand, and the time, are filled in; what else is
    /// known of them has to be in the question.
    ///
    /// # Errors
    ///
    /// [`Undecided`] says why no policy was asked. Then it is denied.
    pub fn decide(&self, mut question: Question, now: UnixTime) -> Result<Decided, Undecided> {
        let signed = self.policies().ok_or(Undecided::NoPolicies)?;
        question.context.time = signed.time(now)?;
        self.fill_in(&mut question.principal)?;
        if let Resource::Identity(party) = &mut question.resource {
            self.fill_in(party)?;
        }
        let decision = signed.set.decide(&question);
        Ok(Decided { question, decision })
    }

    fn fill_in(&self, party: &mut Party) -> Result<(), Undecided> {
        let standing = self.0.standings.standing_of(&party.id);
        if standing.quarantined {
            return Err(Undecided::Quarantined(party.id.clone()));
        }
        party.risk = standing.risk;
        Ok(())
    }
}

/// Why signed policies are not taken for such.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// Nobody announced them.
    #[error("the announcement of policies is not believed")]
    Announcement(#[from] AnnouncementError),
    /// They are not those that were announced.
    #[error("the policies' bytes are not those that the server signed")]
    OtherBytes,
    /// They would not decide the same here.
    #[error(
        "the server decides by policies {announced}, which are {ours} here: server and agent have \
         other schemas; run the same version of both"
    )]
    OtherDigest {
        /// What the server calls them.
        announced: PolicyDigest,
        /// What they are here.
        ours: PolicyDigest,
    },
    /// They are not in the form in which they are sent.
    #[error("the policies that the server signed are malformed")]
    Malformed(#[from] MalformedSource),
    /// They do not compile.
    #[error(
        "the policies that the server signed do not compile here; run the same version of both"
    )]
    Load(#[from] LoadError),
}

/// Why policies do not come into force.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAdopted {
    /// They are not ours.
    #[error("the policies are those of `{0}`")]
    Foreign(TrustDomain),
    /// Somebody repeats what the server once said.
    #[error("announcement {offered} is older than {known}, which was in force already")]
    Older {
        /// Its number.
        offered: u64,
        /// The highest number there was.
        known: u64,
    },
    /// The server said two things under one number.
    #[error("the server has announced other policies under the number {0}, too")]
    Forked(u64),
}

/// Why no policy was asked: then it is denied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Undecided {
    /// There are none.
    #[error("there are no signed policies yet")]
    NoPolicies,
    /// Their time is over, or has not come.
    #[error(transparent)]
    Untimely(#[from] Untimely),
    /// One end is in quarantine.
    #[error("`{0}` is in quarantine")]
    Quarantined(SpiffeId),
}

#[cfg(test)]
mod tests;
