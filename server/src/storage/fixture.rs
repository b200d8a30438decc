//! Storage for tests: a clock that obeys, a store that lies in memory, and grants out of nowhere.

#[path = "../../../tests/power/cuts.rs"]
pub(crate) mod cuts;

pub(crate) use cuts::dice;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger_core::decision::{
    Action, Context, Decided, Decision, Obligations, Party, Question, Resource, Verdict,
};
use claviger_core::grant::{Grant, IssuePsk, PolicyDigest, PskProof, RedeemPsk, Requester};
use claviger_core::psk::{PskBinding, PskHash};
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::tasks::{Drain, Tasks};

use super::directory::{ClaimError, DataDirectory};
use super::wrapping::WrappingKey;
use super::{Kept, OpenError, Storage};
use crate::store::Store;

/// A clock that shows what it is told.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn at(seconds: u64) -> Arc<Self> {
        Arc::new(Self(seconds.into()))
    }

    pub(crate) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// When tests happen.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A server's storage and the tasks behind it.
pub(crate) struct Life {
    pub(crate) storage: Storage,
    pub(crate) tasks: Tasks,
}

impl Life {
    /// Opens the embedded storage in `path`.
    pub(crate) async fn embedded(path: &Path, clock: &Arc<TestClock>) -> Result<Self, OpenError> {
        let tasks = Tasks::default();
        wait_for(path);
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
        let domain = "example.org".parse().unwrap();
        let storage = Storage::open(path, clock, &domain, &tasks).await?;
        Ok(Self { storage, tasks })
    }

    /// Opens the storage over `store`, with its keys and witness in `path`.
    pub(crate) async fn over(
        store: Arc<dyn Store>,
        path: &Path,
        clock: &Arc<TestClock>,
    ) -> Result<Self, OpenError> {
        wait_for(path);
        Self::keeping(Kept { store, directory: DataDirectory::claim(path)?, wrapping: None }, clock)
            .await
    }

    /// Opens the storage over `store`, which others share, with what is its own in `path`.
    pub(crate) async fn shared(
        store: Arc<dyn Store>,
        path: &Path,
        clock: &Arc<TestClock>,
    ) -> Result<Self, OpenError> {
        let wrapping = Some(Arc::new(WrappingKey::of_tests()));
        Self::keeping(Kept { store, directory: DataDirectory::claim(path)?, wrapping }, clock).await
    }

    async fn keeping(kept: Kept, clock: &Arc<TestClock>) -> Result<Self, OpenError> {
        let tasks = Tasks::default();
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
        let domain = "example.org".parse().unwrap();
        let storage = Storage::open_with(kept, clock, &domain, &tasks).await?;
        Ok(Self { storage, tasks })
    }

    /// Stops in good order.
    pub(crate) async fn stop(self) {
        assert_eq!(self.ended().await, Drain::Clean);
    }

    /// Asks it to stop, and says how that went.
    pub(crate) async fn ended(self) -> Drain {
        let Self { storage, tasks } = self;
        drop(storage);
        tasks.stop();
        tasks.drained(Duration::from_secs(30)).await
    }
}

/// Another test may be starting a process at this moment, which has all our files, and so the lock of a
/// server that is gone, until its program begins.
#[expect(
    clippy::disallowed_methods,
    reason = "time may be paused, and this waits for another process"
)]
fn wait_for(path: &Path) {
    for _attempt in 0..20 {
        if !matches!(DataDirectory::claim(path), Err(ClaimError::InUse { .. })) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A binding that ends `ttl` seconds after [`NOW`].
pub(crate) fn binding(ttl: u64) -> PskBinding {
    PskBinding {
        client: "spiffe://example.org/client".parse().unwrap(),
        server: "spiffe://example.org/server".parse().unwrap(),
        purpose: "checkout".parse().unwrap(),
        not_after: UnixTime::from_secs(NOW + ttl),
        hash: PskHash::Sha256,
        run: None,
        series: None,
        bits: None,
    }
}

pub(crate) fn requester() -> Requester {
    Requester::Agent("spiffe://example.org/spire/agent/a".parse().unwrap())
}

pub(crate) fn issue(binding: PskBinding) -> Grant<IssuePsk> {
    let act = IssuePsk { binding, requester: requester() };
    Grant::assertion(act, decided())
}

pub(crate) fn redemption(binding: PskBinding, proof: PskProof) -> Grant<RedeemPsk> {
    let act = RedeemPsk { binding, requester: requester(), proof };
    Grant::assertion(act, decided())
}

/// A decision of policies that are none.
pub(crate) fn decided() -> Box<Decided> {
    let id = "spiffe://example.org/client".parse().unwrap();
    let question = Question {
        principal: Party::new(id),
        action: Action::IssueX509,
        resource: Resource::TrustDomain("example.org".parse().unwrap()),
        context: Context::default(),
    };
    let decision = Decision {
        verdict: Verdict::Permit,
        policy: PolicyDigest::of(b"test"),
        policies: vec!["test.cedar#policy0".to_owned()],
        reasons: Vec::new(),
        observed: Vec::new(),
        errors: Vec::new(),
        obligations: Obligations::default(),
    };
    Box::new(Decided { question, decision })
}
