//! Risk and quarantine.

use std::collections::HashSet;
use std::time::Duration;

use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::standing::{Reason, Risk};
use claviger_proto::claviger::admin::v1::{
    ListStandingsRequest, ListStandingsResponse, SetStandingRequest, SetStandingResponse, Standing,
    set_standing_request,
};
use claviger_runtime::telemetry::Chain;
use futures_util::future::{join, join_all};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tracing::error;

use super::Service;
use crate::api::{PAGE, Shared, not_committed};
use crate::standings::{Change, Changed, Record, StandingError};

/// The longest wait for agents.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Puts an identity in quarantine, lifts it, or says how much it is risked.
pub(super) async fn set(
    service: &Service,
    operator: Requester,
    request: SetStandingRequest,
) -> Result<SetStandingResponse, Status> {
    let wait = Duration::from_millis(request.timeout_ms.into()).min(LONGEST_WAIT);
    let asked = Asked::try_from(request)?;
    let shared = service.shared.clone();
    let doing = async move { asked.done(&shared, operator, wait).await };
    let done = service.tasks.see_through("standing", doing).await;
    done.ok_or_else(|| Status::unavailable("the server is stopping"))?
}

/// What an operator wants.
struct Asked {
    id: SpiffeId,
    change: Change,
    reason: Reason,
}

impl TryFrom<SetStandingRequest> for Asked {
    type Error = Status;

    fn try_from(wire: SetStandingRequest) -> Result<Self, Status> {
        fn bad(field: &'static str, error: &impl ToString) -> Status {
            Status::invalid_argument(format!("{field}: {}", error.to_string()))
        }
        let id: SpiffeId = wire.spiffe_id.parse().map_err(|error| bad("spiffe_id", &error))?;
        if id.is_trust_domain() {
            return Err(bad(
                "spiffe_id",
                &"a whole trust domain has no standing; name an identity",
            ));
        }
        let reason = wire.reason.parse().map_err(|error| bad("reason", &error))?;
        let change = match wire.change() {
            set_standing_request::Change::Quarantine => Change::Quarantine,
            set_standing_request::Change::Lift => Change::Lift,
            set_standing_request::Change::Risk => {
                let risk = u8::try_from(wire.risk).ok().map(Risk::try_from);
                let risk = risk.and_then(Result::ok);
                let why = "is a whole number of percent, from 0 to 100";
                Change::Risk(risk.ok_or_else(|| bad("risk", &why))?)
            }
            set_standing_request::Change::Unspecified => {
                return Err(bad("change", &"is QUARANTINE, LIFT or RISK"));
            }
        };
        Ok(Self { id, change, reason })
    }
}

impl Asked {
    async fn done(
        self,
        shared: &Shared,
        operator: Requester,
        wait: Duration,
    ) -> Result<SetStandingResponse, Status> {
        let Self { id, change, reason } = self;
        let deadline = Instant::now() + wait;
        let changed =
            shared.storage.standings.change(&id, change, reason, operator.clone()).await?;
        let mut answer = SetStandingResponse {
            standing: changed.record().map(|record| to_wire(record)),
            unchanged: matches!(changed, Changed::Already(_)),
            ..SetStandingResponse::default()
        };
        let version = changed.record().map_or(0, |record| record.standing.version);
        let withdrawn = async {
            if change == Change::Quarantine {
                withdraw(shared, id, operator).await
            } else {
                (0, String::new())
            }
        };
        let (spread, withdrawn) = join(spread(shared, version, deadline), withdrawn).await;
        (answer.reached, answer.pending) = spread;
        (answer.revoked, answer.lacking) = withdrawn;
        Ok(answer)
    }
}

/// Which connected agents have taken it in by `deadline`, and which have not. An agent in quarantine is
/// told, and not asked.
async fn spread(shared: &Shared, version: u64, deadline: Instant) -> (Vec<String>, Vec<String>) {
    let mut waiting = shared.registry.waiting_for_standings(version);
    waiting.retain(|waiting| !shared.storage.standings.of(&waiting.agent).quarantined);
    let waits = waiting.into_iter().map(|mut waiting| async move {
        let reached = timeout_at(deadline, waiting.reached()).await;
        (waiting.agent.to_string(), reached.unwrap_or(false))
    });
    let (mut reached, mut pending) = (Vec::new(), Vec::new());
    for (agent, has) in join_all(waits).await {
        if has { reached.push(agent) } else { pending.push(agent) }
    }
    (reached, pending)
}

/// Revokes what the identity has. A quarantine holds without that, so it says what lacks.
async fn withdraw(shared: &Shared, id: SpiffeId, operator: Requester) -> (u32, String) {
    let withdrawn = shared.revocations.withdraw(&HashSet::from([id]), operator).await;
    match withdrawn {
        Ok(withdrawn) if withdrawn.left_out == 0 => (count(withdrawn.listed), String::new()),
        Ok(withdrawn) => {
            let left_out = withdrawn.left_out;
            let lacking = format!(
                "the revocation lists are full: {left_out} X.509-SVIDs of it are not on them, and end by \
                 themselves"
            );
            (count(withdrawn.listed), lacking)
        }
        Err(error) => {
            error!(error = %Chain(&error), "cannot revoke the SVIDs of a quarantined identity");
            (0, format!("its X.509-SVIDs are not on the revocation lists: {}", Chain(&error)))
        }
    }
}

/// How identities stand.
pub(super) fn list(service: &Service, request: &ListStandingsRequest) -> ListStandingsResponse {
    let (records, _version) = service.shared.storage.standings.since(request.after);
    let mut wanted = records.iter().filter(|one| one.standing.quarantined || !request.quarantined);
    let standings: Vec<_> = wanted.by_ref().take(PAGE).map(|record| to_wire(record)).collect();
    let last = standings.last().map_or(0, |last| last.version);
    let next = if wanted.next().is_some() { last } else { 0 };
    ListStandingsResponse { standings, next }
}

fn to_wire(record: &Record) -> Standing {
    Standing {
        spiffe_id: record.id.to_string(),
        risk: record.standing.risk.percent().into(),
        quarantined: record.standing.quarantined,
        reason: record.reason.to_string(),
        by: by(&record.requester),
        changed_at: record.standing.changed_at.as_secs(),
        version: record.standing.version,
    }
}

fn by(requester: &Requester) -> String {
    match requester {
        Requester::Agent(id)
        | Requester::Admin(id)
        | Requester::Peer(id)
        | Requester::Evidence { id, .. } => id.to_string(),
        Requester::Operator { uid } => format!("uid {uid}"),
        Requester::Server => "the server".to_owned(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl From<StandingError> for Status {
    fn from(error: StandingError) -> Self {
        match &error {
            StandingError::Oneself(_) | StandingError::NotQuarantined(_) => {
                Self::failed_precondition(error.to_string())
            }
            StandingError::Full => Self::resource_exhausted(error.to_string()),
            StandingError::Commit(error) => not_committed(error),
        }
    }
}
