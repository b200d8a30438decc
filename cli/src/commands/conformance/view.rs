//! The report, for people.

use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::foreign::BUNDLE;
use crate::conformance::{Advice, ForeignDomain, Outcome, Report, Verdict};
use crate::console;

/// A report with what its reader needs to know.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) report: &'a Report,
    /// Where the suite's own trust domain is.
    pub(super) foreign: Option<&'a Path>,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.report.serialize(serializer)
    }
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.report.checks.iter().map(row).collect();
        writeln!(f, "{}\n", console::table(["NO", "CHECK", "STANDARD", "OUTCOME"], rows))?;
        for check in &self.report.checks {
            failures(check, f)?;
        }
        for advice in &self.report.advice {
            self.advise(*advice, f)?;
        }
        write!(f, "{}", self.report.summary)
    }
}

fn row(check: &Verdict) -> [String; 4] {
    let outcome = match &check.outcome {
        Outcome::Passed if check.not_seen.is_empty() => "passed".to_owned(),
        Outcome::Passed => "passed, in part".to_owned(),
        Outcome::Failed { .. } => "FAILED".to_owned(),
        Outcome::NotObservable { why } => format!("not observable: {why}"),
    };
    [check.number.to_string(), check.name.to_owned(), check.standard.clone(), outcome]
}

fn failures(check: &Verdict, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Outcome::Failed { failures } = &check.outcome else { return Ok(()) };
    writeln!(f, "{} {}, {}", check.number, check.name, check.standard)?;
    let mut rule = None;
    for miss in failures {
        // What breaks the same rule stands under it together.
        if rule.replace(miss.expected) != Some(miss.expected) {
            writeln!(f, "  {:<6}  {}", miss.level.to_string(), miss.expected)?;
        }
        writeln!(f, "  seen    {}", miss.seen)?;
    }
    writeln!(f)
}

impl View<'_> {
    fn advise(&self, advice: Advice, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match advice {
            Advice::Register => {
                let uid = rustix::process::getuid().as_raw();
                writeln!(
                    f,
                    "This process has no identity here, so most checks saw nothing. Register it, \
                     and run this again:\n  \
                     claviger entry create --spiffe-id spiffe://TRUST-DOMAIN/conformance \
                     --selector unix:uid:{uid}\n\
                     or, with SPIRE:\n  \
                     spire-server entry create -spiffeID spiffe://TRUST-DOMAIN/conformance \
                     -parentID AGENT-ID -selector unix:uid:{uid}\n"
                )
            }
            Advice::Federate => self.federate(f),
        }
    }

    fn federate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(folder) = self.foreign else {
            return writeln!(
                f,
                "How tokens are validated was seen from outside only: with --foreign-domain DIR, \
                 more can be shown.\n"
            );
        };
        let bundle = folder.join(BUNDLE);
        let (name, bundle) = (ForeignDomain::NAME, bundle.display());
        writeln!(
            f,
            "The trust domain in `{}` is not federated yet, so how tokens are validated was seen \
             from outside only. Give the server its bundle, and this program's entry \
             --federates-with spiffe://{name}; then run this again:\n  \
             claviger bundle set --format spiffe --id spiffe://{name} --path {bundle}\n\
             or, with SPIRE:\n  \
             spire-server bundle set -format spiffe -id spiffe://{name} -path {bundle}\n",
            folder.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::conformance::CATALOGUE;

    fn report(advice: Advice) -> Report {
        let verdicts = CATALOGUE.iter().map(|check| Verdict {
            number: check.number,
            name: check.name,
            standard: check.standard(),
            level: check.level,
            how: None,
            outcome: Outcome::NotObservable { why: "nobody looked" },
            looked_at: vec![],
            not_seen: vec![],
        });
        Report::new("unix:///x".to_owned(), verdicts.collect(), vec![advice])
    }

    #[test]
    fn a_reader_learns_what_to_do() {
        let register = report(Advice::Register);
        let text = View { report: &register, foreign: None }.to_string();
        assert!(text.contains("claviger entry create") && text.contains("spire-server"), "{text}");
        assert!(text.ends_with("\n0 passed, 0 failed, 66 not observable"), "{text}");
        let federate = report(Advice::Federate);
        let text = View { report: &federate, foreign: None }.to_string();
        assert!(text.contains("--foreign-domain"), "{text}");
        let folder = PathBuf::from("/x");
        let text = View { report: &federate, foreign: Some(&folder) }.to_string();
        assert!(text.contains("bundle set") && text.contains("/x/bundle.json"), "{text}");
    }

    #[test]
    fn a_program_gets_the_outcome_beside_the_check() {
        let report = report(Advice::Register).only(&[14]);
        let json = serde_json::to_value(View { report: &report, foreign: None }).unwrap();
        let want = serde_json::json!({
            "address": "unix:///x",
            "passed": 0,
            "failed": 0,
            "not_observable": 1,
            "checks": [{
                "number": 14,
                "name": "jwt-bundles",
                "standard": "SPIFFE Workload API §6.2.2",
                "level": "must",
                "outcome": "not_observable",
                "why": "nobody looked",
                "looked_at": [],
                "not_seen": [],
            }],
            "advice": ["register"],
        });
        assert_eq!(json, want);
    }
}
