//! Who may get what: the policies in force, and the only place that makes a [`Grant`].
//!
//! | to find | look in |
//! |---|---|
//! | from what is to be done to the question whether it may be | `question` |
//! | what is known of identities and agents meanwhile | [`known`] |
//! | what they demand beside that they permit | `conditions` |
//! | what gateways ask, and signals of risk | `gateway` |
//! | the folder they lie in, and putting in force what lies there now | [`folder`] |
//! | telling agents which are in force | [`announce`] |
//! | what becomes of a decision: metrics, the audit log, what stands out | [`record`], `news`, `anomalies` |
//! | those that were in force, by their digests | [`kept`] |
//!
//! What policies are and how they decide is in `claviger_policy`. An identity in quarantine is denied
//! whatever they say.

pub mod announce;
mod anomalies;
mod changes;
mod conditions;
pub mod folder;
mod gateway;
pub mod kept;
pub mod known;
pub(crate) mod news;
mod question;
pub mod record;

use std::fmt;
use std::sync::Arc;

use claviger_core::anomaly::Origin;
use claviger_core::decision::{Action, Decided, Decision, Question, Resource, Verdict, Why};
use claviger_core::grant::{
    Grant, IssueEar, IssueJwt, IssuePsk, IssueWit, IssueX509, IssueX509Ca, PolicyDigest, PskProof,
    RedeemPsk,
};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::{Clock, UnixTime};
use claviger_policy::PolicySet;
use tokio::sync::watch;
use tracing::warn;

use crate::approvals::Approvals;
use crate::limits::Limits;
use crate::standings::Standings;
pub use conditions::Met;
use known::Known;
pub use record::{Asked, Record};

/// The policies in force. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Policies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trust_domain: TrustDomain,
    known: Arc<dyn Known>,
    standings: Standings,
    clock: Arc<dyn Clock>,
    limits: Limits,
    approvals: Approvals,
    record: Record,
    current: watch::Sender<Arc<PolicySet>>,
}

impl Policies {
    /// Puts `set` in force for `trust_domain`. What is decided goes to `record`.
    #[must_use]
    pub fn new(
        set: PolicySet,
        trust_domain: TrustDomain,
        known: Arc<dyn Known>,
        standings: Standings,
        clock: Arc<dyn Clock>,
        record: Record,
    ) -> Self {
        let current = watch::Sender::new(Arc::new(set));
        let (limits, approvals) = (Limits::default(), Approvals::default());
        let inner =
            Inner { trust_domain, known, standings, clock, limits, approvals, record, current };
        Self(Arc::new(inner))
    }

    /// Those in force now.
    #[must_use]
    pub fn current(&self) -> Arc<PolicySet> {
        Arc::clone(&self.0.current.borrow())
    }

    /// Puts `set` in force in their place.
    pub(crate) fn replace(&self, set: PolicySet) {
        self.0.current.send_replace(Arc::new(set));
    }

