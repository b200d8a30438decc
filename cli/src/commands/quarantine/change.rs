//! Changing how an identity stands, and seeing it arrive.

use std::fmt;
use std::time::Duration;

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_core::standing::Reason;
use claviger_proto::claviger::admin::v1::set_standing_request::Change;
use claviger_proto::claviger::admin::v1::{SetStandingRequest, SetStandingResponse};
use serde::Serialize;

use super::listing::Standing;
use tokio::time::Instant;

use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Which identity
    #[arg(value_name = "SPIFFE_ID")]
    pub(crate) spiffe_id: SpiffeId,

    /// Why, in a few words, for whoever reads the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Reason,

    /// How long to wait for the connected agents to take it in; 0s for not at all
    #[arg(long, value_name = "SECONDS", default_value = "2s", value_parser = seconds)]
    wait: u32,

    #[command(flatten)]
    socket: AdminSocket,
}

/// `2s` or `2`.
fn seconds(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<u32>().ok();
    let sound = number.filter(|seconds| *seconds <= 300);
    sound.ok_or_else(|| "a wait is a number of seconds up to 300, such as `2s`".to_owned())
}

impl Target {
    /// Asks the server for it.
    pub(crate) async fn set(
        self,
        doing: &str,
        (change, risk): (Change, u32),
        console: Console,
    ) -> Result<(), Failure> {
        /// For the way there and back.
        const GRACE: Duration = Duration::from_secs(10);

        let server = Server::connect(&self.socket, console).await?;
        let request = SetStandingRequest {
            spiffe_id: self.spiffe_id.to_string(),
            change: change.into(),
            risk,
            reason: self.reason.to_string(),
            timeout_ms: self.wait.saturating_mul(1_000),
        };
        let deadline = Duration::from_secs(self.wait.into()).saturating_add(GRACE);
        let (began, mut control) = (Instant::now(), server.control());
        let answer = server.ask_for(deadline, doing, control.set_standing(request)).await?;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !answer.lacking.is_empty() {
            console::remark(format_args!("warning: {}", answer.lacking));
        }
        let late = late(&answer, self.wait);
        console.answer(&Answer::new(&self.spiffe_id, answer, millis))?;
        late.map_or(Ok(()), Err)
    }
}

/// Agents that are not connected are not waited for: they are told when they connect.
fn late(answer: &SetStandingResponse, wait: u32) -> Option<Failure> {
    let pending = answer.pending.join(", ");
    (wait > 0 && !pending.is_empty()).then(|| {
        Failure::failed(format_args!("not yet taken in after {wait} s by {pending}")).try_this(
            "look at the agent's log; the change stays, and the server gives that agent nothing for this \
             identity until it has taken it in",
        )
    })
}

/// `{"spiffe_id","risk","quarantined","reason","by","changed_at","version","unchanged","reached",
/// "pending","revoked","millis"}`.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    standing: Standing,
    unchanged: bool,
    reached: Vec<String>,
    pending: Vec<String>,
    revoked: u32,
    millis: u64,
}

impl Answer {
    fn new(id: &SpiffeId, answer: SetStandingResponse, millis: u64) -> Self {
        let SetStandingResponse { standing, reached, pending, unchanged, revoked, .. } = answer;
        let standing = standing.map_or_else(|| Standing::unsaid(id), Standing::from);
        Self { standing, unchanged, reached, pending, revoked, millis }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { spiffe_id, risk, quarantined, .. } = &self.standing;
        let state = if *quarantined { "in quarantine" } else { "in no quarantine" };
        let already = if self.unchanged { ", as before" } else { "" };
        writeln!(f, "{spiffe_id} is {state}, at a risk of {risk} %{already}")?;
        let (reached, millis) = (self.reached.len(), self.millis);
        let all = reached.saturating_add(self.pending.len());
        write!(f, "{reached} of {all} connected agents have it, after {millis} ms")?;
        if self.revoked > 0 {
            write!(f, "; {} of its X.509-SVIDs are revoked", self.revoked)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds() {
        assert_eq!((seconds("2s"), seconds("0"), seconds("300")), (Ok(2), Ok(0), Ok(300)));
        for bad in ["", "s", "2m", "301", "-1", "1.5s"] {
            seconds(bad).unwrap_err();
        }
    }

    #[test]
    fn what_was_done_is_told_in_two_lines() {
        let wire = claviger_proto::claviger::admin::v1::Standing {
            spiffe_id: "spiffe://a.org/x".into(),
            quarantined: true,
            version: 7,
            ..Default::default()
        };
        let answer = SetStandingResponse {
            standing: Some(wire),
            reached: vec!["spiffe://a.org/spire/agent/1".into()],
            pending: vec!["spiffe://a.org/spire/agent/2".into()],
            revoked: 3,
            ..SetStandingResponse::default()
        };
        assert!(late(&answer, 0).is_none(), "nobody waited");
        let told = late(&answer, 2).unwrap().to_string();
        assert!(told.contains("agent/2") && told.contains("2 s"), "{told}");
        let answer = Answer::new(&"spiffe://a.org/x".parse().unwrap(), answer, 4);
        assert_eq!(
            answer.to_string(),
            "spiffe://a.org/x is in quarantine, at a risk of 0 %\n\
             1 of 2 connected agents have it, after 4 ms; 3 of its X.509-SVIDs are revoked"
        );
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!((&json["version"], &json["revoked"]), (&7.into(), &3.into()));
    }
}
