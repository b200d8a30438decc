//! Proof that something is permitted: a question that the policies say yes to, found by trying.

use claviger_core::decision::{Decided, Question, Resource, Verdict};
use claviger_core::evidence::Tier;

use crate::change::{Change, best_evidence, changes, selectors, transports};
use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// The most questions that are asked to find one.
const MOST: usize = 4_000;

/// A question like `question`, with the same ends, action and purpose, that `set` says yes to.
/// `permits` are what each policy speaks of that might permit it, and `words` what all speak of.
pub(crate) fn find(
    set: &PolicySet,
    question: &Question,
    permits: &[&Vocabulary],
    words: &Vocabulary,
) -> Option<Decided> {
    let mut asked = 0_usize;
    let mut ask = |question: &Question| {
        asked = asked.saturating_add(1);
        let decision = set.decide(question);
        let yes = decision.verdict != Verdict::Deny;
        yes.then(|| Decided { question: question.clone(), decision })
    };
    let mut starts: Vec<Question> = Vec::new();
    for wanted in permits.iter().copied().chain([words]) {
        let start = favourable(question, wanted);
        if !starts.contains(&start) {
            starts.push(start);
        }
    }
    if let Some(found) = starts.iter().find_map(&mut ask) {
        return Some(found);
    }
    let mut left = MOST;
    for start in &starts {
        let single = changes(set, start, words, &[]);
        for (number, first) in single.iter().enumerate() {
            let pairs = single.iter().skip(number.saturating_add(1)).map(Some);
            for second in std::iter::once(None).chain(pairs) {
                left = left.checked_sub(1)?;
                if let Some(found) = ask(&with(start, first, second)) {
                    return Some(found);
                }
            }
        }
    }
    None
}

fn with(start: &Question, first: &Change, second: Option<&Change>) -> Question {
    let mut question = start.clone();
    first.apply(&mut question);
    if let Some(second) = second {
        second.apply(&mut question);
    }
    question
}

/// The same, in the best of circumstances for policies with this vocabulary: no risk, everything
/// attested that they ask for, and fresh evidence of the kind that they name.
pub(crate) fn favourable(question: &Question, words: &Vocabulary) -> Question {
    let mut question = question.clone();
    let Question { principal, resource, context, .. } = &mut question;
    let mut parties = vec![principal];
    if let Resource::Identity(party) = resource {
        parties.push(party);
    }
    for party in parties {
        party.tier = Tier::Affirming;
        party.selectors.extend(selectors(words));
    }
    context.evidence = Some(best_evidence(words));
    context.transport = transports(words).into_iter().next();
    let run = words.texts("run").find_map(|run| run.parse().ok());
    context.run = run.or_else(|| "run:1".parse().ok());
    if let Some(requester) = words.texts("requester").next() {
        context.requester = Some(requester);
    }
    question
}
