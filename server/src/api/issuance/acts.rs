//! What can be issued: who decides, records and signs it.

use std::future::Future;

use claviger_core::grant::{Grant, IssueEar, IssueJwt, IssueWit, IssueX509, IssueX509Ca, Recorded};
use claviger_core::id::SpiffeId;
use claviger_core::time::UnixTime;

use crate::ca::{Authority, SignError, SignedSvid, SignedToken};
use crate::journal::{CommitError, Journal};
use crate::metrics as names;
use crate::policy::{Denied, Policies};

/// An act that ends in a signature.
pub trait Issue: Send + Sized {
    /// What is signed.
    type Svid: Send;
    /// The metric that counts it.
    const COUNTER: &'static str;

    /// Whom it names.
    fn subject(&self) -> &SpiffeId;

    /// Decides about it.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    fn decide(self, policy: &Policies) -> Result<Grant<Self>, Denied>;

    /// Records that it is about to be done, as of `now`: all of `grants` in one write.
    fn record(
        journal: &Journal,
        grants: Vec<Grant<Self>>,
        now: UnixTime,
    ) -> impl Future<Output = Result<Vec<Recorded<Grant<Self>>>, CommitError>> + Send;

    /// Does it.
    ///
    /// # Errors
    ///
    /// [`SignError`]; then nothing was signed.
    fn sign(
        authority: &Authority,
        grant: Recorded<Grant<Self>>,
        now: UnixTime,
    ) -> Result<Self::Svid, SignError>;
}

impl Issue for IssueX509 {
    type Svid = SignedSvid;
    const COUNTER: &'static str = names::X509_SVIDS_ISSUED;

    fn subject(&self) -> &SpiffeId {
        &self.contents.subject
    }

    fn decide(self, policy: &Policies) -> Result<Grant<Self>, Denied> {
        policy.issue_x509(self)
    }

    async fn record(
        journal: &Journal,
        grants: Vec<Grant<Self>>,
        now: UnixTime,
    ) -> Result<Vec<Recorded<Grant<Self>>>, CommitError> {
        journal.record_x509(grants, now).await
    }

    fn sign(
        authority: &Authority,
        grant: Recorded<Grant<Self>>,
        now: UnixTime,
    ) -> Result<SignedSvid, SignError> {
        authority.sign(grant, now)
    }
}

impl Issue for IssueX509Ca {
    type Svid = SignedSvid;
    const COUNTER: &'static str = names::X509_CAS_ISSUED;

    fn subject(&self) -> &SpiffeId {
        &self.server
    }

    fn decide(self, policy: &Policies) -> Result<Grant<Self>, Denied> {
        policy.issue_x509_ca(self)
    }

    async fn record(
        journal: &Journal,
        grants: Vec<Grant<Self>>,
        _now: UnixTime,
    ) -> Result<Vec<Recorded<Grant<Self>>>, CommitError> {
        journal.record_x509_ca(grants).await
    }

    fn sign(
        authority: &Authority,
        grant: Recorded<Grant<Self>>,
        now: UnixTime,
    ) -> Result<SignedSvid, SignError> {
        authority.sign_ca(grant, now)
    }
}

impl Issue for IssueJwt {
    type Svid = SignedToken;
    const COUNTER: &'static str = names::JWT_SVIDS_ISSUED;

    fn subject(&self) -> &SpiffeId {
        &self.contents.subject
    }

    fn decide(self, policy: &Policies) -> Result<Grant<Self>, Denied> {
        policy.issue_jwt(self)
    }

    async fn record(
        journal: &Journal,
        grants: Vec<Grant<Self>>,
        _now: UnixTime,
    ) -> Result<Vec<Recorded<Grant<Self>>>, CommitError> {
        journal.record_jwt(grants).await
    }

    fn sign(
        authority: &Authority,
        grant: Recorded<Grant<Self>>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        authority.sign_jwt(grant, now)
    }
}

impl Issue for IssueWit {
    type Svid = SignedToken;
    const COUNTER: &'static str = names::WIT_SVIDS_ISSUED;

    fn subject(&self) -> &SpiffeId {
        &self.contents.subject
    }

    fn decide(self, policy: &Policies) -> Result<Grant<Self>, Denied> {
        policy.issue_wit(self)
    }

    async fn record(
        journal: &Journal,
        grants: Vec<Grant<Self>>,
        _now: UnixTime,
    ) -> Result<Vec<Recorded<Grant<Self>>>, CommitError> {
        journal.record_wit(grants).await
    }

    fn sign(
        authority: &Authority,
        grant: Recorded<Grant<Self>>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        authority.sign_wit(grant, now)
    }
}

impl Issue for IssueEar {
    type Svid = SignedToken;
    const COUNTER: &'static str = names::EARS_ISSUED;

    fn subject(&self) -> &SpiffeId {
        &self.contents.agent
    }

    fn decide(self, policy: &Policies) -> Result<Grant<Self>, Denied> {
        policy.issue_ear(self)
    }

    async fn record(
        journal: &Journal,
        grants: Vec<Grant<Self>>,
        _now: UnixTime,
    ) -> Result<Vec<Recorded<Grant<Self>>>, CommitError> {
        journal.record_ear(grants).await
    }

    fn sign(
        authority: &Authority,
        grant: Recorded<Grant<Self>>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        authority.sign_ear(grant, now)
    }
}
