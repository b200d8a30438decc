//! Deciding at this end of a connection, by policies that the server signed, for as long as the
//! connection lasts.
//!
//! | to find | look in |
//! |---|---|
//! | whether a connection may begin, and what ends those that may not go on | here |
//! | the connections there are | `live` |
//! | what the agent says, as it changes | `follow` |
//! | how identities stand | `standings` |
//!
//! Both ends decide, each by itself. Without policies that are signed and in time, nothing may begin,
//! and what there is ends: an agent that is gone for longer than its policies last is no way around
//! them. How often a connection may be made, and whether a human has to approve of it, the server sees
//! to when it issues the key.

mod follow;
mod live;
mod standings;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_core::decision::{Action, Context, Party, Question, Resource, Transport, Verdict};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::psk::Purpose;
use claviger_core::time::Clock;
use claviger_policy::Local;
use claviger_policy::local::Undecided;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::SocketPathError;
use tokio::sync::watch;
use tracing::{info, warn};

use follow::Follower;
pub use live::Admitted;
use live::Live;
use standings::Standings;

/// The clock is asked again at least this often: it may be set, and the machine may sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Decides about connections, and ends those that may not go on. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Enforcer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: Local,
    standings: Arc<Standings>,
    live: Mutex<Live>,
    clock: Arc<dyn Clock>,
    /// Fires when policies change.
    policies: watch::Sender<()>,
}

impl Enforcer {
    /// Decides by what the agent behind the socket `agent` knows of `trust_domain`, with room for
    /// `most` connections at a time. One of `tasks` follows the agent, and comes back to it whenever
    /// it was away.
    ///
    /// # Errors
    ///
    /// [`SocketPathError`] if no socket can be there.
    pub fn follow(
        agent: PathBuf,
        trust_domain: TrustDomain,
        most: usize,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, SocketPathError> {
        let enforcer = Self::new(trust_domain, most, clock);
        let mut follower = Follower::new(enforcer.clone(), agent)?;
        let expiring = enforcer.clone();
        tasks.spawn("enforcer", |stop| async move {
            let both = async { tokio::join!(follower.run(), expiring.end_what_expires()) };
            stop.run_until_cancelled(both).await;
            Ok(())
        });
        Ok(enforcer)
    }

    fn new(trust_domain: TrustDomain, most: usize, clock: Arc<dyn Clock>) -> Self {
        let standings = Arc::<Standings>::default();
        let known: Arc<Standings> = Arc::clone(&standings);
        let local = Local::new(trust_domain, 0, known);
        let live = Mutex::new(Live::new(most));
        let policies = watch::Sender::new(());
        Self(Arc::new(Inner { local, standings, live, clock, policies }))
    }

    /// Waits until there are policies to decide by.
    pub async fn ready(&self) {
        let mut policies = self.0.policies.subscribe();
        // The sender is ours, and stays.
        drop(policies.wait_for(|()| self.0.local.policies().is_some()).await);
    }

    /// Fires when the policies change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.policies.subscribe()
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live().count()
    }

    /// Whether `client` may be connected to `server` for `purpose`, protected by `transport`. If so,
    /// what is returned is to be held for as long as the connection lasts, and says when it must end.
    ///
    /// # Errors
    ///
    /// [`Denied`] says why not. It is for the log, never for the peer.
    pub fn admit(
        &self,
        client: SpiffeId,
        server: SpiffeId,
        purpose: Purpose,
        transport: Option<Transport>,
    ) -> Result<Admitted, Denied> {
        let question = connect(client, server, purpose, transport);
        // Decided and entered at once, so that no change comes in between.
        let mut live = self.live();
        let decided = self.decide(&live, &question).and_then(|()| live.enter(question, self));
        drop(live);
        let outcome = if decided.is_ok() { "admitted" } else { "denied" };
        metrics::counter!("claviger_shim_connections_total", "outcome" => outcome).increment(1);
        decided
    }

    /// Whether `client` would be admitted to `server` for `purpose`, over a connection that nothing
    /// protects. Nothing begins by this, and nothing is counted.
    ///
    /// # Errors
    ///
    /// [`Denied`] says why not.
    pub fn would_admit(
        &self,
        client: SpiffeId,
        server: SpiffeId,
        purpose: Purpose,
    ) -> Result<(), Denied> {
        self.decide(&self.live(), &connect(client, server, purpose, None))
    }

