//! `claviger policy explain`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_core::decision::{Action, EvidenceShown, Parameter, Question, Transport, Verdict};
use claviger_core::evidence::{Bond, Tier};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::selector::Selector;
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;
use claviger_policy::explain::{self, Explanation};
use claviger_policy::situation::{Other, Situation};
use serde::Serialize;

use super::check::resource;
use super::{compile, test};
use crate::console::Console;
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The folder with the policies
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Who wants it
    #[arg(long, value_name = "ID")]
    principal: SpiffeId,

    /// What, such as `connect`, `issue_psk`, `issue_x509` or `call:NAME`
    #[arg(long, value_name = "ACTION")]
    action: Action,

    /// To whom; of what is issued, and of a call, it need not be said
    #[arg(long, value_name = "ID")]
    resource: Option<String>,

    /// What for
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<Purpose>,

    /// How much the principal is risked, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    risk: Risk,

    /// How much the resource is risked, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    resource_risk: Risk,

    /// How far the principal's evidence is to be trusted: `affirming`, `warning`, `contraindicated`
    #[arg(long, value_name = "TIER", default_value = "none", value_parser = tier)]
    tier: Tier,

    /// What was attested of the principal, such as `unix:uid:1000`; may be repeated
    #[arg(long = "selector", value_name = "KIND:VALUE")]
    selectors: Vec<Selector>,

    /// How old the evidence is that is presented, in seconds; without this, none is
    #[arg(long, value_name = "SECONDS")]
    evidence_age: Option<u64>,

    /// Its kind
    #[arg(long, value_name = "KIND", default_value = "x509pop", requires = "evidence_age")]
    evidence_kind: String,

    /// The group of the key exchange of TLS 1.3, such as `X25519MLKEM768`
    #[arg(long, value_name = "GROUP")]
    transport: Option<String>,

    /// A parameter of a call, as `name=value`, the value in JSON; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, Parameter)>,

    /// When, in seconds since 1970; 2026-01-01T00:00:00Z if it is not said
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
}

impl Explain {
    pub(super) fn run(self, console: Console) -> Result<(), Failure> {
        let set = compile(&self.dir)?;
        let question = self.question()?;
        let explanation = explain::explain(&set, &question);
        let denied = explanation.decision.verdict == Verdict::Deny;
        console.answer(&Shown(explanation))?;
        if denied { Err(Failure::failed("it is denied")) } else { Ok(()) }
    }

    fn question(self) -> Result<Question, Failure> {
        let evidence = self.evidence_age.map(|age_seconds| EvidenceShown {
            kind: self.evidence_kind,
            bond: Bond::Key,
            tier: self.tier,
            age_seconds,
        });
        let transport = self.transport.map(|group| Transport {
            tls: "1.3".to_owned(),
            post_quantum: group.contains("MLKEM"),
            group,
        });
        let situation = Situation {
            risk: self.risk,
            tier: self.tier,
            selectors: self.selectors.into_iter().collect(),
            resource: Other { risk: self.resource_risk, ..Other::default() },
            time: self.time.map(UnixTime::from_secs),
            evidence,
            transport,
            parameters: self.parameters.into_iter().collect(),
            ..Situation::default()
        };
        situation
            .asked(self.principal, self.action, self.resource.as_deref(), self.purpose)
            .map_err(Failure::usage)
    }
}

fn tier(name: &str) -> Result<Tier, String> {
    [Tier::None, Tier::Affirming, Tier::Warning, Tier::Contraindicated]
        .into_iter()
        .find(|tier| tier.name() == name)
        .ok_or_else(|| "a tier is none, affirming, warning or contraindicated".to_owned())
}

fn parameter(text: &str) -> Result<(String, Parameter), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is written `name=value`")?;
    // What is no JSON is text: quotation marks are for shells.
    let value =
        serde_json::from_str(value).unwrap_or_else(|_text| Parameter::Text(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// `{"question","decision","policies","remedy"}`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(Explanation);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { question, decision, policies, remedy } = &self.0;
        let verdict = test::verdict(decision.verdict);
        writeln!(
            f,
            "{verdict}: {} {} {}",
            question.principal.id,
            question.action,
            resource(question)
        )?;
        writeln!(f, "{}", indented(&test::why(decision)))?;
        for policy in policies {
            writeln!(f, "\n{}", indented(policy.text.trim()))?;
        }
        if decision.verdict != Verdict::Deny {
            return write!(f, "\npolicies {}", decision.policy);
        }
        let Some(remedy) = remedy else {
            return f.write_str("\nnothing that was tried would permit it");
        };
        f.write_str("\nit would be permitted, if somebody were to")?;
        for change in &remedy.changes {
            write!(f, "\n{}", indented(change))?;
        }
        write!(f, "\nand then by {}", remedy.decision.policies.join(", "))
    }
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  {line}").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}
