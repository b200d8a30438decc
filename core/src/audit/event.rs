//! What a record says.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::anomaly::{Anomaly, Origin};
use crate::approval::ApprovalId;
use crate::decision::{Action, Decided, Why};
use crate::entry::{Entry, EntryId};
use crate::evidence::{Appraisal, KeyDigest};
use crate::grant::{
    Grant, IssueEar, IssueJwt, IssueWit, IssueX509, IssueX509Ca, PolicyDigest, Requester,
};
use crate::id::{SpiffeId, TrustDomain};
use crate::psk::{PskBinding, PskTtl, Run};
use crate::selector::Selectors;
use crate::standing::{Reason, Risk};
use crate::svid::{DnsName, Profile, SerialNumber, SvidTtl, Validity};
use crate::time::UnixTime;

/// What a record says: the JSON that is hashed, stored and exported, byte for byte.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Body {
    /// When it was written.
    pub time: UnixTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened, or is about to happen: the record comes first.
///
/// No secret is ever part of an event.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A server opened its store.
    ServerStarted {
        /// The epoch in force.
        epoch: u64,
    },
    /// Every PSK and join token of earlier epochs is void.
    EpochFenced {
        /// The epoch that begins.
        epoch: u64,
        /// Why the ledger could not be trusted to be complete.
        reason: String,
    },
    /// A signing authority was made and published.
    AuthorityPrepared {
        /// What it signs; records of the first version, which leave it out, speak of certificates.
        #[serde(default)]
        profile: Profile,
        /// The digest of its public key.
        key: KeyDigest,
        /// When it is valid.
        validity: Validity,
    },
    /// A signing authority began to sign.
    AuthorityActivated {
        /// What it signs; records of the first version, which leave it out, speak of certificates.
        #[serde(default)]
        profile: Profile,
        /// The digest of its public key.
        key: KeyDigest,
    },
    /// The policies changed.
    PolicyLoaded {
        /// Their digest.
        policy: PolicyDigest,
        /// How many there are.
        policies: usize,
    },
    /// What lay in the policy folder was wrong, and the policies stayed.
    PolicyRefused {
        /// The digest of those that stayed.
        policy: PolicyDigest,
        /// What was wrong, with file and line.
        reason: String,
    },
    /// Agents are told which policies are in force.
    PoliciesSigned {
        /// Their digest.
        policy: PolicyDigest,
        /// The number of the announcement.
        version: u64,
        /// When nobody decides by them any more, unless they are announced again. The signing key
        /// may end before that.
        expires_at: UnixTime,
    },
    /// A join token was made.
    JoinTokenCreated {
        /// The SHA-256 of the token.
        token: String,
        /// The identity given to the agent beyond its own.
        agent_id: Option<SpiffeId>,
        /// When it ends.
        expires_at: UnixTime,
        /// Who asked.
        requester: Requester,
    },
    /// A join token was presented by a second key.
    JoinTokenReplayed {
        /// The SHA-256 of the token.
        token: String,
        /// The key that presented it.
        key: KeyDigest,
    },
    /// A node proved what it is.
    AgentAttested {
        /// The identity it earned.
        agent: SpiffeId,
        /// The kind of evidence.
        kind: String,
        /// What was proved.
        selectors: Selectors,
        /// The key the evidence earned.
        key: KeyDigest,
        /// How its evidence was judged; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        appraisal: Option<Appraisal>,
    },
    /// A program without an agent proved what it is.
    DirectlyAttested {
        /// The identity its evidence earned.
        id: SpiffeId,
        /// What was proved.
        selectors: Selectors,
        /// How its evidence was judged.
        appraisal: Appraisal,
    },
    /// Something that works once was presented again.
    EvidenceReplayed {
        /// The kind of evidence.
        kind: String,
        /// Who made it.
        issuer: String,
        /// The SHA-256 of its name, in hexadecimal.
        digest: String,
    },
    /// An agent was removed; it may attest again.
    AgentEvicted {
        /// Which.
        agent: SpiffeId,
        /// Who asked.
        requester: Requester,
    },
    /// An agent was banned; it may not attest again.
    AgentBanned {
        /// Which.
        agent: SpiffeId,
        /// Who asked.
        requester: Requester,
    },
    /// An entry was made.
    EntryCreated {
        /// The entry.
        entry: Box<Entry>,
        /// Who asked.
        requester: Requester,
    },
    /// An entry was changed.
    EntryUpdated {
        /// The entry as it is now.
        entry: Box<Entry>,
        /// Who asked.
        requester: Requester,
    },
    /// An entry was removed.
    EntryDeleted {
        /// Which.
        id: EntryId,
        /// The identity it gave.
        spiffe_id: SpiffeId,
        /// Who asked.
        requester: Requester,
    },
    /// The bundle of another trust domain is new, or another.
    BundleSet {
        /// Whose.
        trust_domain: TrustDomain,
        /// The number that its owner gave it.
        sequence: u64,
        /// How many authorities sign its X.509-SVIDs.
        x509_authorities: usize,
        /// How many keys sign its JWT-SVIDs.
        jwt_authorities: usize,
        /// How many keys sign its WIT-SVIDs.
        wit_authorities: usize,
        /// The SHA-256 of the bundle as the message of SPIRE's API, in hexadecimal.
        digest: String,
        /// Who asked.
        requester: Requester,
    },
    /// The bundle of another trust domain was removed.
    BundleDeleted {
        /// Whose.
        trust_domain: TrustDomain,
        /// Who asked.
        requester: Requester,
    },
    /// An X.509-SVID is about to be signed.
    X509SvidIssued {
        /// Its serial number; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serial: Option<SerialNumber>,
        /// The identity in it.
        subject: SpiffeId,
        /// The DNS names in it.
        dns_names: Vec<DnsName>,
        /// How long it lasts at most, in seconds.
        ttl: SvidTtl,
        /// The key it is for.
        key: KeyDigest,
        /// The entry that entitles the subject.
        entry: Option<EntryId>,
        /// Who asked.
        requester: Requester,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// An X.509-SVID is withdrawn before it ends.
    X509SvidRevoked {
        /// Its serial number, hexadecimal.
        serial: String,
        /// The identity in it.
        subject: SpiffeId,
        /// The key of the authority that signed it; none if any of them may have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authority: Option<KeyDigest>,
        /// When it would have ended, at the latest.
        expires_at: UnixTime,
        /// Who asked.
        requester: Requester,
    },
    /// The authority of a downstream server is about to be signed.
    X509CaIssued {
        /// The identity of the server.
        server: SpiffeId,
        /// How long it lasts at most, in seconds.
        ttl: SvidTtl,
        /// The authority's key.
        key: KeyDigest,
        /// The entry that makes the server a downstream one.
        entry: EntryId,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// A JWT-SVID is about to be signed.
    JwtSvidIssued {
        /// The identity in it.
        subject: SpiffeId,
        /// For whom it is.
        audience: Vec<String>,
        /// How long it lasts at most, in seconds.
        ttl: SvidTtl,
        /// The entry that entitles the subject.
        entry: Option<EntryId>,
        /// Who asked.
        requester: Requester,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// A WIT-SVID is about to be signed.
    WitSvidIssued {
        /// The identity in it.
        subject: SpiffeId,
        /// How long it lasts at most, in seconds.
        ttl: SvidTtl,
        /// The key it is bound to.
        key: KeyDigest,
        /// The entry that entitles the subject.
        entry: Option<EntryId>,
        /// Who asked.
        requester: Requester,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// An attestation result is about to be signed.
    EarIssued {
        /// The agent that it is about.
        agent: SpiffeId,
        /// When the agent's evidence was judged.
        appraised_at: UnixTime,
        /// What it says.
        appraisal: Appraisal,
        /// How long it lasts at most, in seconds.
        ttl: SvidTtl,
        /// Who asked.
        requester: Requester,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// A PSK is about to be derived for its client.
    PskIssued {
        /// Its wire identity.
        identity: String,
        /// What it is bound to.
        #[serde(flatten)]
        binding: PskBinding,
        /// Who asked.
        requester: Requester,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// A PSK is spent.
    PskRedeemed {
        /// Its wire identity.
        identity: String,
        /// What it is bound to.
        #[serde(flatten)]
        binding: PskBinding,
        /// Whether the ClientHello proved possession of the key.
        binder_verified: bool,
        /// The agent of the acceptor.
        requester: Requester,
        /// The policies that permitted it.
        policy: PolicyDigest,
        /// What was asked and answered; records of the first versions leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Box<Decided>>,
    },
    /// A spent PSK was presented again. Written once per PSK; the metrics count each.
    PskReplayed {
        /// Its wire identity.
        identity: String,
        /// What it is bound to.
        #[serde(flatten)]
        binding: PskBinding,
        /// The agent of the acceptor.
        requester: Requester,
    },
    /// Somebody wanted to spend a PSK that a quarantine of one of its ends had voided, or a later epoch
    /// of its series. Written once per PSK; the metrics count each.
    PskVoided {
        /// Its wire identity.
        identity: String,
        /// What it is bound to.
        #[serde(flatten)]
        binding: PskBinding,
        /// The epoch of its series that voided it; none if a quarantine did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<NonZeroU64>,
        /// The agent of the acceptor.
        requester: Requester,
    },
    /// An identity was put in quarantine.
    Quarantined {
        /// Which.
        id: SpiffeId,
        /// Why.
        reason: Reason,
        /// Who asked.
        requester: Requester,
        /// The number of this change.
        version: u64,
    },
    /// The quarantine of an identity is over.
    QuarantineLifted {
        /// Which.
        id: SpiffeId,
        /// Why.
        reason: Reason,
        /// Who asked.
        requester: Requester,
        /// The number of this change.
        version: u64,
    },
    /// An identity is risked more or less than before.
    RiskChanged {
        /// Which.
        id: SpiffeId,
        /// The risk before, in percent.
        from: Risk,
        /// The risk from now on, in percent.
        to: Risk,
        /// Why.
        reason: Reason,
        /// Who asked.
        requester: Requester,
        /// The number of this change.
        version: u64,
    },
    /// A human approved of something that was asked for. It may be done once.
    ApprovalGiven {
        /// What exactly.
        id: ApprovalId,
        /// Who asked for it.
        principal: SpiffeId,
        /// What they want to do.
        action: Action,
        /// Until when it can be used.
        until: UnixTime,
        /// Who approved.
        requester: Requester,
    },
    /// A human refused something that was asked for, or took an approval back.
    ApprovalRefused {
        /// What exactly.
        id: ApprovalId,
        /// Who asked for it.
        principal: SpiffeId,
        /// What they want to do.
        action: Action,
        /// Who refused.
        requester: Requester,
    },
    /// An approval is used up by what the record after this one says.
    ApprovalUsed {
        /// Which.
        id: ApprovalId,
    },
    /// A gateway asked whether a connection may be opened or a tool called, and was answered. Denials
    /// are written as often as [`Self::Denied`].
    AccessDecided {
        /// The gateway.
        gateway: SpiffeId,
        /// What was asked and answered. The parameters of a call are left out unless the policies say
        /// `@audit("full")`; then it cannot be decided again.
        decided: Box<Decided>,
        /// Why it was denied, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Why>,
        /// The SHA-256 of the parameters of a call, in hexadecimal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params_hash: Option<String>,
        /// Their names, where the policies say `@audit("detailed")` or more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        params: Vec<String>,
        /// How often since the last record, if that was in the minute before.
        times: u64,
        /// Where the question comes from, as the gateway says.
        #[serde(default, skip_serializing_if = "Origin::is_unknown")]
        origin: Origin,
    },
    /// The policy refused a PSK. Written by the first versions; now it is [`Self::Denied`].
    PskDenied {
        /// Who asked for it.
        client: SpiffeId,
        /// Whom it was for.
        server: SpiffeId,
        /// What for.
        purpose: crate::psk::Purpose,
        /// For how long.
        ttl: PskTtl,
        /// For which run of the client, if for one only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Run>,
        /// The policies that refused.
        policy: PolicyDigest,
    },
    /// Something was refused. Written once a minute for each principal, action, resource and purpose;
    /// the metrics count each.
    Denied {
        /// What was asked and answered.
        decided: Box<Decided>,
        /// Why not.
        why: Why,
        /// Who asked, where it is not the principal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requester: Option<Requester>,
        /// How often since the last record, if that was in the minute before.
        times: u64,
        /// Where the question comes from, as the caller says.
        #[serde(default, skip_serializing_if = "Origin::is_unknown")]
        origin: Origin,
    },
    /// Something was let through that would be denied if a policy did not say to observe only.
    /// Written as often as [`Self::Denied`], beside the record of what was issued.
    Observed {
        /// What was asked and answered.
        decided: Box<Decided>,
        /// Who asked, where it is not the principal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requester: Option<Requester>,
        /// How often since the last record, if that was in the minute before.
        times: u64,
        /// Where the question comes from, as the caller says.
        #[serde(default, skip_serializing_if = "Origin::is_unknown")]
        origin: Origin,
    },
    /// A principal's decisions stand out. Written once a minute for each and for the same.
    AnomalyFound {
        /// What stands out.
        anomaly: Anomaly,
        /// The decision with which it did.
        decided: Box<Decided>,
        /// Why it was refused, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Why>,
        /// Where the question comes from, as the caller says.
        #[serde(default, skip_serializing_if = "Origin::is_unknown")]
        origin: Origin,
    },
}

impl Event {
    /// The record of `grant`, to be written before the certificate is signed.
    #[must_use]
    pub fn of_x509(grant: &Grant<IssueX509>) -> Self {
        let act = grant.act();
        Self::X509SvidIssued {
            serial: Some(act.serial),
            subject: act.contents.subject.clone(),
            dns_names: act.contents.dns_names.clone(),
            ttl: act.contents.ttl,
            key: KeyDigest::of_spki(&act.public_key),
            entry: act.entry.clone(),
            requester: act.requester.clone(),
            policy: grant.policy(),
            decided: Some(Box::new(grant.decided().clone())),
        }
    }

    /// The record of `grant`, to be written before the certificate is signed.
    #[must_use]
    pub fn of_x509_ca(grant: &Grant<IssueX509Ca>) -> Self {
        let act = grant.act();
        Self::X509CaIssued {
            server: act.server.clone(),
            ttl: act.ttl,
            key: KeyDigest::of_spki(&act.public_key),
            entry: act.entry.clone(),
            policy: grant.policy(),
            decided: Some(Box::new(grant.decided().clone())),
        }
    }

    /// The record of `grant`, to be written before the token is signed.
    #[must_use]
    pub fn of_jwt(grant: &Grant<IssueJwt>) -> Self {
        let act = grant.act();
        Self::JwtSvidIssued {
            subject: act.contents.subject.clone(),
            audience: act.contents.audience.names().to_vec(),
            ttl: act.contents.ttl,
            entry: act.entry.clone(),
            requester: act.requester.clone(),
            policy: grant.policy(),
            decided: Some(Box::new(grant.decided().clone())),
        }
    }

    /// The record of `grant`, to be written before the token is signed.
    #[must_use]
    pub fn of_wit(grant: &Grant<IssueWit>) -> Self {
        let act = grant.act();
        Self::WitSvidIssued {
            subject: act.contents.subject.clone(),
            ttl: act.contents.ttl,
            key: KeyDigest::of_spki(act.contents.key.spki()),
            entry: act.entry.clone(),
            requester: act.requester.clone(),
            policy: grant.policy(),
            decided: Some(Box::new(grant.decided().clone())),
        }
    }

    /// The record of `grant`, to be written before the token is signed.
    #[must_use]
    pub fn of_ear(grant: &Grant<IssueEar>) -> Self {
        let IssueEar { contents, requester } = grant.act();
        Self::EarIssued {
            agent: contents.agent.clone(),
            appraised_at: contents.appraised_at,
            appraisal: contents.appraisal.clone(),
            ttl: contents.ttl,
            requester: requester.clone(),
            policy: grant.policy(),
            decided: Some(Box::new(grant.decided().clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{
        Action, Context, Decision, Obligations, Parameter, Party, Question, Resource, Verdict,
    };

    /// Computed with Python's `hashlib`; see `tests/vectors/psk.py`.
    #[test]
    fn layouts_are_pinned() {
        let vectors = include_str!("../../../tests/vectors/psk.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let time = UnixTime::from_secs(1_800_000_000);
        let body = Body { time, event: Event::ServerStarted { epoch: 1 } };
        let body = serde_json::to_string(&body).unwrap();
        assert_eq!(body, vectors["audit_body"].as_str().unwrap());
        let leaf = crate::audit::TreeHash::of_leaf(body.as_bytes());
        assert_eq!(leaf.to_string(), vectors["audit_leaf"].as_str().unwrap());
    }

    #[test]
    fn records_of_the_first_version_are_of_certificates() {
        let key = "00".repeat(32);
        let old = format!(r#"{{"time":7,"event":"authority_activated","key":"{key}"}}"#);
        let event = serde_json::from_str::<Body>(&old).unwrap().event;
        let profile = Profile::X509;
        let key = serde_json::from_value(key.into()).unwrap();
        assert_eq!(event, Event::AuthorityActivated { profile, key });
    }

    /// What a policy later sees of it as `tier` is "none".
    #[test]
    fn evidence_of_the_first_versions_is_of_no_tier() {
        let old = r#"{"evidence":{"id":"spiffe://x/a","kind":"oidc","bond":"bearer"}}"#;
        let Requester::Evidence { tier, .. } = serde_json::from_str(old).unwrap() else {
            panic!("it is evidence")
        };
        assert_eq!(tier, crate::evidence::Tier::None);
    }

    fn decided() -> Box<Decided> {
        let question = Question {
            principal: Party::new("spiffe://x/a".parse().unwrap()),
            action: Action::Call("mail/send".parse().unwrap()),
            resource: Resource::Tool("mail/send".parse().unwrap()),
            context: Context {
                time: UnixTime::from_secs(7),
                parameters: [("to".to_owned(), Parameter::Number(i64::MIN))].into(),
                ..Context::default()
            },
        };
        let decision = Decision {
            verdict: Verdict::Observe,
            policy: PolicyDigest::of(b"p"),
            policies: vec!["a.cedar#b".to_owned()],
            reasons: Vec::new(),
            observed: Vec::new(),
            errors: Vec::new(),
            obligations: Obligations::default(),
        };
        Box::new(Decided { question, decision })
    }

    #[test]
    fn a_record_holds_all_that_a_decision_depends_on_and_the_old_ones_are_read_without() {
        let requester = Some(Requester::Server);
        for event in [
            Event::Denied {
                decided: decided(),
                why: Why::Quarantined("spiffe://x/a".parse().unwrap()),
                requester: requester.clone(),
                times: 1,
                origin: Origin { prompt_id: Some("p1".to_owned()), ..Origin::default() },
            },
            Event::Observed { decided: decided(), requester, times: 7, origin: Origin::default() },
            Event::AnomalyFound {
                anomaly: Anomaly::Rate { times: 31, usual: 10 },
                decided: decided(),
                why: Some(Why::Policy),
                origin: Origin::default(),
            },
            Event::X509CaIssued {
                server: "spiffe://x/a".parse().unwrap(),
                ttl: SvidTtl::HOUR,
                key: KeyDigest::of_spki(b"k"),
                entry: "e".parse().unwrap(),
                policy: PolicyDigest::of(b"p"),
                decided: Some(decided()),
            },
        ] {
            let body = Body { time: UnixTime::from_secs(7), event };
            let json = serde_json::to_string(&body).unwrap();
            assert_eq!(serde_json::from_str::<Body>(&json).unwrap(), body, "{json}");
        }
        let policy = PolicyDigest::of(b"p");
        let old = format!(
            r#"{{"time":7,"event":"psk_issued","identity":"p1.x","client":"spiffe://x/a","server":"spiffe://x/b","purpose":"p","not_after":9,"hash":"sha256","requester":"server","policy":"{policy}"}}"#
        );
        let Event::PskIssued { decided, .. } = serde_json::from_str::<Body>(&old).unwrap().event
        else {
            panic!("{old}")
        };
        assert_eq!(decided, None);
    }

    #[test]
    fn a_body_survives_storage() {
        let body = Body {
            time: UnixTime::from_secs(7),
            event: Event::PskReplayed {
                identity: "p1.x".into(),
                binding: PskBinding {
                    client: "spiffe://x/a".parse().unwrap(),
                    server: "spiffe://x/b".parse().unwrap(),
                    purpose: "p".parse().unwrap(),
                    not_after: UnixTime::from_secs(9),
                    hash: crate::psk::PskHash::Sha256,
                    run: Some("github:8412:1".parse().unwrap()),
                    series: crate::psk::SeriesEpoch::from_wire("train", 3).unwrap(),
                    bits: Some(crate::psk::KeyBits::default()),
                },
                requester: Requester::Agent("spiffe://x/spire/agent/1".parse().unwrap()),
            },
        };
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<Body>(&json).unwrap(), body);
    }
}
