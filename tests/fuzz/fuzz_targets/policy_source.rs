//! Whatever lies in a policy folder compiles or is refused with a reason, and what compiles answers any
//! question, the same each time.
//!
//! The input is split at zero bytes: policies, `identities.toml`, `tools.toml`.
#![no_main]

use claviger_core::decision::{Action, Context, Parameter, Party, Question, Resource, Verdict};
use claviger_policy::{PolicySet, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let names = ["a.cedar", "identities.toml", "tools.toml"];
    let files = names.into_iter().zip(text.split('\0'));
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let set = match PolicySet::compile(Source::new(files)) {
        Ok(set) => set,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return;
        }
    };
    let party = |id: &str| Party::new(id.parse().unwrap());
    let context = Context {
        purpose: Some("read".parse().unwrap()),
        parameters: [("a".to_owned(), Parameter::Number(1))].into(),
        ..Context::default()
    };
    for (action, resource) in [
        (Action::Connect, Resource::Identity(party("spiffe://example.org/b"))),
        (Action::Call("a".parse().unwrap()), Resource::Tool("a".parse().unwrap())),
    ] {
        let principal = party("spiffe://example.org/a");
        let question = Question { principal, action, resource, context: context.clone() };
        let decision = set.decide(&question);
        assert_eq!(decision, set.decide(&question));
        assert!(decision.verdict == Verdict::Deny || !decision.policies.is_empty());
    }
});
