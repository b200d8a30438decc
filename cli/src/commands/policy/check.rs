//! `claviger policy check`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_core::decision::{Decided, Question, Resource};
use claviger_policy::invariants::{self, Broken};
use claviger_policy::reach::{Proof, Reach};
use serde::Serialize;

use super::known::Known;
use super::{compile, test};
use crate::console::Console;
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The folder with the policies
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    known: Known,
}

impl Check {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let set = compile(&self.dir)?;
        let known = self.known.identities(console).await?;
        let invariants = invariants::read(&set).map_err(|error| Failure::because(&error))?;
        let reach = Reach::of(&set, &known).map_err(|error| Failure::because(&error))?;
        let broken = invariants::check(&set, &invariants, &reach)
            .map_err(|error| Failure::because(&error))?;
        let report = Report {
            digest: set.digest().to_string(),
            policies: set.count(),
            identities: reach.classes.iter().map(|class| class.members.len()).sum(),
            classes: reach.classes.len(),
            invariants: invariants.len(),
            broken: broken.iter().map(Shown::of).collect(),
        };
        console.answer(&report)?;
        match broken.len() {
            0 => Ok(()),
            1 => Err(Failure::failed("one invariant does not hold")),
            many => Err(Failure::failed(format_args!("{many} invariants do not hold"))),
        }
    }
}

/// `{"digest","policies","identities","classes","invariants","broken":[…]}`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    digest: String,
    policies: usize,
    /// Those that were looked at, with those who stand for others.
    identities: usize,
    /// Those of them that policies can tell apart.
    classes: usize,
    invariants: usize,
    broken: Vec<Shown<'a>>,
}

/// `{"name","line","what","shown","ruled_out","questions"}`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    line: usize,
    what: &'a str,
    /// Whether questions show it; if not, it could not be ruled out, or something is missing.
    shown: bool,
    questions: Vec<&'a Decided>,
}

impl<'a> Shown<'a> {
    fn of(broken: &'a Broken<'_>) -> Self {
        let questions = broken.paths.iter().flat_map(|path| match &path.proof {
            Proof::Shown(decided) => decided.as_slice(),
            Proof::Open => &[],
        });
        Self {
            name: &broken.invariant.name,
            line: broken.invariant.line,
            what: &broken.what,
            shown: broken.paths.iter().all(|path| path.is_shown()),
            questions: questions.collect(),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for broken in &self.broken {
            let Shown { name, line, what, shown, questions } = broken;
            writeln!(f, "{}:{line}: {name}: {what}", invariants::FILE)?;
            if !shown {
                writeln!(f, "  this could not be ruled out; no question was found that shows it")?;
            }
            for decided in questions {
                let question = &decided.question;
                let resource = resource(question);
                writeln!(f, "  {} {} {resource}", question.principal.id, question.action)?;
                writeln!(f, "    {}", circumstances(question))?;
                let verdict = test::verdict(decided.decision.verdict);
                writeln!(f, "    {verdict} by {}", decided.decision.policies.join(", "))?;
            }
            writeln!(f)?;
        }
        let Self { policies, identities, classes, invariants, broken, .. } = self;
        write!(
            f,
            "{policies} policies, {identities} identities in {classes} classes, {invariants} \
             invariants, {} broken",
            broken.len()
        )
    }
}

/// What the question is about.
pub(super) fn resource(question: &Question) -> String {
    match &question.resource {
        Resource::TrustDomain(name) => format!("spiffe://{name}"),
        Resource::Identity(party) => party.id.to_string(),
        Resource::Tool(tool) => format!("tool:{tool}"),
    }
}

/// Whatever is out of the ordinary, as JSON.
fn circumstances(question: &Question) -> String {
    let mut json =
        serde_json::json!({ "principal": question.principal, "context": question.context });
    if let Resource::Identity(party) = &question.resource
        && let Some(fields) = json.as_object_mut()
    {
        fields.insert("resource".to_owned(), serde_json::json!(party));
    }
    json.to_string()
}
