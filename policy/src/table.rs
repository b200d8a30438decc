//! Tables of expected decisions, beside the policies: every `*.test.toml` of their folder.

#[cfg(test)]
mod tests;

use claviger_core::decision::{Action, Decision, Question, Verdict};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use serde::Deserialize;
use toml::Spanned;

use crate::load::{LoadError, line_of};
use crate::set::PolicySet;
use crate::situation::Situation;
use crate::source::File;
use crate::toml_file::TomlFile;

/// What the name of a table ends with.
pub const SUFFIX: &str = ".test.toml";

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The file it stands in.
    pub file: String,
    /// The line it begins on.
    pub line: usize,
    /// What it is called.
    pub name: String,
    /// What was asked.
    pub question: Question,
    /// What should have been decided.
    pub expected: Verdict,
    /// The policy that should have made it so, if the case names one.
    pub because: Option<String>,
    /// What was decided.
    pub decision: Decision,
}

impl Outcome {
    /// Whether it was decided as expected, and by the policy that was named.
    #[must_use]
    pub fn passed(&self) -> bool {
        let because = self.because.as_ref();
        self.decision.verdict == self.expected
            && because.is_none_or(|policy| self.decision.policies.contains(policy))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<Case>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    principal: SpiffeId,
    action: Action,
    resource: Option<String>,
    purpose: Option<Purpose>,
    #[serde(default)]
    context: Situation,
    expect: Verdict,
    because: Option<String>,
}

/// Decides every case of every table in the folder that `set` was made of.
///
/// # Errors
///
/// [`LoadError`] if a table cannot be read: it names the file, the line and the reason.
pub fn run(set: &PolicySet) -> Result<Vec<Outcome>, LoadError> {
    let tables = set.source().files().iter().filter(|(name, _)| name.ends_with(SUFFIX));
    let mut outcomes = Vec::new();
    for (file, text) in tables {
        for case in cases(&(file.clone(), text.clone()))? {
            let line = line_of(text, case.span().start);
            outcomes.push(decide(set, file, line, case.into_inner())?);
        }
    }
    Ok(outcomes)
}

fn cases((file, text): &File) -> Result<Vec<Spanned<Case>>, LoadError> {
    let table: Table = TomlFile { name: file, text }.parse()?;
    Ok(table.cases)
}

fn decide(set: &PolicySet, file: &str, line: usize, case: Case) -> Result<Outcome, LoadError> {
    let asked =
        case.context.asked(case.principal, case.action, case.resource.as_deref(), case.purpose);
    let question = asked.map_err(|error| {
        LoadError::new(file, Some(line), format!("case `{}`: {error}", case.name))
    })?;
    Ok(Outcome {
        file: file.to_owned(),
        line,
        name: case.name,
        decision: set.decide(&question),
        question,
        expected: case.expect,
        because: case.because,
    })
}
