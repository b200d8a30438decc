//! Who asks, and about whom.

use claviger_attestors::workload::AttestError;
use claviger_core::selector::Selectors;
use claviger_runtime::unix::Peer;

use crate::attestation::Attestation;
use crate::streams::Subject;

/// A request by one process about another.
#[derive(Debug)]
pub(super) struct Delegation {
    pub(super) caller: Peer,
    pub(super) about: About,
}

/// Whom a request is about.
#[derive(Debug)]
pub(super) enum About {
    /// A process. It stays the same one whoever gets its number next.
    Process(Peer),
    /// Whoever has these facts.
    Facts(Selectors),
    /// Nobody in particular.
    Nobody,
}

/// What was found out about both.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) caller: Selectors,
    pub(super) about: Selectors,
}

impl Delegation {
    /// Whether one of them is gone.
    pub(super) fn has_ended(&self) -> bool {
        let about = matches!(&self.about, About::Process(process) if process.has_exited());
        about || self.caller.has_changed()
    }
}

impl Subject for Delegation {
    type Facts = Parties;

    async fn facts(&self, attestation: &Attestation) -> Result<Parties, AttestError> {
        let caller = attestation.facts(&self.caller).await?;
        let about = match &self.about {
            About::Process(process) => attestation.facts(process).await?,
            About::Facts(facts) => facts.clone(),
            About::Nobody => Selectors::new(),
        };
        Ok(Parties { caller, about })
    }

    async fn changed(&self, attestation: &Attestation, facts: &Parties) {
        let caller = attestation.changed(&self.caller, &facts.caller);
        match &self.about {
            About::Process(process) => tokio::select! {
                () = attestation.changed(process, &facts.about) => {}
                () = caller => {}
            },
            About::Facts(_) | About::Nobody => caller.await,
        }
    }

    async fn ended(&self) {
        match &self.about {
            About::Process(process) => tokio::select! {
                () = process.exited() => {}
                () = self.caller.exited() => {}
            },
            About::Facts(_) | About::Nobody => self.caller.exited().await,
        }
    }
}
