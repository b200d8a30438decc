//! `claviger psk`: one-time TLS 1.3 keys, by hand.

mod series;

use std::fmt;

use clap::{Args, Subcommand};
use claviger_core::id::SpiffeId;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskTtl, Purpose};
use claviger_proto::claviger::psk::v1::{IssueRequest, IssueResponse, RedeemRequest};
use serde::{Serialize, Serializer};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::times;
use crate::workload::Agent;

/// Issues and redeems TLS 1.3 pre-shared keys that work for exactly one connection
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Asks for a key for one connection to a peer
    #[command(long_about = "Asks for a key for one connection to a peer, as the identity of this \
        process, and prints it: it is a secret until it is used.\n\n\
        Example:\n  claviger psk issue --peer spiffe://example.org/db --purpose query\n  \
        openssl s_client -connect db:8443 -tls1_3 -psk_identity p1.… -psk 5f3c…")]
    Issue(Issue),
    /// Draws keys of a series, of which a later epoch voids the earlier
    #[command(
        long_about = "Draws keys of a series, one for each connection, and prints them as `psk issue` \
        does. A series has epochs: the first key of a later one voids every key of the earlier ones that \
        was not used yet, and there are no more of those. So whoever has stolen a key of the last epoch, or \
        runs on from it, is shut out. What is connected stays connected.\n\n\
        The epochs are yours to number, such as those of a training run (--epoch), or begin by the clock \
        (--every): then each is numbered by the second at which it began, so that several of these agree, \
        and one that is started again goes on. A series that no key was drawn from for a week is \
        forgotten.\n\n\
        Example:\n  \
        claviger psk series train/run-7 --peer spiffe://example.org/store --purpose checkpoint --epoch 12\n  \
        claviger psk series feed --peer spiffe://example.org/db --purpose query --every 30s --output json\n  \
        claviger psk series pool --peer spiffe://example.org/db --purpose query --per-connection --output json"
    )]
    Series(series::Draw),
    /// Spends the key that a client named, by its identity alone
    #[command(long_about = "Spends the key that a client named, and prints it with the client's \
        identity. Nothing proves here that the client holds the key, so the policy has to permit \
        it; a real server redeems with the binder of the ClientHello.\n\n\
        Example:\n  claviger psk redeem --identity p1.…")]
    Redeem(Redeem),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Issue(issue) => issue.run(console).await,
            Self::Series(draw) => draw.run(console).await,
            Self::Redeem(redeem) => redeem.run(console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// The SPIFFE ID of the server to connect to
    #[arg(long, value_name = "ID")]
    peer: SpiffeId,

    /// What the connection is for, as the policy knows it
    #[arg(long, value_name = "WORD")]
    purpose: Purpose,

    /// How long the key waits to be used, at most 300
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = ttl)]
    ttl: PskTtl,

    /// Which of this process's identities is to be the client; the first if not given
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Issue {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        let request = IssueRequest {
            peer: self.peer.to_string(),
            purpose: self.purpose.to_string(),
            ttl_seconds: self.ttl.into(),
            spiffe_id: self.spiffe_id.map(String::from).unwrap_or_default(),
            ..IssueRequest::default()
        };
        let doing = format!("get a key for {}", self.peer);
        let issued = agent.ask(&doing, agent.psk_broker().issue(request)).await?;
        let end = times::show_unsigned(issued.not_after);
        console::remark(format_args!("works once, until {end}; whoever sees the key can use it"));
        console.answer(&Psk::from(issued))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Redeem {
    /// The PSK identity that the client sent, `p1.…`
    #[arg(long, value_name = "IDENTITY")]
    identity: WireIdentity,

    /// Which of this process's identities is to be the server; any of them if not given
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Redeem {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        let request = RedeemRequest {
            attempt_id: Uuid::new_v4().as_bytes().to_vec(),
            identity: self.identity.to_string(),
            transcript_hash: Vec::new(),
            binder: Vec::new(),
            spiffe_id: self.spiffe_id.map(String::from).unwrap_or_default(),
        };
        let doing = format!("redeem {}", self.identity);
        let redeemed = agent.ask(&doing, agent.psk_broker().redeem(request)).await?;
        console.answer(&Psk {
            identity: self.identity.to_string(),
            key: hexadecimal(&Zeroizing::new(redeemed.key)),
            client_id: redeemed.client_id,
            server_id: redeemed.server_id,
            purpose: redeemed.purpose,
            not_after: redeemed.not_after,
        })
    }
}

/// `{"identity":"p1.…","key":"hex","client_id":"spiffe://…","server_id":"spiffe://…",`
/// `"purpose":"…","not_after":1800000000}`.
#[derive(Serialize)]
struct Psk {
    identity: String,
    #[serde(serialize_with = "in_clear")]
    key: Zeroizing<String>,
    client_id: String,
    server_id: String,
    purpose: String,
    /// Seconds since 1970.
    not_after: u64,
}

impl From<IssueResponse> for Psk {
    fn from(issued: IssueResponse) -> Self {
        Self {
            identity: issued.identity,
            key: hexadecimal(&Zeroizing::new(issued.key)),
            client_id: issued.client_id,
            server_id: issued.server_id,
            purpose: issued.purpose,
            not_after: issued.not_after,
        }
    }
}

impl fmt::Display for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "identity  {}", self.identity)?;
        writeln!(f, "key       {}", *self.key)?;
        writeln!(f, "client    {}", self.client_id)?;
        writeln!(f, "server    {}", self.server_id)?;
        writeln!(f, "purpose   {}", self.purpose)?;
        write!(f, "until     {}", times::show_unsigned(self.not_after))
    }
}

/// This command is there to show the key.
fn in_clear<S: Serializer>(key: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(key)
}

fn hexadecimal(key: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(hex::encode(key))
}

fn ttl(text: &str) -> Result<PskTtl, String> {
    let secs: u32 = text.parse().map_err(|error| format!("{error}"))?;
    secs.try_into().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psk() -> Psk {
        Psk {
            identity: "p1.AAAAAAAAAAAAAAAAAAAAAA".into(),
            key: hexadecimal(&[1; 2]),
            client_id: "spiffe://a.org/x".into(),
            server_id: "spiffe://a.org/y".into(),
            purpose: "query".into(),
            not_after: 1_800_000_000,
        }
    }

    #[test]
    fn people_and_programs_see_the_same() {
        let want = "\
identity  p1.AAAAAAAAAAAAAAAAAAAAAA
key       0101
client    spiffe://a.org/x
server    spiffe://a.org/y
purpose   query
until     2027-01-15T08:00:00Z";
        assert_eq!(psk().to_string(), want);
        let want = r#"{"identity":"p1.AAAAAAAAAAAAAAAAAAAAAA","key":"0101","#.to_owned()
            + r#""client_id":"spiffe://a.org/x","server_id":"spiffe://a.org/y","#
            + r#""purpose":"query","not_after":1800000000}"#;
        assert_eq!(serde_json::to_string(&psk()).unwrap(), want);
    }

    #[test]
    fn lifetimes_are_bounded_before_anyone_is_asked() {
        ttl("60").unwrap();
        assert!(ttl("301").unwrap_err().contains("300"));
        ttl("x").unwrap_err();
    }
}
