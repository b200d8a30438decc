//! `claviger approval`: what a human has to say before it is done.

use std::fmt;
use std::time::Duration;

use clap::{Args, Subcommand};
use claviger_core::approval::ApprovalId;
use claviger_core::decision::{Parameter, Question, Resource};
use claviger_proto::claviger::admin::v1::approval::State;
use claviger_proto::claviger::admin::v1::{Approval, ApproveRequest, ListApprovalsRequest};
use humantime_serde::re::humantime::parse_duration;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::admin::Server;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

/// Says yes or no to what policies permit with a human's approval only
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows what waits, what was approved of and not used, and what was refused lately
    #[command(
        long_about = "Shows what waits for an approval, what was approved of and not used yet, \
        and what was refused within the hour: who asked, to do what, with which parameters.\n\n\
        Example:\n  claviger approval list"
    )]
    List(List),
    /// Approves of one thing, exactly as it was asked, once
    #[command(
        long_about = "Approves of one thing, exactly as it was asked, to the last parameter. It \
        can be done once; whoever asked has to ask again. The user id of the operator is in the audit \
        log.\n\n\
        Example:\n  claviger approval grant 5f0c…e1 --ttl 5m"
    )]
    Grant(Grant),
    /// Says no, or takes an approval back that was not used
    #[command(
        long_about = "Says no to one thing, or takes back an approval that was not used: whoever \
        asks again within the hour is told so at once.\n\n\
        Example:\n  claviger approval refuse 5f0c…e1"
    )]
    Refuse(Refuse),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(console).await,
            Self::Grant(Grant { id, ttl, socket }) => {
                let ttl_seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
                answer(
                    ApproveRequest { id: id.to_string(), refuse: false, ttl_seconds },
                    &socket,
                    console,
                )
                .await
            }
            Self::Refuse(Refuse { id, socket }) => {
                let request = ApproveRequest { id: id.to_string(), refuse: true, ttl_seconds: 0 };
                answer(request, &socket, console).await
            }
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    socket: AdminSocket,
}

#[derive(Args, Debug)]
pub(crate) struct Grant {
    /// What the denial and `approval list` name
    #[arg(value_name = "ID")]
    id: ApprovalId,

    /// For how long it can be used
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    ttl: Duration,

    #[command(flatten)]
    socket: AdminSocket,
}

#[derive(Args, Debug)]
pub(crate) struct Refuse {
    /// What the denial and `approval list` name
    #[arg(value_name = "ID")]
    id: ApprovalId,

    #[command(flatten)]
    socket: AdminSocket,
}

impl List {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let mut control = server.control();
        let listed = control.list_approvals(ListApprovalsRequest {});
        let approvals = server.ask("list approvals", listed).await?.approvals;
        let approvals = approvals.into_iter().map(Shown::try_from).collect::<Result<_, _>>()?;
        console.answer(&Listing { approvals })
    }
}

async fn answer(
    request: ApproveRequest,
    socket: &AdminSocket,
    console: Console,
) -> Result<(), Failure> {
    let server = Server::connect(socket, console).await?;
    let mut control = server.control();
    let answered = server.ask("answer the request", control.approve(request)).await?.approval;
    let approval = answered.ok_or_else(|| Failure::failed("the server sent no approval"))?;
    console.answer(&Shown::try_from(approval)?)
}

/// `{"approvals":[…]}`.
#[derive(Debug, Serialize)]
struct Listing {
    approvals: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    state: &'static str,
    /// As the audit log has it.
    question: Box<RawValue>,
    asked_at: u64,
    expires_at: u64,
    #[serde(skip)]
    asked: Question,
}

impl TryFrom<Approval> for Shown {
    type Error = Failure;

    fn try_from(approval: Approval) -> Result<Self, Failure> {
        let state = match approval.state() {
            State::Waiting => "waiting",
            State::Approved => "approved",
            State::Refused => "refused",
            State::Unspecified => "unknown",
        };
        let odd = |error| {
            Failure::failed(format_args!("the server sent a question that is none: {error}"))
        };
        Ok(Self {
            id: approval.id,
            state,
            question: serde_json::from_slice(&approval.question).map_err(odd)?,
            asked: serde_json::from_slice(&approval.question).map_err(odd)?,
            asked_at: approval.asked_at,
            expires_at: approval.expires_at,
        })
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.approvals.is_empty() {
            return f.write_str("nothing waits");
        }
        for (number, one) in self.approvals.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{one}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { principal, action, resource, context } = &self.asked;
        let until = times::show_unsigned(self.expires_at);
        write!(
            f,
            "{}\n  {} until {until}\n  {} asks for {action}",
            self.id, self.state, principal.id
        )?;
        match resource {
            Resource::Identity(peer) => write!(f, " to {}", peer.id)?,
            Resource::Tool(_) | Resource::TrustDomain(_) => {}
        }
        if let Some(purpose) = &context.purpose {
            write!(f, ", purpose {purpose}")?;
        }
        for (name, value) in &context.parameters {
            write!(f, "\n    {} = {}", name.escape_debug(), plain(value))?;
        }
        Ok(())
    }
}

/// Text is escaped, so that nothing in it passes for something else on a terminal.
fn plain(value: &Parameter) -> String {
    let text = |text: &String| format!("\"{}\"", text.escape_debug());
    match value {
        Parameter::Flag(flag) => flag.to_string(),
        Parameter::Number(number) => number.to_string(),
        Parameter::Text(one) => text(one),
        Parameter::Texts(several) => {
            format!("[{}]", several.iter().map(text).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_shown_to_the_last_parameter_and_cannot_deceive() {
        let question = r#"{"principal":{"id":"spiffe://a.org/bot"},"action":"call:trade",
            "resource":{"tool":"trade"},"context":{"time":7,"purpose":"p","parameters":
            {"amount":5,"note":"x\u001b[2J\u202e","tags":["a","b"],"now":true}}}"#;
        let approval = Approval {
            id: "5f".to_owned(),
            question: question.as_bytes().to_vec(),
            state: State::Waiting.into(),
            asked_at: 7,
            expires_at: 1_800_000_000,
        };
        let listing = Listing { approvals: vec![Shown::try_from(approval).unwrap()] };
        let want = "\
5f
  waiting until 2027-01-15T08:00:00Z
  spiffe://a.org/bot asks for call:trade, purpose p
    amount = 5
    note = \"x\\u{1b}[2J\\u{202e}\"
    now = true
    tags = [\"a\", \"b\"]";
        assert_eq!(listing.to_string(), want);
        let json = serde_json::to_value(&listing).unwrap();
        assert_eq!(json["approvals"][0]["question"]["context"]["parameters"]["amount"], 5);
    }
}
