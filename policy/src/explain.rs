//! Why something is denied, and the smallest change by which it would be permitted, proved by asking
//! again.

mod fix;
#[cfg(test)]
mod tests;

use cedar_policy::PolicyId;
use claviger_core::decision::{Action, Decision, Question, Verdict};
use claviger_core::psk::Purpose;
use serde::Serialize;

use self::fix::Fix;
pub use self::fix::MOST_WORLDS;
use crate::change::{Change, changes};
use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// A decision, and what stands behind it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub question: Question,
    /// What was answered.
    pub decision: Decision,
    /// The policies that made it so, as they are written.
    pub policies: Vec<Text>,
    /// What would turn a denial into a permit, if anything was found that does.
    pub remedy: Option<Remedy>,
}

/// A policy as it is written.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Text {
    /// Its name: `file.cedar#name`.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// The smallest change that was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Remedy {
    /// What to do, one or two things.
    pub changes: Vec<String>,
    /// The question after that.
    pub question: Question,
    /// The answer to it, which permits.
    pub decision: Decision,
}

/// The most questions that are asked to find it.
pub const MOST_QUESTIONS: usize = 20_000;

/// Decides `question`, and if that is denied, looks for the smallest change by which it would be
/// permitted: one before two; of the question before what is registered, before a policy is taken
/// away; and only if nothing else helps, a policy more.
#[must_use]
pub fn explain(set: &PolicySet, question: &Question) -> Explanation {
    let decision = set.decide(question);
    let words = Vocabulary::of_all(set.cedar().policies().map(Vocabulary::of));
    let texts = decision.policies.iter().filter_map(|name| {
        let policy = set.cedar().policy(&PolicyId::new(name))?;
        Some(Text { name: name.clone(), text: policy.to_cedar()? })
    });
    let policies = texts.collect();
    let denied = decision.verdict == Verdict::Deny;
    let remedy = denied.then(|| Search::new(set, question, &words).run(&decision)).flatten();
    Explanation { question: question.clone(), decision, policies, remedy }
}

struct Search<'a> {
    set: &'a PolicySet,
    question: &'a Question,
    words: &'a Vocabulary,
    changes: Vec<Change>,
    left: usize,
}

impl<'a> Search<'a> {
    fn new(set: &'a PolicySet, question: &'a Question, words: &'a Vocabulary) -> Self {
        let changes = changes(set, question, words, &purposes(set, words));
        Self { set, question, words, changes, left: MOST_QUESTIONS }
    }

    fn run(mut self, decision: &Decision) -> Option<Remedy> {
        let changes = std::mem::take(&mut self.changes);
        let alone = changes.iter().find_map(|change| self.ask(self.set, &[], &[change]));
        if alone.is_some() {
            return alone;
        }
        let mut fixes = fix::all(self.set, self.question, self.words, &decision.policies);
        let added = fixes.pop();
        let worlds: Vec<_> =
            fixes.iter().filter_map(|fix| Some((fix, fix.apply(self.set)?))).collect();
        let alone = worlds.iter().find_map(|(fix, set)| self.ask(set, &[fix], &[]));
        if alone.is_some() {
            return alone;
        }
        for (number, first) in changes.iter().enumerate() {
            for second in changes.iter().skip(number.saturating_add(1)) {
                let found = self.ask(self.set, &[], &[first, second]);
                if found.is_some() {
                    return found;
                }
            }
        }
        for (fix, set) in &worlds {
            let found = changes.iter().find_map(|change| self.ask(set, &[fix], &[change]));
            if found.is_some() {
                return found;
            }
        }
        self.two_fixes(&fixes, &worlds).or_else(|| self.with_one_more(&added?, &changes, &worlds))
    }

    /// A policy more, alone or with something else.
    fn with_one_more(
        &mut self,
        added: &Fix,
        changes: &[Change],
        worlds: &[(&Fix, PolicySet)],
    ) -> Option<Remedy> {
        let more = added.apply(self.set)?;
        if let Some(found) = self.ask(&more, &[added], &[]) {
            return Some(found);
        }
        for change in changes {
            let found = self.ask(&more, &[added], &[change]);
            if found.is_some() {
                return found;
            }
        }
        worlds.iter().find_map(|(fix, set)| self.ask(&added.apply(set)?, &[fix, added], &[]))
    }

    fn two_fixes(&mut self, fixes: &[Fix], worlds: &[(&Fix, PolicySet)]) -> Option<Remedy> {
        let mut left = MOST_WORLDS;
        for (number, (first, set)) in worlds.iter().enumerate() {
            for second in fixes.iter().skip(number.saturating_add(1)) {
                left = left.checked_sub(1)?;
                let Some(both) = second.apply(set) else { continue };
                let found = self.ask(&both, &[first, second], &[]);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Asks again, otherwise; a remedy if that is permitted.
    fn ask(&mut self, set: &PolicySet, fixes: &[&Fix], changes: &[&Change]) -> Option<Remedy> {
        self.left = self.left.checked_sub(1)?;
        let mut question = self.question.clone();
        for change in changes {
            change.apply(&mut question);
        }
        let decision = set.decide(&question);
        let permitted = decision.verdict == Verdict::Permit;
        let changes = changes.iter().map(ToString::to_string);
        let fixes = fixes.iter().map(ToString::to_string);
        permitted.then(|| Remedy { changes: changes.chain(fixes).collect(), question, decision })
    }
}

/// Every purpose that is written down anywhere.
fn purposes(set: &PolicySet, words: &Vocabulary) -> Vec<Purpose> {
    let registered = set.identities().iter().flat_map(|record| record.purposes.iter().cloned());
    let named = words.texts("purpose").chain(words.texts("purposes"));
    let mut purposes: Vec<Purpose> =
        named.chain(registered).filter_map(|text| text.parse().ok()).collect();
    purposes.sort();
    purposes.dedup();
    purposes
}

/// Whether `action` is between two identities.
fn between(action: &Action) -> bool {
    match action {
        Action::Connect
        | Action::IssuePsk
        | Action::RedeemPsk
        | Action::RedeemPskByIdentity
        | Action::Ask
        | Action::Signal => true,
        Action::IssueX509
        | Action::IssueX509Ca
        | Action::IssueJwt
        | Action::IssueWit
        | Action::IssueEar
        | Action::Call(_) => false,
    }
}
