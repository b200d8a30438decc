//! The user, groups and program of a local process, as its kernel tells them.
//!
//! | to find | look in |
//! |---|---|
//! | what the kernel says about a process | `process` |
//! | which file a program is, and whether its path is its own | `program` |
//! | the SHA-256 of a program, and which of them are remembered | `digests` |
//! | the names of users and groups | `accounts` |
//!
//! There is no verifier: the agent reads the facts itself and believes its kernel.

mod accounts;
mod digests;
mod process;
mod program;

use std::sync::Arc;
use std::time::Duration;

use claviger_core::selector::{Selector, Selectors};
use claviger_core::time::Clock;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::workload::{self, AttestError, Caller};
use accounts::Accounts;
use digests::{Digest, Digests, Known};
use process::{Credentials, Process};
pub(crate) use program::FileId;
use program::{Effort, Program, WouldWait};

/// The kind of these facts.
pub const KIND: &str = "unix";

/// What an operator can set.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Programs larger than this have no `sha256`, in bytes: reading them would take too long.
    pub max_program_size: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_program_size: 512 << 20 }
    }
}

/// Finds out the facts about local processes.
#[derive(Debug)]
pub struct Attestor {
    accounts: Arc<Accounts>,
    digests: Arc<Digests>,
    lanes: [Lane; LANES],
}

/// The work under way for some of the users. A user whose programs lie on a file system that never
/// answers holds up only those who share the lane.
#[derive(Debug)]
struct Lane {
    /// How many processes are looked at.
    looks: Arc<Semaphore>,
    /// How many programs are read from end to end.
    reads: Arc<Semaphore>,
}

const LANES: usize = 16;

/// In each lane. With all lanes full, 144 of the runtime's 512 blocking threads are taken.
const LOOKS: usize = 8;
const READS: usize = 1;

/// For everything about one process, waiting included.
const DEADLINE: Duration = Duration::from_secs(30);

impl Attestor {
    /// An attestor that knows no program yet.
    #[must_use]
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            accounts: Arc::new(Accounts::of_this_machine()),
            digests: Arc::new(Digests::new(config.max_program_size, clock)),
            lanes: std::array::from_fn(|_| Lane {
                looks: Arc::new(Semaphore::new(LOOKS)),
                reads: Arc::new(Semaphore::new(READS)),
            }),
        }
    }

    /// The facts about `caller`. `has_exited` says whether the process that the kernel named has
    /// ended. It is asked last: if the process still runs, its number was its own all the time, and
    /// so are the facts.
    ///
    /// A fact that can't be read is left out. That entitles to less, never to more.
    ///
    /// # Errors
    ///
    /// [`AttestError`] if the process ended, changed under our eyes or can't be looked at now.
    pub async fn attest(
        &self,
        caller: Caller,
        has_exited: impl Fn() -> bool,
    ) -> Result<Selectors, AttestError> {
        let facts = tokio::time::timeout(DEADLINE, self.facts(caller)).await;
        // What was read about an ended process is about nobody; errors included.
        if has_exited() {
            return Err(AttestError::Exited);
        }
        facts.map_err(|_elapsed| AttestError::TimedOut)?
    }

    async fn facts(&self, caller: Caller) -> Result<Selectors, AttestError> {
        let lane = self.lane(caller.uid);
        // Nearly every caller runs a program that is known. Then there is nothing to wait for, and
        // no other thread needs to be woken.
        let look = Look::at(caller, &self.accounts, &self.digests, Effort::InMemory)?;
        let look = match look {
            Look::WouldWait => {
                let (accounts, digests) = (Arc::clone(&self.accounts), Arc::clone(&self.digests));
                let again = move || Look::at(caller, &accounts, &digests, Effort::Wait);
                blocking(&lane.looks, again).await?
            }
            Look::Facts(_) | Look::Unread(_) => look,
        };
        let unread = match look {
            Look::Facts(facts) => return Ok(facts),
            Look::Unread(sight) => sight,
            Look::WouldWait => return Err(AttestError::TimedOut),
        };
        let digests = Arc::clone(&self.digests);
        blocking(&lane.reads, move || {
            let digest = unread.digest(&digests)?;
            unread.finish(digest, Effort::Wait)
        })
        .await
    }

    fn lane(&self, uid: u32) -> &Lane {
        let [first, ..] = &self.lanes;
        let at = usize::try_from(uid).unwrap_or_default() % LANES;
        self.lanes.get(at).unwrap_or(first)
    }
}

