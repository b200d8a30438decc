//! What is printed about a document.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use claviger_attestors::checklist::Outcome;
use claviger_attestors::inspect::encoding::Encoding;
use claviger_attestors::inspect::{Inspection, Kind, Verdict};
use claviger_core::time::UnixTime;
use serde::Serialize;

use crate::console;
use crate::times;

/// `{"file","kind","encoding","at","fields":[{"name","value"}…],"checks":[{"rule","says","outcome",
/// "why"}…],"without":["rule"…],"verdict"}`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    file: String,
    kind: &'static str,
    #[serde(skip)]
    says: &'static str,
    encoding: &'static str,
    /// The time for which it is judged, in seconds since 1970; none for its own.
    at: Option<u64>,
    fields: Vec<Field>,
    checks: Vec<Check>,
    /// Rules that are open and that nobody asks for.
    without: Vec<String>,
    verdict: &'static str,
}

#[derive(Debug, Serialize)]
struct Field {
    name: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Check {
    rule: &'static str,
    says: &'static str,
    outcome: &'static str,
    why: Option<String>,
}

impl Report {
    pub(super) fn new(
        file: &Path,
        kind: &Kind,
        encoding: Encoding,
        at: Option<UnixTime>,
        inspection: &Inspection,
    ) -> Self {
        let field = |(name, value): &(String, String)| Field {
            name: name.clone(),
            value: printable(value),
        };
        let checks = inspection.checks.checks().map(|(rule, outcome)| {
            let (outcome, why) = match outcome {
                Outcome::Kept => ("kept", None),
                Outcome::Broken(why) => ("broken", Some(printable(why))),
                Outcome::Open(why) => ("open", Some(printable(why))),
            };
            Check { rule: rule.id, says: rule.says, outcome, why }
        });
        Self {
            file: file.display().to_string(),
            kind: kind.name,
            says: kind.says,
            encoding: encoding.name(),
            at: at.map(UnixTime::as_secs),
            fields: inspection.fields.iter().map(field).collect(),
            checks: checks.collect(),
            without: Vec::new(),
            verdict: match inspection.verdict() {
                Verdict::Genuine => GENUINE,
                Verdict::Open => "open",
                Verdict::Broken => BROKEN,
            },
        }
    }

    /// The same, where nobody asks for these `rules` as long as they are open; the one that is no rule
    /// for this document, if there is one.
    pub(super) fn without(mut self, rules: &[String]) -> Result<Self, String> {
        let known = |rule: &&String| self.checks.iter().any(|check| check.rule == rule.as_str());
        if let Some(unknown) = rules.iter().find(|rule| !known(rule)) {
            return Err(unknown.clone());
        }
        let open = self.checks.iter().filter(|check| check.outcome == "open");
        let open: BTreeSet<_> = open.map(|check| check.rule).collect();
        let rules: BTreeSet<_> = rules.iter().map(String::as_str).collect();
        if self.verdict == "open" && open.is_subset(&rules) {
            self.verdict = GENUINE;
        }
        self.without = open.intersection(&rules).map(|rule| (*rule).to_owned()).collect();
        Ok(self)
    }

    /// Whether every rule is kept, but for those that nobody asks for.
    pub(super) fn is_genuine(&self) -> bool {
        self.verdict == GENUINE
    }

