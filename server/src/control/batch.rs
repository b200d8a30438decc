//! Several decisions (AuthZEN §7).

use bytes::Bytes;
use claviger_core::id::SpiffeId;
use http::Response;
use http_body_util::Full;
use serde::Serialize;

use super::authorize::{self, Answer};
use super::refusal::Refusal;
use super::wire::{Evaluation, Evaluations, Semantic};
use super::{Inner, json};
use crate::direct::wire::parse;

/// The most questions at a time.
const MAX: usize = 100;

#[derive(Serialize)]
struct Answers {
    evaluations: Vec<Answer>,
}

/// The questions in `body`, one after the other.
pub(super) async fn several(
    door: &Inner,
    gateway: &SpiffeId,
    body: &[u8],
) -> Result<Response<Full<Bytes>>, Refusal> {
    let asked: Evaluations = parse(body)?;
    if MAX < asked.evaluations.len() {
        let why = format!("has {}; ask at most {MAX} at a time", asked.evaluations.len());
        return Err(Refusal::malformed("evaluations", why));
    }
    let Evaluations { subject, action, resource, context, evaluations, options, rest } = asked;
    let of_all = Evaluation { subject, action, resource, context, rest };
    // Without an array it is one question, and so is the answer.
    if evaluations.is_empty() {
        return json(&authorize::answer(door, gateway, of_all).await?);
    }

    let mut answers = Vec::with_capacity(evaluations.len());
    for one in evaluations {
        let answer = authorize::answer(door, gateway, of_all.clone().with(one)).await?;
        let decision = answer.decision;
        answers.push(answer);
        let stops = match options.evaluations_semantic {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !decision,
            Semantic::PermitOnFirstPermit => decision,
        };
        if stops {
            break;
        }
    }
    json(&Answers { evaluations: answers })
}

impl Evaluation {
    /// What `one` says, and what it leaves to the rest (§7.1.1).
    fn with(mut self, one: Self) -> Self {
        self.rest.extend(one.rest);
        Self {
            subject: one.subject.or(self.subject),
            action: one.action.or(self.action),
            resource: one.resource.or(self.resource),
            context: one.context.or(self.context),
            rest: self.rest,
        }
    }
}
