//! `claviger policy suggest`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_core::decision::{Verdict, Why};
use claviger_core::id::SpiffeId;
use claviger_core::time::{Clock as _, SystemClock};
use claviger_policy::Source;
use claviger_policy::replay::Past;
use claviger_policy::suggest::{LeftOut, People, Suggestion, Wish, suggest};
use claviger_proto::spire::server::entry::v1::ListEntriesRequest;
use serde::Serialize;

use crate::admin::{self, Server};
use crate::commands::audit::{Decisions, Part};
use crate::commands::quarantine::standings;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

/// The most records that are taken into account: a few hundred bytes each.
const MOST: usize = 100_000;

#[derive(Args, Debug)]
pub(crate) struct Suggest {
    /// The policy folder that the suggestions are to complete
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    part: Part,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Suggest {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let source = Source::read(&self.dir).map_err(|error| Failure::because(&error))?;
        let server = Server::connect(&self.socket, console).await?;
        let reading = async {
            let wishes = wishes(&server, self.part).await?;
            Ok::<_, Failure>((wishes, registered(&server).await?, quarantined(&server).await?))
        };
        let (wishes, known, shunned) =
            Box::pin(console.watch("reading the audit log", reading)).await?;
        if wishes.len() == MOST {
            console::remark(format_args!(
                "only the first {} records are taken into account; go on with --from",
                console::grouped(MOST.try_into().unwrap_or(u64::MAX))
            ));
        }
        let today: String =
            times::show_unsigned(SystemClock.now().as_secs()).chars().take(10).collect();
        let people = People { known: &known, shunned: &shunned };
        let suggestion = suggest(&source, &wishes, people, &today);
        console.answer(&Suggested::from(suggestion.map_err(|error| Failure::because(&error))?))
    }
}

/// What was denied by policies, or only observed.
async fn wishes(server: &Server, part: Part) -> Result<Vec<Wish>, Failure> {
    let mut decisions = Decisions::read(server, part).await?;
    let mut wishes = Vec::new();
    while let Some((_record, past)) = decisions.next().await? {
        if is_wish(&past) {
            wishes.push(Wish { question: past.decided.question, times: past.times });
        }
        if wishes.len() == MOST {
            break;
        }
    }
    Ok(wishes)
}

/// Records of what was issued, and of what stands out, are beside those of what was denied or observed.
fn is_wish(past: &Past) -> bool {
    let told = ["denied", "observed", "access_decided"].contains(&past.event.as_str());
    told && match past.verdict() {
        Verdict::Observe => true,
        Verdict::Deny => past.why == Some(Why::Policy),
        Verdict::Permit => false,
    }
}

/// Everybody to whom an entry gives an identity.
async fn registered(server: &Server) -> Result<BTreeSet<SpiffeId>, Failure> {
    let entries = admin::pages(async |page_token| {
        let request = ListEntriesRequest { page_token, ..ListEntriesRequest::default() };
        let page = server.ask("list entries", server.entries().list_entries(request)).await?;
        Ok((page.entries, page.next_page_token))
    });
    let ids = entries.await?.into_iter().filter_map(|entry| entry.spiffe_id);
    let ids = ids.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path));
    Ok(ids.filter_map(|id| id.parse().ok()).collect())
}

async fn quarantined(server: &Server) -> Result<BTreeSet<SpiffeId>, Failure> {
    let ids = standings(server, true).await?.into_iter().map(|standing| {
        standing.spiffe_id.parse().map_err(|_malformed| {
            Failure::failed(format_args!("the server sent `{}` for an id", standing.spiffe_id))
        })
    });
    ids.collect()
}

/// `{"cedar":"…","policies":2,"connections":12,"denied":0,"left_out":{"forbidden":1}}`.
#[derive(Debug, Serialize)]
struct Suggested {
    cedar: String,
    policies: usize,
    connections: usize,
    denied: usize,
    left_out: Left,
}

/// What nothing is suggested for.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Left {
    permitted: usize,
    forbidden: usize,
    quarantined: usize,
    delicate: usize,
}

impl From<Suggestion> for Suggested {
    fn from(suggestion: Suggestion) -> Self {
        let left = |why| suggestion.left_out.get(&why).copied().unwrap_or_default();
        let left_out = Left {
            permitted: left(LeftOut::Permitted),
            forbidden: left(LeftOut::Forbidden),
            quarantined: left(LeftOut::Quarantined),
            delicate: left(LeftOut::Delicate),
        };
        let Suggestion { cedar, policies, wishes, denied, left_out: _ } = suggestion;
        Self { cedar, policies, connections: wishes, denied, left_out }
    }
}

/// Cedar throughout, so that it can be written into a file as it is.
impl fmt::Display for Suggested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.policies == 0 {
            write!(f, "// nothing to suggest")?;
        } else {
            writeln!(f, "{}", self.cedar)?;
            let Self { denied, connections, .. } = self;
            write!(f, "// {denied} of {connections} recorded connections would be denied")?;
        }
        for (count, why) in [
            (self.left_out.permitted, "the folder permits it already"),
            (self.left_out.forbidden, "a policy forbids it"),
            (self.left_out.quarantined, "one end is in quarantine"),
            (self.left_out.delicate, "tools and powers are for you to permit"),
        ] {
            if count != 0 {
                write!(f, "\n// left out: {count}, since {why}")?;
            }
        }
        Ok(())
    }
}
