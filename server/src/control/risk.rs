//! `POST /v1/risk`: another system says how much an identity is risked.

use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::standing::Risk;
use serde::Serialize;

use super::Inner;
use super::refusal::Refusal;
use super::wire::Signal;
use crate::direct::wire::parse;
use crate::standings::{Change, Changed};

/// How it stands now.
#[derive(Serialize)]
pub(super) struct Answer {
    spiffe_id: SpiffeId,
    risk: Risk,
    quarantined: bool,
    /// The number of the change by which it stands so; 0 if nothing was ever said of it.
    version: u64,
    /// Whether it stood so already.
    unchanged: bool,
}

pub(super) async fn signal(
    door: &Inner,
    caller: &SpiffeId,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let Signal { spiffe_id, risk, quarantine, reason } = parse(body)?;
    let change = match (risk, quarantine) {
        (Some(risk), None) => Change::Risk(risk),
        (None, Some(true)) => Change::Quarantine,
        (None, Some(false)) => Change::Lift,
        (None, None) | (Some(_), Some(_)) => {
            return Err(Refusal::malformed("risk", "send either `risk` or `quarantine`"));
        }
    };
    door.shared.policy.may_signal(caller, &spiffe_id).map_err(Refusal::Denied)?;
    if !door.shared.registry.is_registered(&spiffe_id) && !spiffe_id.is_reserved() {
        return Err(Refusal::Unknown(spiffe_id));
    }

    // Recorded with the change.
    let standings = &door.shared.storage.standings;
    let said = Requester::Peer(caller.clone());
    let changed = standings.change(&spiffe_id, change, reason, said).await;
    let changed = changed.map_err(Refusal::Standing)?;

    let standing = changed.record().map(|record| record.standing).unwrap_or_default();
    Ok(Answer {
        spiffe_id,
        risk: standing.risk,
        quarantined: standing.quarantined,
        version: standing.version,
        unchanged: matches!(changed, Changed::Already(_)),
    })
}