    /// Those in force, now and later.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<PolicySet>> {
        self.0.current.subscribe()
    }

    /// Decides about an X.509-SVID.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_x509(&self, act: IssueX509) -> Result<Grant<IssueX509>, Denied> {
        let decided = self.ask_for(self.about_x509(&act), &Asked::by(&act.requester))?;
        Ok(Grant::assertion(act, decided))
    }

    /// Decides about the authority of a downstream server.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_x509_ca(&self, act: IssueX509Ca) -> Result<Grant<IssueX509Ca>, Denied> {
        let decided = self.ask_for(self.about_x509_ca(&act), &Asked::default())?;
        Ok(Grant::assertion(act, decided))
    }

    /// Decides about a JWT-SVID.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_jwt(&self, act: IssueJwt) -> Result<Grant<IssueJwt>, Denied> {
        let decided = self.ask_for(self.about_jwt(&act), &Asked::by(&act.requester))?;
        Ok(Grant::assertion(act, decided))
    }

    /// Decides about a WIT-SVID.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_wit(&self, act: IssueWit) -> Result<Grant<IssueWit>, Denied> {
        let decided = self.ask_for(self.about_wit(&act), &Asked::by(&act.requester))?;
        Ok(Grant::assertion(act, decided))
    }

    /// Decides about an attestation result.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_ear(&self, act: IssueEar) -> Result<Grant<IssueEar>, Denied> {
        let decided = self.ask_for(self.about_ear(&act), &Asked::by(&act.requester))?;
        Ok(Grant::assertion(act, decided))
    }

    /// Decides about making a one-time PSK.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_psk(&self, act: IssuePsk) -> Result<Grant<IssuePsk>, Denied> {
        let decided = self.ask_for(self.about_psk(&act), &Asked::by(&act.requester))?;
        Ok(Grant::assertion(act, decided))
    }

    /// Decides about spending a one-time PSK. One that is presented by its name alone has to be
    /// permitted that way, too.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless policies permit it.
    pub fn redeem_psk(&self, act: RedeemPsk) -> Result<Grant<RedeemPsk>, Denied> {
        let asked = Asked::by(&act.requester);
        let question = self.about_redeeming(Action::RedeemPsk, &act);
        let mut decided = self.ask_for(question, &asked)?;
        match act.proof {
            PskProof::Binder { .. } => {}
            PskProof::IdentityOnly => {
                let question = self.about_redeeming(Action::RedeemPskByIdentity, &act);
                decided = self.ask_for(question, &asked)?;
            }
        }
        Ok(Grant::assertion(act, decided))
    }

    /// Decides, and takes note of it.
    fn ask_for(&self, question: Question, asked: &Asked) -> Result<Box<Decided>, Denied> {
        let answer = self.ask(question);
        let (decided, why) = match &answer {
            Ok(decided) => (decided, None),
            Err(denied) => (&denied.decided, Some(&denied.why)),
        };
        let (known, now) = (&*self.0.known, self.now());
        self.0.record.decided(decided, why, asked, known, now);
        answer
    }

    /// Counts a decision and holds it against the principal's past. It is written down by the caller.
    pub(crate) fn judge(&self, decided: &Decided, why: Option<&Why>, origin: &Origin) {
        self.0.record.judge(decided, why, origin, &*self.0.known, self.now());
    }

    /// How often there was a question like this since one was written down, itself included; `None` if
    /// it is not to be written down.
    pub(crate) fn times(&self, question: &Question) -> Option<u64> {
        self.0.record.times(question, self.now())
    }

    /// Takes note of a denial for a reason beyond the policies, after they were asked.
    #[must_use]
    pub fn noted(&self, denied: Denied, asked: &Asked) -> Denied {
        let (known, now) = (&*self.0.known, self.now());
        self.0.record.decided(&denied.decided, Some(&denied.why), asked, known, now);
        denied
    }

    fn ask(&self, question: Question) -> Result<Box<Decided>, Denied> {
        if let Some(id) = self.in_quarantine(&question) {
            let decision = Decision::denial(self.current().digest(), Vec::new());
            let decided = Box::new(Decided { question, decision });
            return Err(Denied { decided, why: Why::Quarantined(id) });
        }
        let decision = self.current().decide(&question);
        for error in &decision.errors {
            warn!(error, action = %question.action, "a policy cannot be evaluated");
        }
        let verdict = decision.verdict;
        let decided = Box::new(Decided { question, decision });
        match verdict {
            Verdict::Permit | Verdict::Observe => conditions::check(decided),
            Verdict::Deny => Err(Denied { decided, why: Why::Policy }),
        }
    }

    /// Whoever of the two ends is in quarantine. Of those in quarantine others may speak.
    fn in_quarantine(&self, question: &Question) -> Option<SpiffeId> {
        let speaks = matches!(question.action, Action::Ask | Action::Signal);
        let other = match &question.resource {
            Resource::Identity(party) if !speaks => Some(&party.id),
            Resource::Identity(_) | Resource::TrustDomain(_) | Resource::Tool(_) => None,
        };
        let mut ends = std::iter::once(&question.principal.id).chain(other);
        ends.find(|id| self.0.standings.of(id).quarantined).cloned()
    }

    fn now(&self) -> UnixTime {
        self.0.clock.now()
    }
}

/// It may not be done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Denied {
    /// What was asked, and what the policies said.
    pub decided: Box<Decided>,
    /// Why not.
    pub why: Why,
}

