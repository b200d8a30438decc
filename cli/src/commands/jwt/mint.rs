//! `claviger jwt mint`.

use std::fmt;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use claviger_core::id::SpiffeId;
use claviger_proto::spire::server::svid::v1::MintJwtsvidRequest;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

#[derive(Args, Debug)]
pub(crate) struct Mint {
    /// Whose token it is
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: SpiffeId,

    /// Whom the token is for; several as `a,b` or by repeating the flag
    #[arg(long, required = true, value_name = "AUDIENCE", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    audience: Vec<String>,

    /// How long it lasts at most; the server's default if not given
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i32).range(1..))]
    ttl: Option<i32>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Mint {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        const DOING: &str = "mint a JWT-SVID";

        let server = Server::connect(&self.socket, console).await?;
        let request = MintJwtsvidRequest {
            id: Some((&self.spiffe_id).into()),
            audience: self.audience,
            ttl: self.ttl.unwrap_or_default(),
        };
        let minted = server.ask(DOING, server.svids().mint_jwtsvid(request)).await?;
        let svid = minted.svid.ok_or_else(|| Failure::failed("the server sent no JWT-SVID"))?;
        let end = times::show(svid.expires_at);
        console::remark(format_args!(
            "{} until {end}; whoever sees the token can use it",
            self.spiffe_id
        ));
        console.answer(&Token {
            spiffe_id: self.spiffe_id,
            expires_at: svid.expires_at,
            token: Zeroizing::new(svid.token),
        })
    }
}

/// `{"spiffe_id":"spiffe://…","expires_at":1800000000,"token":"…"}`, or the token alone.
#[derive(Serialize)]
struct Token {
    spiffe_id: SpiffeId,
    expires_at: i64,
    #[serde(serialize_with = "in_clear")]
    token: Zeroizing<String>,
}

/// This command is there to show the token.
fn in_clear<S: Serializer>(token: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(token)
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_the_token_and_programs_whose_it_is() {
        let token = Token {
            spiffe_id: "spiffe://a.org/x".parse().unwrap(),
            expires_at: 1_800_000_000,
            token: Zeroizing::new("e30.e30.c2ln".to_owned()),
        };
        assert_eq!(token.to_string(), "e30.e30.c2ln");
        assert_eq!(
            serde_json::to_string(&token).unwrap(),
            r#"{"spiffe_id":"spiffe://a.org/x","expires_at":1800000000,"token":"e30.e30.c2ln"}"#
        );
    }
}
