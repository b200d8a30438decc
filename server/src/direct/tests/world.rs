//! What a server shares, a verifier that believes what it is told, and requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use claviger_attestors::{Challenged, NodeClaim, NodeVerifier, VerifyError};
use claviger_core::audit::{Body, Event};
use claviger_core::bundle::Bundle;
use claviger_core::entry::Entry;
use claviger_core::evidence::{AttestedNode, Bond, KeyDigest};
use claviger_core::grant::Requester;
use claviger_core::time::Clock;
use claviger_policy::{PolicySet, Source};
use claviger_runtime::slots::Slot;
use claviger_runtime::tasks::Tasks;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::super::*;
use super::tee::Tee;
use crate::api::issuance::Issuance;
use crate::audit::{AuditRecord, read};
use crate::ca::revocation::Revocations;
use crate::ca::rotation::Rotation;
use crate::config::Config;
use crate::epoch::Doubt;
use crate::load::Load;
use crate::policy::announce::Announcer;
use crate::policy::folder::Folder;
use crate::policy::{Policies, Record};
use crate::registry::{Registry, fixture};
use crate::storage::Storage;
use crate::storage::fixture::{NOW, TestClock};

/// What the verifier of these tests is told: a line of words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    pub(super) run: &'static str,
    pub(super) repository: &'static str,
    /// Works once.
    pub(super) jti: Option<&'static str>,
    /// What becomes of it.
    pub(super) verdict: &'static str,
}

impl Evidence {
    pub(super) fn of(run: &'static str) -> Self {
        Self { run, repository: "acme/app", jti: None, verdict: "fine" }
    }

    pub(super) fn text(&self) -> String {
        let Self { run, repository, jti, verdict } = self;
        format!("{verdict},{run},{repository},{}", jti.unwrap_or_default())
    }
}

/// Believes what it is told, once.
#[derive(Debug, Default)]
struct Believer(Mutex<HashMap<String, KeyDigest>>);

#[async_trait]
impl NodeVerifier for Believer {
    fn kind(&self) -> &'static str {
        "oidc"
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let text = str::from_utf8(claim.evidence).map_err(|_binary| VerifyError::Malformed)?;
        let words: Vec<_> = text.split(',').collect();
        let [verdict, run, repository, jti] = words[..] else { return Err(VerifyError::Malformed) };
        match verdict {
            "forged" => return Err(VerifyError::not_genuine("bad signature of SECRET")),
            "away" => return Err(VerifyError::Unavailable("no keys".into())),
            "talk" => drop(node.answer(Vec::new()).await?),
            _ => {}
        }
        let mut used = self.0.lock().unwrap();
        if !jti.is_empty() && *used.entry(jti.to_owned()).or_insert(*claim.key) != *claim.key {
            return Err(VerifyError::not_genuine("replayed"));
        }
        let id = fixture::id(&format!("/spire/agent/oidc/{run}"));
        let selectors = [format!("oidc:repository:{repository}").parse().unwrap()].into();
        let node = AttestedNode::assertion("oidc", id, selectors, verdict != "once", Bond::Bearer);
        Ok(node.in_run(Some(format!("ci:{run}").parse().unwrap())))
    }
}

pub(super) struct World {
    _dir: tempfile::TempDir,
    _tasks: Tasks,
    clock: Arc<TestClock>,
    pub(super) shared: Shared,
    direct: Direct,
}

/// An answer, read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: http::HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The status and the name of the problem.
    #[track_caller]
    pub(super) fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], self.status.as_u16());
        let kind = self.body["type"].as_str().unwrap();
        (self.status.as_u16(), kind.strip_prefix("urn:claviger:problem:").unwrap())
    }

    pub(super) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap()
    }
}

impl World {
    /// With the built-in policy.
    pub(super) async fn start() -> Self {
        Self::with(Source::built_in()).await
    }

    /// With a policy that permits nothing.
    pub(super) async fn denying() -> Self {
        let nothing = "forbid (principal, action, resource);".to_owned();
        Self::with(Source::new(vec![("nothing.cedar".to_owned(), nothing)])).await
    }

