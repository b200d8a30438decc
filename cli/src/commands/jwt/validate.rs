//! `claviger jwt validate`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use claviger_proto::workload::ValidateJwtsvidRequest;
use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::console::Console;
use crate::failure::Failure;
use crate::jws;
use crate::socket::WorkloadSocket;
use crate::workload::Agent;

#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// Whom the token has to be for
    #[arg(long, value_name = "AUDIENCE", value_parser = NonEmptyStringValueParser::new())]
    audience: String,

    /// Reads the token from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Validate {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let token = self.token()?;
        let agent = Agent::connect(&self.socket, console).await?;
        let svid = String::clone(&token);
        let request = ValidateJwtsvidRequest { audience: self.audience, svid };
        let validated =
            agent.ask("accept the token", agent.workload_api().validate_jwtsvid(request)).await?;
        // The answer has the claims, too, but knows floating point numbers only.
        let claims = jws::claims(&token).unwrap_or_default();
        console.answer(&Valid { spiffe_id: validated.spiffe_id, claims })
    }

    fn token(&self) -> Result<Zeroizing<String>, Failure> {
        let (read, name) = match &self.token_file {
            Some(path) => (File::open(path).and_then(read_token), format!("`{}`", path.display())),
            None => (read_token(io::stdin().lock()), "standard input".to_owned()),
        };
        read.map_err(|error| {
            Failure::failed(format_args!("cannot read a token from {name}: {error}"))
        })
    }
}

/// One token, with or without a line's end.
fn read_token(from: impl Read) -> io::Result<Zeroizing<String>> {
    /// More than any agent or server takes.
    const LONGEST: u64 = 64 * 1024;

    // Room for everything: a buffer that grows would leave pieces of a secret behind.
    let mut text = Zeroizing::new(String::with_capacity(66 * 1024));
    let length = from.take(LONGEST.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > LONGEST {
        return Err(io::Error::other(format!("it has more than {LONGEST} bytes")));
    }
    let token = text.trim();
    if token.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// `{"spiffe_id":"spiffe://…","claims":{…}}`.
#[derive(Debug, Serialize)]
struct Valid {
    spiffe_id: String,
    claims: Map<String, Value>,
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.spiffe_id)?;
        for (claim, value) in &self.claims {
            write!(f, "\n  {claim}  {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_without_its_lines_end() {
        assert_eq!(read_token("a.b.c\n".as_bytes()).unwrap().as_str(), "a.b.c");
        let told = |text: &[u8]| read_token(text).unwrap_err().to_string();
        assert_eq!(told(b" \n"), "it is empty");
        assert_eq!(told(&[b'x'; 65 * 1024]), "it has more than 65536 bytes");
        assert!(told(&[0xff]).contains("UTF-8"));
    }

    #[test]
    fn people_see_whose_it_is_and_every_claim() {
        let claims = serde_json::from_str(r#"{"aud":["x"],"exp":1800000000}"#).unwrap();
        let valid = Valid { spiffe_id: "spiffe://a.org/x".into(), claims };
        assert_eq!(valid.to_string(), "spiffe://a.org/x\n  aud  [\"x\"]\n  exp  1800000000");
    }
}
