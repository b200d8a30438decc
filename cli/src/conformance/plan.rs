//! Requests of which only their being granted or refused matters: what to ask, and what for.

mod foreign;
mod headers;
mod ids;
mod tokens;

use claviger_core::time::UnixTime;
use tonic::Code;

use super::Options;
use super::answer::Answer;
use super::catalogue::Level;
use super::client::Ask;
use super::foreign::ForeignDomain;
use super::forge::Signer;
use super::jose::JwkSet;
use super::observe::First;
use super::spiffe_id;

/// One such request.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) check: u8,
    pub(super) level: Level,
    /// The rule.
    pub(super) expected: &'static str,
    /// What is peculiar about this request.
    pub(super) what: String,
    pub(super) ask: Ask,
    pub(super) want: Want,
}

/// What ought to become of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Want {
    Granted,
    /// With one of these codes.
    Refused(&'static [Code]),
}

impl Want {
    /// Whether the answer is the one wanted.
    pub(super) fn is_met(self, answer: &Answer<()>) -> bool {
        match self {
            Self::Granted => answer.given().is_some(),
            Self::Refused(codes) => answer.is_refused(codes),
        }
    }
}

/// The request makes no sense.
const INVALID: Want = Want::Refused(&[Code::InvalidArgument]);
/// It makes sense, and the caller has no right to it.
const DENIED: Want = Want::Refused(&[Code::PermissionDenied]);
/// Either: who asks for what cannot be is entitled to nothing.
const INVALID_OR_DENIED: Want = Want::Refused(&[Code::InvalidArgument, Code::PermissionDenied]);

/// What the requests are made from.
pub(super) struct Grounds<'a> {
    pub(super) audience: &'a str,
    now: UnixTime,
    first: &'a First,
    /// The first identity, and its trust domain.
    id: Option<&'a str>,
    trust_domain: Option<&'a str>,
    /// A genuine token, and the JWK Set with its key.
    token: Option<&'a str>,
    jwks: Option<JwkSet>,
    /// A key that nobody knows.
    signer: &'a Signer,
    /// The suite's own trust domain, if it is federated.
    pub(super) foreign: Option<&'a ForeignDomain>,
}

impl<'a> Grounds<'a> {
    pub(super) fn new(
        first: &'a First,
        options: &'a Options<'_>,
        signer: &'a Signer,
        now: UnixTime,
    ) -> Self {
        let id = first.identities().first().copied();
        let trust_domain = id.and_then(|id| spiffe_id::parse(id).ok()).map(|id| id.trust_domain);
        let token = first.jwt.given().and_then(|message| message.svids.first());
        let bundle = |trust_domain: &str| {
            let bundles = &first.jwt_bundles.first.given()?.bundles;
            JwkSet::parse(bundles.get(&format!("spiffe://{trust_domain}"))?).ok()
        };
        let foreign = options.foreign.filter(|foreign| {
            bundle(ForeignDomain::NAME).is_some_and(|bundle| foreign.is_in(&bundle))
        });
        Self {
            audience: options.audience,
            now,
            first,
            id,
            trust_domain,
            token: token.map(|svid| svid.svid.as_str()),
            jwks: trust_domain.and_then(bundle),
            signer,
            foreign,
        }
    }
}

/// Everything to be asked.
pub(super) fn plans(grounds: &Grounds<'_>) -> Vec<Plan> {
    let mut plans = headers::plans(grounds);
    // Who has no identity is refused whatever is asked.
    if grounds.id.is_some() && !grounds.first.jwt.is_unimplemented() {
        plans.extend(ids::plans(grounds));
        plans.extend(tokens::plans(grounds));
        plans.extend(foreign::plans(grounds));
    }
    if grounds.first.wit.first.given().is_some() {
        plans.extend(ids::wit_plans());
    }
    plans
}