    async fn with(source: Source) -> Self {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::default());
        let test_clock = TestClock::at(NOW);
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&test_clock);
        let config = Config::new(fixture::domain(), dir.path().join("data"));
        let domain = config.trust_domain.clone();
        let storage =
            Storage::open(&config.data_dir, Arc::clone(&clock), &domain, &tasks).await.unwrap();
        let (keys, journal) = (storage.directory.keys(), storage.journal.clone());
        let (_rotation, authority) =
            Rotation::open(keys.clone(), &config, journal.clone(), Arc::clone(&clock))
                .await
                .unwrap();
        let limits = config.limits;
        let registry =
            Registry::open(domain.clone(), limits, journal.clone(), Arc::clone(&clock), &tasks)
                .await
                .unwrap();
        let bundle = authority.bundle();
        let revocations =
            Revocations::open(keys, journal.clone(), Arc::clone(&clock), bundle).await.unwrap();
        let (set, known) = (PolicySet::compile(source).unwrap(), Arc::new(registry.clone()));
        let policy = {
            let (standings, clock) = (storage.standings.clone(), Arc::clone(&clock));
            let record = Record::start(storage.journal.clone(), &tasks);
            Policies::new(set, domain, known, standings, clock, record)
        };
        let load = Load::new(limits.rates);
        let issuance = {
            let (policy, standings) = (policy.clone(), storage.standings.clone());
            let (load, clock) = (load.clone(), Arc::clone(&clock));
            Issuance { policy, journal, authority, standings, load, clock }
        };
        let folder = Folder::nowhere(policy.clone(), storage.journal.clone(), Arc::clone(&clock));
        let announcer = Announcer::open(
            &policy,
            issuance.authority.clone(),
            issuance.journal.clone(),
            Arc::clone(&clock),
            config.policy_ttl,
        );
        let announcements = announcer.await.unwrap().announcements();
        let shared = Shared {
            registry,
            storage,
            policy,
            folder,
            announcements,
            issuance,
            revocations,
            admin_ids: Arc::default(),
            load,
            clock,
        };
        let verifiers = Verifiers::of(vec![Box::<Believer>::default(), Box::new(Tee)]);
        let psks = Issuer::new(shared.clone());
        let direct = Direct::new(shared.clone(), verifiers, Lifetimes::of(&config), psks);
        let world = Self { _dir: dir, _tasks: tasks, clock: test_clock, shared, direct };
        world.register("ci", "/ci", "oidc:repository:acme/app").await;
        world.create(fixture::entry("store", "/spire/agent/x", "/store", "unix:uid:1")).await;
        world
    }

    /// A request that is being worked on.
    pub(super) fn busy(&self) -> Slot<Option<IpAddr>> {
        self.direct.0.working.take(Some([127, 0, 0, 1].into())).unwrap()
    }

    /// Time passes.
    pub(super) fn advance(&self, secs: u64) {
        self.clock.set(self.clock.now().as_secs() + secs);
    }

    /// A new epoch of the ledger begins.
    pub(super) async fn fence(&self) {
        let epochs = self.shared.storage.ledger.epochs();
        epochs.fence(epochs.current().number, &Doubt::FirstStart).await.unwrap();
    }

    /// An entry under the server itself.
    pub(super) async fn register(&self, name: &str, identity: &str, selector: &str) {
        self.create(fixture::entry(name, "/spire/server", identity, selector)).await;
    }

    pub(super) async fn create(&self, entry: Entry) {
        let created = self.shared.registry.create(vec![entry], &Requester::Server).await.unwrap();
        assert!(created.iter().all(Result::is_ok));
    }

    pub(super) fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.shared.issuance.authority.bundle().borrow())
    }

    pub(super) async fn events(&self) -> Vec<Event> {
        let records = read(&**self.shared.storage.journal.store(), 1, 100).await.unwrap();
        let body = |record: AuditRecord| serde_json::from_slice::<Body>(&record.body).unwrap();
        records.into_iter().map(|record| body(record).event).collect()
    }

    /// With `evidence` as the bearer token.
    pub(super) async fn post(&self, path: &str, evidence: &Evidence, body: Value) -> Answer {
        let token = format!("Bearer {}", evidence.text());
        self.send(path, &[("authorization", &token)], &body.to_string()).await
    }

    pub(super) async fn post_alone(&self, path: &str, body: Value) -> Answer {
        self.send(path, &[], &body.to_string()).await
    }

    pub(super) async fn send(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
    }

    pub(super) async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        let caller = Some([127, 0, 0, 1].into());
        let (head, body) = self.direct.answer(request, caller).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: head.status, headers: head.headers, body }
    }
}