    fn decide(&self, live: &Live, question: &Question) -> Result<(), Denied> {
        if live.nobody() {
            return Err(Denied::Nobody);
        }
        let decided = self.0.local.decide(question.clone(), self.0.clock.now())?.decision;
        match decided.verdict {
            Verdict::Permit => Ok(()),
            Verdict::Observe => {
                let (client, purpose) = (&question.principal.id, &question.context.purpose);
                info!(%client, ?purpose, policies = ?decided.policies, "let through to observe");
                Ok(())
            }
            Verdict::Deny => Err(Denied::Policy {
                policies: decided.policies,
                reasons: [decided.reasons, decided.errors].concat(),
            }),
        }
    }

    /// Asks again about every connection, or about those of which one end is `concerned`, and ends
    /// those that may not go on.
    fn ask_again(&self, concerned: Option<&BTreeSet<SpiffeId>>) {
        let mut live = self.live();
        let denied: Vec<_> = live
            .questions(concerned)
            .filter_map(|(number, question)| Some((number, self.decide(&live, question).err()?)))
            .collect();
        for (number, why) in denied {
            if let Some(Question { principal, resource, .. }) = live.end(number, &why) {
                let client = &principal.id;
                warn!(%client, ?resource, %why, "a connection has ended");
            }
            metrics::counter!("claviger_shim_connections_cut_total").increment(1);
        }
    }

    /// Ends what there is when the time of the policies is over. Never returns.
    async fn end_what_expires(&self) {
        let mut policies = self.0.policies.subscribe();
        loop {
            policies.mark_unchanged();
            let signed = self.0.local.policies();
            let left = signed
                .map(|signed| signed.announcement().expires_at.since(self.0.clock.now()))
                .filter(|left| !left.is_zero());
            let pause = async {
                match left {
                    Some(left) => tokio::time::sleep(left.min(LONGEST_SLEEP)).await,
                    None => std::future::pending().await,
                }
            };
            if left.is_none() {
                self.ask_again(None);
            }
            tokio::select! {
                _ = policies.changed() => {}
                () = pause => {}
            }
        }
    }

    /// The policies changed.
    fn policies_changed(&self) {
        self.ask_again(None);
        self.0.policies.send_replace(());
    }

    /// Whether the agent knows this process by an identity. Without one, nothing may be open.
    fn somebody(&self, somebody: bool) {
        if self.live().set_nobody(!somebody) && !somebody {
            self.ask_again(None);
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // What is done under it is whole before anything can fail.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `client` may be connected to `server`.
fn connect(
    client: SpiffeId,
    server: SpiffeId,
    purpose: Purpose,
    transport: Option<Transport>,
) -> Question {
    Question {
        principal: Party::new(client),
        action: Action::Connect,
        resource: Resource::Identity(Party::new(server)),
        context: Context { purpose: Some(purpose), transport, ..Context::default() },
    }
}

/// How a TLS 1.3 connection with the key exchange `group` is protected, as policies see it.
pub(crate) fn transport(group: &str) -> Transport {
    let post_quantum = group.to_ascii_uppercase().contains("MLKEM");
    Transport { tls: "1.3".to_owned(), group: group.to_owned(), post_quantum }
}

/// Why a connection may not be, or may not be any more.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// There is nothing to decide by, or one end is in quarantine.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// The policies do not permit it.
    #[error("the policies do not permit this connection{}", because(.policies, .reasons))]
    Policy {
        /// Those that forbid it; none if nothing permits it.
        policies: Vec<String>,
        /// What those say of themselves, and what was wrong with others.
        reasons: Vec<String>,
    },
    /// This process is nobody, or nobody any more.
    #[error("the agent knows this process by no identity")]
    Nobody,
    /// There are too many connections.
    #[error("there are {0} connections, and may be no more")]
    Full(usize),
}

fn because(policies: &[String], reasons: &[String]) -> String {
    let [by, why] = [policies, reasons].map(|texts| texts.join(", "));
    match (by.as_str(), why.as_str()) {
        ("", "") => ": nothing permits it".to_owned(),
        (by, "") => format!(": {by}"),
        ("", why) => format!(": {why}"),
        (by, why) => format!(": {by}: {why}"),
    }
}

#[cfg(test)]
mod tests;
