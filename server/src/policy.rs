//! Who may get what: Cedar policies, and the only place that makes a [`Grant`].
//!
//! Nothing is permitted unless a policy says so, and a policy that cannot be evaluated refuses.
//! Without a policy directory the built-in [`DEFAULT`] applies; with one, its files are all there
//! is.

mod load;
mod request;

use cedar_policy::{Authorizer, Decision, PolicySet, Schema};
use claviger_core::grant::{
    Grant, IssueEar, IssueJwt, IssuePsk, IssueWit, IssueX509, IssueX509Ca, PolicyDigest, PskProof,
    RedeemPsk,
};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use tracing::warn;

pub use load::LoadError;
use request::{Action, Question};

/// The built-in policies.
pub const DEFAULT: &str = include_str!("../policy/default.cedar");

/// Policies for trying things out: [`DEFAULT`], and redemption by identity alone.
pub const DEV: &str = include_str!("../policy/dev.cedar");

/// The policies in force.
#[derive(Debug)]
pub struct Policy {
    trust_domain: TrustDomain,
    schema: Schema,
    policies: PolicySet,
    digest: PolicyDigest,
}

impl Policy {
    /// Names these policies in the audit log.
    #[must_use]
    pub const fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// How many policies there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.policies.num_of_policies()
    }

    /// Decides about an X.509-SVID.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_x509(&self, act: IssueX509) -> Result<Grant<IssueX509>, Denied> {
        self.ask(&Question::issue_x509(&act, &self.trust_domain))?;
        Ok(Grant::assertion(act, self.digest))
    }

    /// Decides about the authority of a downstream server.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_x509_ca(&self, act: IssueX509Ca) -> Result<Grant<IssueX509Ca>, Denied> {
        self.ask(&Question::issue_x509_ca(&act, &self.trust_domain))?;
        Ok(Grant::assertion(act, self.digest))
    }

    /// Decides about a JWT-SVID.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_jwt(&self, act: IssueJwt) -> Result<Grant<IssueJwt>, Denied> {
        self.ask(&Question::issue_jwt(&act, &self.trust_domain))?;
        Ok(Grant::assertion(act, self.digest))
    }

    /// Decides about a WIT-SVID.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_wit(&self, act: IssueWit) -> Result<Grant<IssueWit>, Denied> {
        self.ask(&Question::issue_wit(&act, &self.trust_domain))?;
        Ok(Grant::assertion(act, self.digest))
    }

    /// Decides about an attestation result.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_ear(&self, act: IssueEar) -> Result<Grant<IssueEar>, Denied> {
        self.ask(&Question::issue_ear(&act, &self.trust_domain))?;
        Ok(Grant::assertion(act, self.digest))
    }

    /// Decides at `now` about making a one-time PSK.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless a policy permits it.
    pub fn issue_psk(&self, act: IssuePsk, now: UnixTime) -> Result<Grant<IssuePsk>, Denied> {
        self.ask(&Question::issue_psk(&act, now))?;
        Ok(Grant::assertion(act, self.digest))
    }

    /// Decides at `now` about spending a one-time PSK. One that is presented by its name alone has
    /// to be permitted that way, too.
    ///
    /// # Errors
    ///
    /// [`Denied`] unless policies permit it.
    pub fn redeem_psk(&self, act: RedeemPsk, now: UnixTime) -> Result<Grant<RedeemPsk>, Denied> {
        self.ask(&Question::connection(Action::RedeemPsk, &act.binding, now))?;
        match act.proof {
            PskProof::Binder { .. } => {}
            PskProof::IdentityOnly => {
                self.ask(&Question::connection(Action::RedeemPskByIdentity, &act.binding, now))?;
            }
        }
        Ok(Grant::assertion(act, self.digest))
    }

    fn ask(&self, question: &Question) -> Result<(), Denied> {
        let denied = || Denied { action: question.action().name(), policy: self.digest };
        let (request, entities) = question.to_cedar(&self.schema).map_err(|error| {
            warn!(%error, action = question.action().name(), "a question to the policy is malformed");
            denied()
        })?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        // Cedar leaves out a policy that fails, be it a `forbid`. We take no chances.
        if let Some(error) = response.diagnostics().errors().next() {
            warn!(%error, action = question.action().name(), "a policy cannot be evaluated");
            return Err(denied());
        }
        match response.decision() {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(denied()),
        }
    }
}

