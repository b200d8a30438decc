//! `claviger agent`: runs one, and shows who is in.

mod appraisal;

use std::fmt;
#[cfg(feature = "agent")]
use std::path::PathBuf;

use clap::{Args, Subcommand};
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selector;
use claviger_proto::spire::server::agent::v1::{
    BanAgentRequest, CountAgentsRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
    count_agents_request, list_agents_request,
};
use claviger_proto::spire::types;
use serde::Serialize;

use super::selection::{Match, selector_lines, spiffe_id};
use crate::admin::{self, Server};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

/// Runs the agent of this machine, or shows and removes agents of the server
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "agent")]
    /// Runs an agent until SIGINT or SIGTERM
    #[command(long_about = "Runs an agent until SIGINT or SIGTERM: it proves to the server what \
        this machine is, tells local processes apart, and serves them their credentials.\n\n\
        Example:\n  claviger agent run --config /etc/claviger/agent.toml")]
    Run(ConfigFile),
    #[cfg(feature = "agent")]
    /// Checks a configuration file, and tells every problem at once
    #[command(long_about = "Checks a configuration file, and tells every problem at once. \
        Nothing is started.\n\n\
        Example:\n  claviger agent validate --config /etc/claviger/agent.toml")]
    Validate(ConfigFile),
    /// Lists the agents that are in
    #[command(long_about = "Lists the agents that are in: all of them, or those that fit every \
        filter.\n\n\
        Example:\n  claviger agent list --attestation-type join_token")]
    List(List),
    /// Shows one agent
    #[command(long_about = "Shows one agent.\n\n\
        Example:\n  claviger agent show --spiffe-id spiffe://example.org/spire/agent/join_token/…")]
    Show(One),
    /// Shows how an agent's evidence was judged
    #[command(
        long_about = "Shows how an agent's evidence was judged when it attested last: what         was measured, and how far it is to be trusted, in what (AR4SI). With --jwt the server signs         that as an attestation result (EAR) for others: a token that the keys of JWT-SVIDs check,         and that is no identity.

        Example:
  claviger agent appraisal --spiffe-id spiffe://example.org/spire/agent/tpm/…
          claviger agent appraisal --spiffe-id spiffe://example.org/spire/agent/tpm/… --jwt \
            --nonce 5ad76b5fc4a69a2a"
    )]
    Appraisal(appraisal::Appraise),
    /// Throws an agent out; it may attest again
    #[command(long_about = "Throws an agent out. It may attest again, and a ban is lifted.\n\n\
        Example:\n  claviger agent evict --spiffe-id spiffe://example.org/spire/agent/join_token/…")]
    Evict(One),
    /// Throws an agent out for good
    #[command(long_about = "Throws an agent out. It may not attest again until it is evicted.\n\n\
        Example:\n  claviger agent ban --spiffe-id spiffe://example.org/spire/agent/join_token/…")]
    Ban(One),
    /// Counts the agents that are in
    #[command(long_about = "Counts the agents that are in: all of them, or those that fit every \
        filter.\n\n\
        Example:\n  claviger agent count --banned true")]
    Count(List),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            #[cfg(feature = "agent")]
            Self::Run(file) => Box::pin(crate::run::agent(&file.config)).await,
            #[cfg(feature = "agent")]
            Self::Validate(file) => crate::run::validate_agent(&file.config, console),
            Self::List(list) => list.list(console).await,
            Self::Show(one) => one.show(console).await,
            Self::Appraisal(appraise) => appraise.run(console).await,
            Self::Evict(one) => one.evict(console).await,
            Self::Ban(one) => one.ban(console).await,
            Self::Count(list) => list.count(console).await,
        }
    }
}

#[cfg(feature = "agent")]
#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE", default_value = "/etc/claviger/agent.toml")]
    config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those admitted by this attestor, such as `join_token`
    #[arg(long, alias = "attestationType", value_name = "KIND")]
    attestation_type: Option<String>,

    /// Only those that are banned, or are not
    #[arg(long, value_name = "BOOL")]
    banned: Option<bool>,

    /// Only those with this selector; may be repeated
    #[arg(long = "selector", value_name = "KIND:VALUE")]
    selectors: Vec<Selector>,

    /// How --selector is compared with an agent's selectors
    #[arg(
        long,
        alias = "matchSelectorsOn",
        value_enum,
        value_name = "HOW",
        default_value = "superset"
    )]
    match_selectors_on: Match,

    #[command(flatten)]
    socket: AdminSocket,
}

impl List {
    async fn list(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let agents = admin::pages(async |page_token| {
            let filter = Some(list_agents_request::Filter {
                by_attestation_type: self.attestation_type.clone().unwrap_or_default(),
                by_selector_match: self.match_selectors_on.selectors(&self.selectors),
                by_banned: self.banned,
                ..list_agents_request::Filter::default()
            });
            let request = ListAgentsRequest { filter, output_mask: None, page_size: 0, page_token };
            let page = server.ask("list agents", server.agents().list_agents(request)).await?;
            Ok((page.agents, page.next_page_token))
        });
        console.answer(&Agents { agents: agents.await?.iter().map(Into::into).collect() })
    }