/// Runs `work` where it may wait for a disk, as soon as `slots` has room. Work that nobody waits for
/// any more keeps its slot until it is done.
async fn blocking<T: Send + 'static>(
    slots: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, AttestError> + Send + 'static,
) -> Result<T, AttestError> {
    let stopping = || AttestError::Stopping;
    let slot = Arc::clone(slots).acquire_owned().await.map_err(|_closed| stopping())?;
    let work = spawn_blocking(move || {
        let done = work();
        drop(slot);
        done
    });
    work.await.map_err(|_cancelled| stopping())?
}

/// What came of looking at a process.
enum Look {
    /// All there is to know.
    Facts(Selectors),
    /// All but the digest of a program that has to be read first.
    Unread(Sight),
    /// It takes more effort.
    WouldWait,
}

impl Look {
    fn at(
        caller: Caller,
        accounts: &Accounts,
        digests: &Digests,
        effort: Effort,
    ) -> Result<Self, AttestError> {
        let Some(sight) = Sight::of(caller, accounts, effort)? else { return Ok(Self::WouldWait) };
        match sight.program.as_ref().map(|program| digests.find(program, caller.since)) {
            Some(Known::No) => Ok(Self::Unread(sight)),
            Some(Known::Digest(digest)) => sight.finish(Some(digest), effort).map(Self::Facts),
            Some(Known::TooLarge) | None => sight.finish(None, effort).map(Self::Facts),
        }
    }
}

/// What was seen of a process.
struct Sight {
    process: Process,
    facts: Selectors,
    program: Option<Program>,
    since: Option<Instant>,
}

impl Sight {
    /// Looks at a process; nothing is seen if that takes more effort.
    fn of(
        caller: Caller,
        accounts: &Accounts,
        effort: Effort,
    ) -> Result<Option<Self>, AttestError> {
        let process = Process::open(caller.pid)?;
        let credentials = process.credentials()?;
        if (credentials.uid, credentials.gid) != (caller.uid, caller.gid) {
            return Err(AttestError::OtherUser);
        }
        let program = process.program(effort)?;
        let mut facts = credential_facts(&credentials, accounts);
        if let Some(program) = &program {
            match program.own_path(effort) {
                Ok(path) => facts.extend(path.and_then(|path| fact("path", path))),
                Err(WouldWait) => return Ok(None),
            }
        }
        Ok(Some(Self { process, facts, program, since: caller.since }))
    }

    /// The SHA-256 of the program, read from end to end, if we may read it.
    fn digest(&self, digests: &Digests) -> Result<Option<Digest>, AttestError> {
        let Some(program) = &self.program else { return Ok(None) };
        match self.process.read_program()? {
            Some(file) => digests.read(&file, program, self.since).map(Some),
            None => Ok(None),
        }
    }

    /// All facts, if the process still runs the program that was looked at.
    fn finish(mut self, digest: Option<Digest>, effort: Effort) -> Result<Selectors, AttestError> {
        if self.process.program_id(effort)? != self.program.as_ref().map(Program::id) {
            return Err(AttestError::OtherProgram);
        }
        self.facts.extend(digest.and_then(|digest| fact("sha256", hex::encode(digest))));
        Ok(self.facts)
    }
}

fn credential_facts(credentials: &Credentials, accounts: &Accounts) -> Selectors {
    let Credentials { uid, gid, groups } = credentials;
    let names = accounts.now();
    let mut facts = Selectors::new();
    facts.extend(fact("uid", uid));
    facts.extend(names.user(*uid).and_then(|name| fact("user", name)));
    facts.extend(fact("gid", gid));
    facts.extend(names.group(*gid).and_then(|name| fact("group", name)));
    for gid in groups {
        facts.extend(fact("supplementary_gid", gid));
        facts.extend(names.group(*gid).and_then(|name| fact("supplementary_group", name)));
    }
    facts
}

/// The selector `unix:name:value`, unless no selector can say it.
fn fact(name: &str, value: impl std::fmt::Display) -> Option<Selector> {
    workload::fact(KIND, name, value)
}

#[cfg(test)]
mod tests;
