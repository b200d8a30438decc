//! `claviger policy authorize`.

use std::fmt;

use clap::Args;
use claviger_core::decision::Action;
use claviger_core::psk::Purpose;
use claviger_proto::claviger::policy::v1::AuthorizeRequest;
use claviger_proto::claviger::policy::v1::authorize_response::Verdict;
use serde::Serialize;

use crate::console::Console;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::workload::Agent;

#[derive(Args, Debug)]
pub(crate) struct Authorize {
    /// What is to be done: `connect`, or `call:` and the name of a tool
    #[arg(long, value_name = "ACTION", default_value = "connect")]
    action: Action,

    /// The SPIFFE ID of whoever does it; this process's first if not given
    #[arg(long, value_name = "ID", default_value = "")]
    principal: String,

    /// The SPIFFE ID that is connected to; not needed for a tool
    #[arg(long, value_name = "ID", default_value = "")]
    resource: String,

    /// What for, as the policies know it
    #[arg(long, value_name = "WORD")]
    purpose: Option<Purpose>,

    /// What the tool is called with: a JSON object
    #[arg(long, value_name = "JSON", default_value = "")]
    parameters: String,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Authorize {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        let request = AuthorizeRequest {
            action: self.action.to_string(),
            principal: self.principal,
            resource: self.resource,
            purpose: self.purpose.map(String::from).unwrap_or_default(),
            transport: None,
            parameters: self.parameters,
        };
        let doing = format!("decide about {}", self.action);
        let answer = agent.ask(&doing, agent.policy_desk().authorize(request)).await?;
        let verdict = match answer.verdict() {
            Verdict::Permit => "permit",
            Verdict::Observe => "observe",
            Verdict::Deny | Verdict::Unspecified => "deny",
        };
        console.answer(&Decided {
            verdict,
            policy: answer.policy,
            policies: answer.policies,
            reasons: answer.reasons,
        })?;
        if verdict == "deny" {
            return Err(Failure::failed(format_args!("the agent denies `{}`", self.action)));
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Decided {
    verdict: &'static str,
    policy: String,
    policies: Vec<String>,
    reasons: Vec<String>,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        for (name, values) in [("by", &self.policies), ("because", &self.reasons)] {
            for value in values {
                write!(f, "\n  {name} {value}")?;
            }
        }
        write!(f, "\n  policies {}", self.policy)
    }
}
