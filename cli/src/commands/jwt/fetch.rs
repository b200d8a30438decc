//! `claviger jwt fetch`.

use std::fmt;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use claviger_core::id::SpiffeId;
use claviger_proto::workload::{Jwtsvid, JwtsvidRequest};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::console::{self, Console};
use crate::failure::Failure;
use crate::jws;
use crate::socket::WorkloadSocket;
use crate::times;
use crate::workload::Agent;

#[derive(Args, Debug)]
pub(crate) struct Fetch {
    /// Whom the token is for; several as `a,b` or by repeating the flag
    #[arg(long, required = true, value_name = "AUDIENCE", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    audience: Vec<String>,

    /// Only for this identity; for all of this process's if not given
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Fetch {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        let request = JwtsvidRequest {
            audience: self.audience,
            spiffe_id: self.spiffe_id.map(String::from).unwrap_or_default(),
        };
        let fetched =
            agent.ask("fetch JWT-SVIDs", agent.workload_api().fetch_jwtsvid(request)).await?;
        let tokens = Tokens { svids: fetched.svids.into_iter().map(Token::from).collect() };
        for Token { spiffe_id, expires_at, .. } in &tokens.svids {
            let end = times::show(*expires_at);
            console::remark(format_args!(
                "{spiffe_id} until {end}; whoever sees the token can use it"
            ));
        }
        console.answer(&tokens)
    }
}

/// `{"svids":[{"spiffe_id":"spiffe://…","hint":"…","expires_at":1800000000,"token":"…"}…]}`, or one
/// token on each line.
#[derive(Serialize)]
struct Tokens {
    svids: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    spiffe_id: String,
    hint: String,
    /// Seconds since 1970; 0 if the token does not say.
    expires_at: i64,
    #[serde(serialize_with = "in_clear")]
    token: Zeroizing<String>,
}

impl From<Jwtsvid> for Token {
    fn from(wire: Jwtsvid) -> Self {
        let claims = jws::claims(&wire.svid).unwrap_or_default();
        Self {
            spiffe_id: wire.spiffe_id,
            hint: wire.hint,
            expires_at: jws::expires_at(&claims).unwrap_or_default(),
            token: Zeroizing::new(wire.svid),
        }
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Token { token, .. }) in self.svids.iter().enumerate() {
            let line = if n == 0 { "" } else { "\n" };
            write!(f, "{line}{}", **token)?;
        }
        Ok(())
    }
}

/// This command is there to show the token.
fn in_clear<S: Serializer>(token: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let wire = |name: &str, token: &str| Jwtsvid {
            spiffe_id: format!("spiffe://a.org/{name}"),
            svid: token.into(),
            hint: String::new(),
        };
        // {"exp":1800000000}
        let one = wire("x", "e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln");
        Tokens { svids: vec![one.into(), wire("y", "odd").into()] }
    }

    #[test]
    fn people_and_shells_see_the_tokens_and_nothing_else() {
        assert_eq!(tokens().to_string(), "e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln\nodd");
    }

    #[test]
    fn programs_see_whose_they_are() {
        let want = r#"{"svids":[{"spiffe_id":"spiffe://a.org/x","hint":"","expires_at":1800000000,"#
            .to_owned()
            + r#""token":"e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln"},"#
            + r#"{"spiffe_id":"spiffe://a.org/y","hint":"","expires_at":0,"token":"odd"}]}"#;
        assert_eq!(serde_json::to_string(&tokens()).unwrap(), want);
    }
}