/// No policy permits it, or one forbids it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no policy permits `{action}` here (policies {policy})")]
pub struct Denied {
    /// The action refused.
    pub action: &'static str,
    /// The policies that refused.
    pub policy: PolicyDigest,
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
    use rcgen::PublicKeyData as _;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn policy(text: &str) -> Policy {
        Policy::from_texts("example.org".parse().unwrap(), vec![("p.cedar".into(), text.into())])
            .unwrap()
    }

    fn x509(subject: &str) -> IssueX509 {
        IssueX509 {
            contents: X509SvidContents {
                subject: subject.parse().unwrap(),
                dns_names: vec!["web.example.org".parse().unwrap()],
                ttl: SvidTtl::HOUR,
            },
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
        policy
            .issue_psk(issue("spiffe://example.org/web", "spiffe://example.org/db"), NOW)
            .unwrap_err();
        policy.redeem_psk(redeem(BINDER), NOW).unwrap_err();
        assert_eq!(policy.count(), 0);
    }

    #[test]
    fn the_built_in_policy_permits_within_the_trust_domain() {
        let policy = Policy::built_in("example.org".parse().unwrap()).unwrap();
        let grant = policy.issue_x509(x509("spiffe://example.org/web")).unwrap();
        assert_eq!(grant.policy(), policy.digest());
        policy.issue_x509(x509("spiffe://other.org/web")).unwrap_err();
        for policy in [&policy, &self::policy(DEV)] {
            let (ours, theirs) = ("spiffe://example.org/web", "spiffe://other.org/web");
            let grant = policy.issue_jwt(jwt(ours, &["db"])).unwrap();
            assert_eq!(grant.policy(), policy.digest());
            assert_eq!(policy.issue_wit(wit(ours)).unwrap().policy(), policy.digest());
            policy.issue_jwt(jwt(theirs, &["db"])).unwrap_err();
            policy.issue_wit(wit(theirs)).unwrap_err();
        }
        let (web, db) = ("spiffe://example.org/web", "spiffe://example.org/db");
        assert_eq!(policy.issue_psk(issue(web, db), NOW).unwrap().act().binding, binding(web, db));
        policy.issue_psk(issue(web, "spiffe://other.org/db"), NOW).unwrap_err();
        assert_eq!(policy.redeem_psk(redeem(BINDER), NOW).unwrap().policy(), policy.digest());
    }

    #[test]
    fn redeeming_by_identity_alone_is_permitted_by_itself() {
        let built_in = Policy::built_in("example.org".parse().unwrap()).unwrap();
        let denied = built_in.redeem_psk(redeem(PskProof::IdentityOnly), NOW).unwrap_err();
        assert_eq!(denied.action, "redeem_psk_by_identity");
        let dev = policy(DEV);
        assert_eq!(
            dev.redeem_psk(redeem(PskProof::IdentityOnly), NOW).unwrap().policy(),
            dev.digest()
        );
        let only_that =
            policy("permit (principal, action == Action::\"redeem_psk_by_identity\", resource);");
        let denied = only_that.redeem_psk(redeem(PskProof::IdentityOnly), NOW).unwrap_err();
        assert_eq!(denied.action, "redeem_psk");
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
        assert_eq!(policy.issue_psk(issue(web, db), NOW).unwrap().act().binding, binding(web, db));
        policy.issue_psk(issue(db, web), NOW).unwrap_err();
        policy.issue_psk(issue(web, db), UnixTime::from_secs(999)).unwrap_err();
        assert_eq!(policy.issue_x509(x509(web)).unwrap().policy(), policy.digest());
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
            policy.issue_psk(in_run("github:8412:1"), NOW).unwrap().policy(),
            policy.digest()
        );
        policy.issue_psk(in_run("gitlab:8412:1"), NOW).unwrap_err();
        policy.issue_psk(issue(web, db), NOW).unwrap_err();
        let spent = RedeemPsk { binding: in_run("github:8412:1").binding, ..redeem(BINDER) };
        assert_eq!(policy.redeem_psk(spent, NOW).unwrap().policy(), policy.digest());
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
        let _bound = policy.issue_psk(job(Bond::Key), NOW).unwrap();
        policy.issue_psk(job(Bond::Bearer), NOW).unwrap_err();
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
        assert_eq!(denied.action, "issue_ear");
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
        assert_eq!(denied.action, "issue_jwt");
        assert_eq!(policy.issue_wit(wit(web)).unwrap().policy(), policy.digest());
        let agents = IssueWit { requester: Requester::Server, ..wit(web) };
        assert_eq!(policy.issue_wit(agents).unwrap_err().action, "issue_wit");
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
        policy.issue_psk(issue(web, db), NOW).unwrap_err();
    }
}
