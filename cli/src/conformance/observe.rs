//! Everything that is asked of a Workload API, and what it answered. Nothing is judged here.

use std::time::Duration;

use claviger_core::time::UnixTime;
use claviger_proto::workload::{
    JwtBundlesResponse, JwtsvidResponse, ValidateJwtsvidResponse, WitBundlesResponse,
    WitsvidResponse, X509BundlesResponse, X509svidResponse,
};
use futures_util::future::{join, join5};
use futures_util::stream::{self, StreamExt as _};
use prost_types::FileDescriptorProto;

use super::Options;
use super::answer::Answer;
use super::client::{Client, Watched};
use super::forge::Signer;
use super::plan::{self, Grounds, Plan};

/// How many requests are under way at a time: few enough for a server that limits its callers.
const CONCURRENCY: usize = 8;
/// How many identities are looked at one by one.
const MAX_IDENTITIES: usize = 16;

/// What was seen.
pub(super) struct Observed {
    pub(super) now: UnixTime,
    pub(super) audience: String,
    /// Whether it is served over TCP.
    pub(super) tcp: bool,
    pub(super) first: First,
    pub(super) second: Second,
}

/// Answers to what any caller asks.
pub(super) struct First {
    pub(super) x509: Watched<X509svidResponse>,
    pub(super) x509_bundles: Watched<X509BundlesResponse>,
    pub(super) jwt_bundles: Watched<JwtBundlesResponse>,
    pub(super) wit: Watched<WitsvidResponse>,
    pub(super) wit_bundles: Watched<WitBundlesResponse>,
    /// For one audience, and no identity in particular.
    pub(super) jwt: Answer<JwtsvidResponse>,
}

/// Answers to what depends on the first ones.
#[derive(Default)]
pub(super) struct Second {
    /// For two audiences.
    pub(super) jwt_two: Option<Answer<JwtsvidResponse>>,
    /// For each identity.
    pub(super) jwt_by_id: Vec<(String, Answer<JwtsvidResponse>)>,
    pub(super) wit_by_id: Vec<(String, Answer<WitsvidResponse>)>,
    /// Of each genuine token.
    pub(super) validated: Vec<(String, Answer<ValidateJwtsvidResponse>)>,
    pub(super) reflection: Option<Answer<Vec<FileDescriptorProto>>>,
    /// Requests of which only the code matters, as planned.
    pub(super) probes: Vec<(Plan, Answer<()>)>,
    /// Whether the suite's own trust domain is federated.
    pub(super) federated: bool,
}

/// Asks everything.
pub(super) async fn observe(
    client: &Client,
    options: &Options<'_>,
    signer: &Signer,
    now: UnixTime,
) -> (First, Second) {
    let audience = [options.audience.to_owned()];
    let first = first(client, &audience, options.quiet).await;
    if first.is_silence() {
        return (first, Second::default());
    }
    let grounds = Grounds::new(&first, options, signer, now);
    let second = second(client, &audience, &first, &grounds).await;
    (first, second)
}

async fn first(client: &Client, audience: &[String], quiet: Duration) -> First {
    let streams = join5(
        client.watch_x509(quiet),
        client.watch_x509_bundles(quiet),
        client.watch_jwt_bundles(quiet),
        client.watch_wit(quiet),
        client.watch_wit_bundles(quiet),
    );
    let (streams, jwt) = join(streams, client.fetch_jwt(audience, "")).await;
    let (x509, x509_bundles, jwt_bundles, wit, wit_bundles) = streams;
    First { x509, x509_bundles, jwt_bundles, wit, wit_bundles, jwt }
}

impl First {
    /// Whether nothing was answered at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self.x509.first, Answer::Late)
            && matches!(self.x509_bundles.first, Answer::Late)
            && matches!(self.jwt_bundles.first, Answer::Late)
            && matches!(self.wit.first, Answer::Late)
            && matches!(self.wit_bundles.first, Answer::Late)
            && matches!(self.jwt, Answer::Late)
    }

    /// The caller's identities, by whichever profile shows them.
    pub(super) fn identities(&self) -> Vec<&str> {
        let x509 = self.x509.first.given().into_iter().flat_map(|message| &message.svids);
        let jwt = self.jwt.given().into_iter().flat_map(|message| &message.svids);
        let wit = self.wit.first.given().into_iter().flat_map(|message| &message.svids);
        let mut ids: Vec<&str> = Vec::new();
        let all = x509
            .map(|svid| svid.spiffe_id.as_str())
            .chain(jwt.map(|svid| svid.spiffe_id.as_str()))
            .chain(wit.map(|svid| svid.spiffe_id.as_str()));
        for id in all.filter(|id| !id.is_empty()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.truncate(MAX_IDENTITIES);
        ids
    }
}

async fn second(
    client: &Client,
    audience: &[String],
    first: &First,
    grounds: &Grounds<'_>,
) -> Second {
    let ids: Vec<_> = first.identities().into_iter().map(str::to_owned).collect();
    let served = |served: bool| if served { ids.clone() } else { Vec::new() };
    let two = [audience, &["claviger-conformance-two".to_owned()]].concat();
    let jwt_two = match &first.jwt {
        Answer::Given(_) => Some(client.fetch_jwt(&two, "").await),
        Answer::Refused(..) | Answer::Late | Answer::Unasked => None,
    };
    let jwt_by_id = stream::iter(served(first.jwt.given().is_some()))
        .map(|id| async {
            let answer = client.fetch_jwt(audience, &id).await;
            (id, answer)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let wit_by_id = stream::iter(served(first.wit.first.given().is_some()))
        .map(|id| async {
            let answer = client.fetch_wit(&id).await;
            (id, answer)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let validated = stream::iter(tokens(&first.jwt))
        .map(|token| async {
            let answer = client.validate(grounds.audience, &token).await;
            (token, answer)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let probes = stream::iter(plan::plans(grounds))
        .map(|plan| async {
            let answer = client.perform(&plan.ask).await;
            (plan, answer)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let reflection = Some(client.reflect().await);
    let federated = grounds.foreign.is_some();
    Second { jwt_two, jwt_by_id, wit_by_id, validated, reflection, probes, federated }
}

fn tokens(jwt: &Answer<JwtsvidResponse>) -> Vec<String> {
    let svids = jwt.given().map(|message| message.svids.as_slice()).unwrap_or_default();
    svids.iter().take(MAX_IDENTITIES).map(|svid| svid.svid.clone()).collect()
}
