//! `claviger token`: how an agent gets in that has no better evidence.

use std::fmt;

use clap::{Args, Subcommand};
use claviger_core::id::SpiffeId;
use claviger_proto::spire::server::agent::v1::CreateJoinTokenRequest;
use serde::Serialize;

use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

/// Makes join tokens
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token that admits one agent, once
    #[command(long_about = "Makes a token that admits one agent, once. Whoever holds it is that \
        agent: hand it over as you would a password.\n\n\
        Example:\n  claviger token generate --spiffe-id spiffe://example.org/node/1 > join-token")]
    Generate(Generate),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Generate(generate) => generate.run(console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// How long the token waits to be used
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    ttl: i32,

    /// A further identity for the agent, by which entries can name it beforehand
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Generate {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = CreateJoinTokenRequest {
            ttl: self.ttl,
            token: String::new(),
            agent_id: self.spiffe_id.as_ref().map(Into::into),
        };
        let mut agents = server.agents();
        let token = server.ask("make a join token", agents.create_join_token(request)).await?;
        console::remark(format_args!("works once, until {}", times::show(token.expires_at)));
        console.answer(&Token { value: token.value, expires_at: token.expires_at })
    }
}

/// `{"value":"…","expires_at":1800000000}`, as SPIRE has it; or the token alone, ready for a file.
#[derive(Serialize)]
struct Token {
    value: String,
    expires_at: i64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}
