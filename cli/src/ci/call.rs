//! Asking, and asking again.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::server::{CallError, Server};
use super::token::Tokens;
use crate::console;
use crate::failure::Failure;
use claviger_core::evidence::Binding;

/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two tries.
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Asks `server` for what `body` says, with a token that is bound as `binding` says if it can be.
/// While the server is away or can't decide, it is asked again, until `patience` is over.
pub(crate) async fn call(
    server: &Server,
    tokens: &Tokens,
    binding: Option<&Binding>,
    (path, body): (&str, &str),
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        // A new one each time, where there is one to be had: the last may be used up.
        let token = tokens.token(binding).await?;
        let (failure, after) = match server.post(path, &token, body).await {
            Ok(answer) => return Ok(answer),
            Err(CallError::Said(problem)) if !problem.is_temporary() => {
                return Err(problem.to_failure());
            }
            Err(CallError::Said(problem)) => (problem.to_failure(), problem.retry_after),
            Err(CallError::Lost(why)) => (lost(&why), None),
        };
        let next = after.unwrap_or(pause).min(LAST_PAUSE);
        if patience < begun.elapsed().saturating_add(next) {
            return Err(failure);
        }
        console::remark(format_args!("{failure}; trying again in {} ms", next.as_millis()));
        sleep(next).await;
        pause = pause.saturating_mul(2);
    }
}

fn lost(why: &str) -> Failure {
    Failure::failed(format_args!("cannot ask the server: {why}")).try_this(
        "check `--server`. A server that shows its own SVID needs `--bundle`, and one with a \
         certificate of the Web's must not have it",
    )
}
