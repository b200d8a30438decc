//! A server's storage, and one-time keys in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::decision::{
    Action, Context, Decided, Decision, Obligations, Party, Question, Resource, Verdict,
};
use claviger_core::grant::{Grant, IssuePsk, PolicyDigest, PskProof, RedeemPsk, Requester};
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskBinding, PskHash, binder};
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::tasks::{Drain, Tasks};
use claviger_server::config::DatabaseConfig;
use claviger_server::ledger::psk::{AttemptId, Minted};
use claviger_server::policy::Met;
use claviger_server::storage::Storage;

use crate::{Pace, pace};

/// When all of this happens: nothing expires meanwhile.
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// How many are minted in one go.
const AT_ONCE: usize = 64;

const TRANSCRIPT: [u8; 32] = [3; 32];

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> UnixTime {
        NOW
    }
}

/// What a server remembers, without its doors.
pub(crate) struct Server {
    pub(crate) storage: Storage,
    tasks: Tasks,
}

impl Server {
    /// One with the embedded store in `dir`.
    pub(crate) async fn embedded(dir: &Path) -> Self {
        let (domain, tasks) = ("example.org".parse().unwrap(), Tasks::default());
        let storage = Storage::open(dir, Arc::new(Still), &domain, &tasks).await.unwrap();
        Self { storage, tasks }
    }

    /// One with the `database`, and what is its own in `dir`.
    pub(crate) async fn shared(dir: &Path, database: &DatabaseConfig) -> Self {
        let (domain, tasks) = ("example.org".parse().unwrap(), Tasks::default());
        let opening = Storage::open_shared(dir, database, Arc::new(Still), &domain, &tasks);
        Self { storage: opening.await.unwrap(), tasks }
    }

    /// Mints about so many keys.
    pub(crate) async fn mint(&self, count: usize) -> Vec<Offered> {
        let mut minted = Vec::with_capacity(count);
        while minted.len() < count {
            let wanted = (0..AT_ONCE).map(|_| (issue(), Met::nothing())).collect();
            let all = self.storage.ledger.mint_all(wanted).await.unwrap();
            minted.extend(all.into_iter().map(Offered::from));
        }
        minted
    }

    /// Ends in good order.
    pub(crate) async fn stop(self) {
        drop(self.storage);
        self.tasks.stop();
        assert_eq!(self.tasks.drained(Duration::from_secs(60)).await, Drain::Clean);
    }
}

/// A key, and what its acceptor was shown and permitted.
pub(crate) struct Offered {
    identity: WireIdentity,
    grant: Grant<RedeemPsk>,
}

impl From<Minted> for Offered {
    fn from(minted: Minted) -> Self {
        let binder = binder::compute(&minted.base.psk(&binding()), &TRANSCRIPT);
        let proof = PskProof::Binder { transcript: TRANSCRIPT, binder };
        let act = RedeemPsk { binding: binding(), requester: requester(), proof };
        Self { identity: minted.identity, grant: Grant::assertion(act, decided()) }
    }
}

/// How fast the keys that are `offered` are redeemed.
pub(crate) async fn redeem(server: &Server, offered: Vec<Offered>) -> Pace {
    let storage = server.storage.clone();
    pace(offered, move |Offered { identity, grant }| {
        let ledger = storage.ledger.clone();
        async move {
            let found = ledger.find(identity).await.unwrap();
            let attempt = AttemptId::from_bytes(*identity.as_bytes());
            ledger.redeem(found, grant, attempt).await.unwrap();
        }
    })
    .await
}

fn issue() -> Grant<IssuePsk> {
    Grant::assertion(IssuePsk { binding: binding(), requester: requester() }, decided())
}

fn binding() -> PskBinding {
    PskBinding {
        client: "spiffe://example.org/client".parse().unwrap(),
        server: "spiffe://example.org/server".parse().unwrap(),
        purpose: "checkout".parse().unwrap(),
        not_after: NOW.after(Duration::from_secs(290)),
        hash: PskHash::Sha256,
        run: None,
        series: None,
        bits: None,
    }
}

fn requester() -> Requester {
    Requester::Agent("spiffe://example.org/spire/agent/a".parse().unwrap())
}

/// No policy is asked here: a permit, as one of them says it.
fn decided() -> Box<Decided> {
    let question = Question {
        principal: Party::new("spiffe://example.org/client".parse().unwrap()),
        action: Action::IssueX509,
        resource: Resource::TrustDomain("example.org".parse().unwrap()),
        context: Context::default(),
    };
    let decision = Decision {
        verdict: Verdict::Permit,
        policy: PolicyDigest::of(b"benchmark"),
        policies: vec!["benchmark.cedar#policy0".to_owned()],
        reasons: Vec::new(),
        observed: Vec::new(),
        errors: Vec::new(),
        obligations: Obligations::default(),
    };
    Box::new(Decided { question, decision })
}
