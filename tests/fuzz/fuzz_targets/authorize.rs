//! Whatever a gateway posts is a question or is none, and nobody reads it in two ways.
//!
//! The server's source is compiled in, so that the rest of it need not be built to fuzz it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../server/src/control/asked.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod asked;
#[path = "../../../server/src/direct/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod body;
#[path = "../../../server/src/control/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "only a part is used here")]
mod wire;

fuzz_target!(|text: &[u8]| {
    if let Ok(evaluation) = body::parse::<wire::Evaluation>(text)
        && let Ok(asked) = asked::Asked::try_from(evaluation)
    {
        assert!(asked.context.purpose.is_some());
        assert!(asked.origin.is_within_bounds());
        assert!(asked.context.parameters.len() <= 64);
    }
    if let Ok(several) = body::parse::<wire::Evaluations>(text) {
        for one in several.evaluations {
            drop(asked::Asked::try_from(one));
        }
    }
    drop(body::parse::<wire::Signal>(text));
});