    async fn count(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let filter = Some(count_agents_request::Filter {
            by_attestation_type: self.attestation_type.unwrap_or_default(),
            by_selector_match: self.match_selectors_on.selectors(&self.selectors),
            by_banned: self.banned,
            ..count_agents_request::Filter::default()
        });
        let request = CountAgentsRequest { filter };
        let answer = server.ask("count agents", server.agents().count_agents(request)).await?;
        console.answer(&console::Count { count: answer.count, one: "agent", many: "agents" })
    }
}

#[derive(Args, Debug)]
pub(crate) struct One {
    /// Which agent
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: SpiffeId,

    #[command(flatten)]
    socket: AdminSocket,
}

impl One {
    async fn show(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = GetAgentRequest { id: Some((&self.spiffe_id).into()), output_mask: None };
        let doing = format!("show agent {}", self.spiffe_id);
        let agent = server.ask(&doing, server.agents().get_agent(request)).await?;
        console.answer(&Agents { agents: vec![Agent::from(&agent)] })
    }

    async fn evict(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = DeleteAgentRequest { id: Some((&self.spiffe_id).into()) };
        let doing = format!("evict agent {}", self.spiffe_id);
        server.ask(&doing, server.agents().delete_agent(request)).await?;
        console.answer(&Removed::Evicted(self.spiffe_id))
    }

    async fn ban(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = BanAgentRequest { id: Some((&self.spiffe_id).into()) };
        let doing = format!("ban agent {}", self.spiffe_id);
        server.ask(&doing, server.agents().ban_agent(request)).await?;
        console.answer(&Removed::Banned(self.spiffe_id))
    }
}

/// `{"evicted":"spiffe://…"}` or `{"banned":"spiffe://…"}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Removed {
    Evicted(SpiffeId),
    Banned(SpiffeId),
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evicted(id) => write!(f, "evicted {id}"),
            Self::Banned(id) => write!(f, "banned {id}"),
        }
    }
}

/// `{"agents":[…]}`.
#[derive(Debug, Serialize)]
struct Agents {
    agents: Vec<Agent>,
}

#[derive(Debug, Serialize)]
struct Agent {
    spiffe_id: String,
    attestation_type: String,
    /// Seconds since 1970.
    x509_svid_expires_at: i64,
    x509_svid_serial_number: String,
    /// `kind:value` each.
    selectors: Vec<String>,
    banned: bool,
    can_reattest: bool,
}

impl From<&types::Agent> for Agent {
    fn from(wire: &types::Agent) -> Self {
        Self {
            spiffe_id: spiffe_id(wire.id.as_ref()),
            attestation_type: wire.attestation_type.clone(),
            x509_svid_expires_at: wire.x509svid_expires_at,
            x509_svid_serial_number: wire.x509svid_serial_number.clone(),
            selectors: selector_lines(&wire.selectors).lines().map(str::to_owned).collect(),
            banned: wire.banned,
            can_reattest: wire.can_reattest,
        }
    }
}

impl fmt::Display for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.agents.is_empty() {
            return f.write_str("no agents");
        }
        let row = |agent: &Agent| {
            [
                agent.spiffe_id.clone(),
                agent.attestation_type.clone(),
                times::show(agent.x509_svid_expires_at),
                if agent.banned { "banned" } else { "in" }.to_owned(),
                agent.selectors.join("\n"),
            ]
        };
        let header = ["SPIFFE ID", "ATTESTED BY", "SVID ENDS", "STATE", "SELECTORS"];
        f.write_str(&console::table(header, self.agents.iter().map(row).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents() -> Agents {
        let wire = types::Agent {
            id: Some(types::Spiffeid {
                trust_domain: "a.org".into(),
                path: "/spire/agent/x".into(),
            }),
            attestation_type: "join_token".into(),
            x509svid_serial_number: "7".into(),
            x509svid_expires_at: 1_800_000_000,
            selectors: Vec::new(),
            banned: true,
            can_reattest: false,
        };
        Agents { agents: vec![Agent::from(&wire)] }
    }

    #[test]
    fn the_table_says_who_is_banned() {
        let want = "\
SPIFFE ID                      ATTESTED BY  SVID ENDS             STATE   SELECTORS
spiffe://a.org/spire/agent/x   join_token   2027-01-15T08:00:00Z  banned";
        assert_eq!(
            agents().to_string(),
            want.replace("x   join", "x  join")
                .replace("ID                      A", "ID                     A")
        );
        assert_eq!(Agents { agents: Vec::new() }.to_string(), "no agents");
    }

    #[test]
    fn json_has_every_field() {
        let want = r#"{"agents":[{"spiffe_id":"spiffe://a.org/spire/agent/x","#.to_owned()
            + r#""attestation_type":"join_token","x509_svid_expires_at":1800000000,"#
            + r#""x509_svid_serial_number":"7","selectors":[],"banned":true,"#
            + r#""can_reattest":false}]}"#;
        assert_eq!(serde_json::to_string(&agents()).unwrap(), want);
    }
}