    fn count(&self, outcome: &str) -> usize {
        self.checks.iter().filter(|check| check.outcome == outcome).count()
    }
}

const GENUINE: &str = "genuine";
const BROKEN: &str = "broken";

/// What a stranger wrote, without what would act on a terminal.
fn printable(text: &str) -> String {
    let acts = |letter: char| {
        letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|letter| if acts(letter) { '\u{fffd}' } else { letter }).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.says)?;
        if self.encoding != Encoding::Plain.name() {
            write!(f, ", written in {}", self.encoding)?;
        }
        match self.at {
            Some(at) => writeln!(f, "; judged at {}", times::show_unsigned(at))?,
            None => writeln!(f, "; judged at its own time")?,
        }
        let fields = self.fields.iter().map(|field| [field.name.clone(), field.value.clone()]);
        writeln!(f, "\n{}\n", console::table(["FIELD", "VALUE"], fields.collect()))?;
        let rows = self.checks.iter().map(|check| {
            let mark = if check.outcome == "broken" { "BROKEN" } else { check.outcome };
            let says = match &check.why {
                Some(why) => format!("{}: {why}", check.says),
                None => check.says.to_owned(),
            };
            [mark.to_owned(), check.rule.to_owned(), says]
        });
        writeln!(f, "{}\n", console::table(["", "RULE", "BY WHICH"], rows.collect()))?;
        match self.verdict {
            GENUINE if self.without.is_empty() => write!(f, "every rule is kept"),
            GENUINE => write!(f, "every rule is kept, without {}", self.without.join(", ")),
            BROKEN => write!(
                f,
                "NOT GENUINE: {} broken, {} open, {} kept",
                self.count("broken"),
                self.count("open"),
                self.count("kept")
            ),
            _ => write!(
                f,
                "NOT ALL PROVED: none broken, {} open, {} kept",
                self.count("open"),
                self.count("kept")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger_attestors::checklist::{Checklist, Rule};
    use claviger_attestors::inspect;

    use super::*;

    static FIRST: Rule = Rule::new("jwt.first", "it is first");
    static SECOND: Rule = Rule::new("jwt.second", "it is second");

    fn report(second: Outcome) -> Report {
        let mut checks = Checklist::exhaustive();
        checks.require(&FIRST, true, || "").unwrap();
        match second {
            Outcome::Kept => checks.require(&SECOND, true, || "").unwrap(),
            Outcome::Broken(why) => checks.require(&SECOND, false, || why).unwrap(),
            Outcome::Open(why) => checks.leave_open(&SECOND, why).unwrap(),
        }
        let fields = vec![("iss".to_owned(), "a\x1b[2Jb".to_owned())];
        let inspection = Inspection { kind: "jwt", fields, checks };
        let at = Some(UnixTime::from_secs(1_800_000_000));
        let kind = inspect::kind("jwt").unwrap();
        Report::new(Path::new("/x"), kind, Encoding::Hex, at, &inspection)
    }

    #[test]
    fn people_read_fields_rules_and_the_verdict() {
        let text = report(Outcome::Broken("it is third".into())).to_string();
        let want = "\
jwt: a signed token (JWT), such as a CI job's, written in hex; judged at 2027-01-15T08:00:00Z

FIELD  VALUE
iss    a\u{fffd}[2Jb

        RULE        BY WHICH
kept    jwt.first   it is first
BROKEN  jwt.second  it is second: it is third

NOT GENUINE: 1 broken, 0 open, 1 kept";
        assert_eq!(text, want);
        let kept = report(Outcome::Kept).to_string();
        assert!(kept.ends_with("\n\nevery rule is kept"), "{kept}");
    }

    #[test]
    fn what_is_open_can_be_done_without_and_what_is_broken_can_not() {
        let without = |outcome, rule: &str| report(outcome).without(&[rule.to_owned()]);
        let open = || Outcome::Open("no nonce".into());
        let waived = without(open(), "jwt.second").unwrap();
        assert!(waived.is_genuine());
        assert!(waived.to_string().ends_with("every rule is kept, without jwt.second"));
        assert!(!without(open(), "jwt.first").unwrap().is_genuine());
        let broken = without(Outcome::Broken("it is third".into()), "jwt.second").unwrap();
        assert!(!broken.is_genuine() && broken.without.is_empty());
        assert_eq!(without(open(), "jwt.third").unwrap_err(), "jwt.third");
        assert!(without(Outcome::Kept, "jwt.second").unwrap().without.is_empty());
    }

    #[test]
    fn json_has_every_rule_with_its_outcome() {
        let json = serde_json::to_value(report(Outcome::Open("no nonce".into()))).unwrap();
        assert_eq!(json["verdict"], "open");
        assert_eq!(json["at"], 1_800_000_000);
        assert_eq!(json["fields"][0]["name"], "iss");
        let want = serde_json::json!({
            "rule": "jwt.second", "says": "it is second", "outcome": "open", "why": "no nonce"
        });
        assert_eq!(json["checks"][1], want);
    }
}