impl Denied {
    /// The policies that were asked.
    #[must_use]
    pub const fn policy(&self) -> PolicyDigest {
        self.decided.decision.policy
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (action, policy) = (&self.decided.question.action, self.policy());
        match &self.why {
            Why::Policy => write!(f, "no policy permits `{action}` here (policies {policy})"),
            Why::Quarantined(id) => write!(f, "`{id}` is in quarantine"),
            Why::Unregistered(id) => write!(f, "no entry gives anybody the identity `{id}`"),
            Why::OtherApproval => f.write_str("the approval is for something else"),
            Why::Rate => write!(f, "`{action}` was done as often as it may be for now"),
            Why::Approval(id) => {
                write!(f, "`{action}` waits for a human: `claviger approval grant {id}`")
            }
            Why::Refused(id) => write!(f, "a human refused `{action}` (approval {id})"),
            Why::Unmet => write!(
                f,
                "what permits `{action}` demands `@rate` or `@approval`, which there is for issue_psk, \
                 connect and calls only"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::evidence::ear::EarContents;
    use claviger_core::evidence::{Appraisal, Bond, Tier, TrustClaim};
    use claviger_core::grant::Requester;
    use claviger_core::jose::PublicKey;
    use claviger_core::psk::{PskBinding, PskHash};
    use claviger_core::svid::jwt::{Audience, JwtSvidContents};
    use claviger_core::svid::wit::WitSvidContents;
    use claviger_core::svid::{SvidTtl, X509SvidContents};
    use claviger_policy::{Source, source};
    use rcgen::PublicKeyData as _;

    use super::*;
    use crate::ca::fresh_serial;
    use crate::policy::known::Nobody;
    use crate::storage::fixture::TestClock;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn policy(text: &str) -> Policies {
        policies(Source::new(vec![("p.cedar".into(), text.into())]), 1_000)
    }

    fn policies(source: Source, now: u64) -> Policies {
        let set = PolicySet::compile(source).unwrap();
        let domain = "example.org".parse().unwrap();
        let (standings, clock) = (Standings::default(), TestClock::at(now));
        Policies::new(set, domain, Arc::new(Nobody), standings, clock, Record::default())
    }

    fn x509(subject: &str) -> IssueX509 {
        IssueX509 {
            contents: X509SvidContents {
                subject: subject.parse().unwrap(),
                dns_names: vec!["web.example.org".parse().unwrap()],
                ttl: SvidTtl::HOUR,
            },
            serial: fresh_serial().unwrap(),
            public_key: Vec::new(),
            requester: Requester::Server,
            entry: None,
        }
    }

    fn jwt(subject: &str, audience: &[&str]) -> IssueJwt {
        let contents = JwtSvidContents {
            subject: subject.parse().unwrap(),
            audience: Audience::new(audience.iter().map(ToString::to_string).collect()).unwrap(),
            ttl: SvidTtl::FIVE_MINUTES,
            jti: false,
        };
        IssueJwt { contents, requester: Requester::Server, entry: None }
    }

    fn wit(subject: &str) -> IssueWit {
        let spki = rcgen::KeyPair::generate().unwrap().subject_public_key_info();
        let contents = WitSvidContents {
            subject: subject.parse().unwrap(),
            key: PublicKey::from_spki(&spki).unwrap(),
            ttl: SvidTtl::HOUR,
        };
        IssueWit { contents, requester: Requester::Operator { uid: 0 }, entry: None }
    }

    fn binding(client: &str, server: &str) -> PskBinding {
        PskBinding {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            purpose: "checkout".parse().unwrap(),
            not_after: UnixTime::from_secs(1_060),
            hash: PskHash::Sha256,
            run: None,
            series: None,
            bits: None,
        }
    }

    fn issue(client: &str, server: &str) -> IssuePsk {
        IssuePsk { binding: binding(client, server), requester: Requester::Server }
    }

    fn redeem(proof: PskProof) -> RedeemPsk {
        let binding = binding("spiffe://example.org/web", "spiffe://example.org/db");
        RedeemPsk { binding, requester: Requester::Server, proof }
    }

    const BINDER: PskProof = PskProof::Binder { transcript: [0; 32], binder: [0; 32] };

    #[test]
    fn nothing_is_permitted_by_default() {
        let policy = policy("");
        policy.issue_x509(x509("spiffe://example.org/web")).unwrap_err();
        policy.issue_jwt(jwt("spiffe://example.org/web", &["db"])).unwrap_err();
        policy.issue_wit(wit("spiffe://example.org/web")).unwrap_err();
        policy.issue_psk(issue("spiffe://example.org/web", "spiffe://example.org/db")).unwrap_err();
        policy.redeem_psk(redeem(BINDER)).unwrap_err();
        assert_eq!(policy.current().count(), 0);
    }

    #[test]
    fn the_built_in_policy_permits_within_the_trust_domain() {
        let policy = policies(Source::built_in(), 1_000);
        let grant = policy.issue_x509(x509("spiffe://example.org/web")).unwrap();
        assert_eq!(grant.policy(), policy.current().digest());
        policy.issue_x509(x509("spiffe://other.org/web")).unwrap_err();
        for policy in [&policy, &self::policy(source::DEV)] {
            let (ours, theirs) = ("spiffe://example.org/web", "spiffe://other.org/web");
            let grant = policy.issue_jwt(jwt(ours, &["db"])).unwrap();
            assert_eq!(grant.policy(), policy.current().digest());
            assert_eq!(policy.issue_wit(wit(ours)).unwrap().policy(), policy.current().digest());
            policy.issue_jwt(jwt(theirs, &["db"])).unwrap_err();
            policy.issue_wit(wit(theirs)).unwrap_err();
        }
        let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
        assert_eq!(policy.issue_psk(issue(web, db)).unwrap().act().binding, binding(web, db));
        policy.issue_psk(issue(web, "spiffe://other.org/db")).unwrap_err();
        assert_eq!(policy.redeem_psk(redeem(BINDER)).unwrap().policy(), policy.current().digest());
    }

    #[test]
    fn redeeming_by_identity_alone_is_permitted_by_itself() {
        let built_in = policies(Source::built_in(), 1_000);
        let denied = built_in.redeem_psk(redeem(PskProof::IdentityOnly)).unwrap_err();
        assert_eq!(denied.decided.question.action, Action::RedeemPskByIdentity);
        let dev = policy(source::DEV);
        assert_eq!(
            dev.redeem_psk(redeem(PskProof::IdentityOnly)).unwrap().policy(),
            dev.current().digest()
        );
        let only_that =
            policy("permit (principal, action == Action::\"redeem_psk_by_identity\", resource);");
        let denied = only_that.redeem_psk(redeem(PskProof::IdentityOnly)).unwrap_err();
        assert_eq!(denied.decided.question.action, Action::RedeemPsk);
    }

    #[test]
    fn policies_see_purpose_lifetime_and_names() {
        let policy = policy(
            r#"
            permit (
                principal == Identity::"spiffe://example.org/web",
                action == Action::"issue_psk",
                resource in TrustDomain::"example.org"
            ) when {
                context.purpose like "check*" && context.ttl_seconds <= 60 &&
                resource.path == "/db" && !principal.reserved
            };
            permit (principal, action == Action::"issue_x509", resource)
            when {
                context.requester == "server" && context.dns_names.contains("web.example.org") &&
                context.ttl_seconds == 3600
            };
            "#,
        );
        let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
        assert_eq!(policy.issue_psk(issue(web, db)).unwrap().act().binding, binding(web, db));
        policy.issue_psk(issue(db, web)).unwrap_err();
        let earlier = policies(policy.current().source().clone(), 999);
        earlier.issue_psk(issue(web, db)).unwrap_err();
        assert_eq!(policy.issue_x509(x509(web)).unwrap().policy(), policy.current().digest());
    }

    #[test]
    fn policies_see_the_run_of_a_ci_job() {
        let policy = policy(
            r#"
            permit (principal, action in [Action::"issue_psk", Action::"redeem_psk"], resource)
            when { context has run && context.run like "github:*" };
            "#,
        );
        let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
        let in_run = |name: &str| {
            let run = Some(name.parse().unwrap());
            let binding = PskBinding { run, ..binding(web, db) };
            IssuePsk { binding, requester: Requester::Server }
        };
        assert_eq!(
            policy.issue_psk(in_run("github:8412:1")).unwrap().policy(),
            policy.current().digest()
        );
        policy.issue_psk(in_run("gitlab:8412:1")).unwrap_err();
        policy.issue_psk(issue(web, db)).unwrap_err();
        let spent = RedeemPsk { binding: in_run("github:8412:1").binding, ..redeem(BINDER) };
        assert_eq!(policy.redeem_psk(spent).unwrap().policy(), policy.current().digest());
    }

    #[test]
    fn policies_can_refuse_evidence_that_anybody_could_present() {
        let policy = policy(
            r#"
            permit (principal, action, resource);
            forbid (principal, action, resource)
            when { context has evidence && context.evidence.bond == "bearer" };
            "#,
        );
        let by = |bond| Requester::Evidence {
            id: "spiffe://example.org/spire/agent/x509pop/1".parse().unwrap(),
            kind: "x509pop".to_owned(),
            bond,
            tier: Tier::None,
        };
        let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
        let node = |bond| IssueX509 { requester: by(bond), ..x509(web) };
        let _bound = policy.issue_x509(node(Bond::Key)).unwrap();
        policy.issue_x509(node(Bond::Bearer)).unwrap_err();
        let job = |bond| IssuePsk { requester: by(bond), ..issue(web, db) };
        let _bound = policy.issue_psk(job(Bond::Key)).unwrap();
        policy.issue_psk(job(Bond::Bearer)).unwrap_err();
        let _by_an_agent = policy.issue_x509(x509(web)).unwrap();
    }

    #[test]
    fn policies_can_ask_how_far_evidence_is_to_be_trusted() {
        let policy = policy(
            r#"
            permit (principal, action in [Action::"issue_x509", Action::"issue_ear"], resource)
            when { context has evidence && context.evidence.tier == "affirming" };
            "#,
        );
        let id = || "spiffe://example.org/spire/agent/tpm/1".parse().unwrap();
        let node = |tier| IssueX509 {
            requester: Requester::Evidence {
                id: id(),
                kind: "tpm".to_owned(),
                bond: Bond::Key,
                tier,
            },
            ..x509("spiffe://example.org/spire/agent/tpm/1")
        };
        let _trusted = policy.issue_x509(node(Tier::Affirming)).unwrap();
        for tier in [Tier::None, Tier::Warning, Tier::Contraindicated] {
            policy.issue_x509(node(tier)).unwrap_err();
        }
        let ear = |hardware| {
            let mut appraisal = Appraisal::new("tpm", Bond::Key);
            appraisal.trust.hardware = hardware;
            let contents = EarContents {
                agent: id(),
                appraisal,
                appraised_at: NOW,
                nonce: None,
                ttl: SvidTtl::HOUR,
            };
            IssueEar { contents, requester: Requester::Operator { uid: 0 } }
        };
        let _trusted = policy.issue_ear(ear(TrustClaim::AFFIRMING)).unwrap();
        let denied = policy.issue_ear(ear(TrustClaim::VULNERABLE)).unwrap_err();
        assert_eq!(denied.decided.question.action, Action::IssueEar);
    }

    #[test]
    fn policies_see_audiences_and_tell_the_profiles_apart() {
        let policy = policy(
            r#"
            permit (principal, action == Action::"issue_jwt", resource)
            when { ["db", "cache"].containsAll(context.audience) && context.ttl_seconds <= 300 };
            permit (principal, action == Action::"issue_wit", resource)
            when { context.requester == "operator" && context.ttl_seconds == 3600 };
            "#,
        );
        let web = "spiffe://example.org/web";
        let act = jwt(web, &["cache", "db"]);
        assert_eq!(policy.issue_jwt(act.clone()).unwrap().act().contents, act.contents);
        let denied = policy.issue_jwt(jwt(web, &["db", "other"])).unwrap_err();
        assert_eq!(denied.decided.question.action, Action::IssueJwt);
        assert_eq!(policy.issue_wit(wit(web)).unwrap().policy(), policy.current().digest());
        let agents = IssueWit { requester: Requester::Server, ..wit(web) };
        assert_eq!(policy.issue_wit(agents).unwrap_err().decided.question.action, Action::IssueWit);
        policy.issue_x509(x509(web)).unwrap_err();
    }

    #[test]
    fn a_policy_that_fails_refuses_even_if_another_permits() {
        let text = r#"
            permit (principal, action, resource);
            forbid (principal, action == Action::"issue_psk", resource)
            when { context.ttl_seconds * 9223372036854775807 > 0 };
        "#;
        let policy = policy(text);
        let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
        policy.issue_psk(issue(web, db)).unwrap_err();
    }
}
