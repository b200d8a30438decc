//! What the fake server says of policies, and what can be wrong with it.

use std::time::Duration;

use bytes::Bytes;
use claviger_core::policies::{MAX_BYTES, PoliciesContents, PolicyTtl, sha256};
use claviger_core::time::{Clock, SystemClock};
use claviger_policy::Source;
use claviger_proto::claviger::agent::v1::agent_policy_server::AgentPolicy;
use claviger_proto::claviger::agent::v1::{
    FetchPoliciesRequest, PoliciesPiece, PolicyAnnouncement,
};
use futures_util::StreamExt as _;
use tonic::{Request, Response, Status, async_trait};

use super::{FakeServer, FakeState, Responses};
use crate::world::token_key::TokenKey;

/// How long announcements are good.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(300);

/// The policies in force, and how they are handed out.
#[derive(Default)]
pub(super) struct FakePolicies {
    token: Option<String>,
    bytes: Bytes,
    /// Rises whenever anything is announced.
    pub(super) edition: u64,
    delivery: Delivery,
}

/// How the server hands out policies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Delivery {
    /// As it should.
    #[default]
    Sound,
    /// With one bit changed.
    Tampered,
    /// It breaks off so many times.
    Interrupted(u8),
    /// Without an end.
    Endless,
}

/// What an announcement says.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub(crate) domain: &'static str,
    pub(crate) version: u64,
    /// How long ago it was signed.
    pub(crate) age: Duration,
}

impl Says {
    pub(crate) const fn number(version: u64) -> Self {
        Self { domain: "example.org", version, age: Duration::ZERO }
    }
}

/// The policies with this text.
pub(crate) fn policies(text: &str) -> Source {
    Source::new(vec![("a.cedar".to_owned(), text.to_owned())])
}

/// What is signed about policies.
pub(crate) fn announcement(policies: &Source, says: &Says, key: &TokenKey) -> String {
    let contents = PoliciesContents {
        trust_domain: says.domain.parse().unwrap(),
        version: says.version,
        sha256: sha256(&policies.to_bytes()),
        policy: policies.digest(),
        ttl: PolicyTtl::MIN,
    };
    let from = SystemClock.now().before(says.age);
    key.token(PoliciesContents::KIND, &contents.claims(from, from.after(GOOD_FOR)))
}

impl FakeServer {
    /// Announces policies as it should: those with this text.
    pub(crate) fn announce(&self, text: &str, version: u64) {
        self.announce_as(text, &Says::number(version), |token| token);
    }

    /// Announces policies; `tamper` changes what was signed.
    pub(crate) fn announce_as(
        &self,
        text: &str,
        says: &Says,
        tamper: impl FnOnce(String) -> String,
    ) {
        let mut state = self.state();
        let policies = policies(text);
        let token = tamper(announcement(&policies, says, state.jwt_keys.last().unwrap()));
        state.policies.token = Some(token);
        state.policies.bytes = policies.to_bytes().into();
        state.policies.edition += 1;
        drop(state);
        self.changed.send_modify(|_| {});
    }

    /// Hands them out so from now on.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        self.state().policies.delivery = delivery;
    }

    /// Has a new key sign from now on, beside the old ones.
    pub(crate) fn add_jwt_key(&self) {
        self.change_bundle(|state| {
            let name = format!("jwt-{}", state.jwt_keys.len() + 1);
            state.jwt_keys.push(TokenKey::new(&name));
        });
    }

    /// Lets only the newest key be believed.
    pub(crate) fn drop_old_jwt_keys(&self) {
        self.change_bundle(|state| {
            let newest = state.jwt_keys.pop();
            state.jwt_keys = newest.into_iter().collect();
        });
    }
}

impl FakeState {
    pub(super) fn announced(&self) -> Option<PolicyAnnouncement> {
        self.policies.token.clone().map(|token| PolicyAnnouncement { token })
    }

    /// The pieces, and how it ends.
    fn pieces(&mut self) -> Vec<Result<PoliciesPiece, Status>> {
        let bytes = self.policies.bytes.clone();
        let piece = |bytes: Bytes| Ok(PoliciesPiece { bytes });
        let half = bytes.len() / 2;
        match &mut self.policies.delivery {
            Delivery::Sound => vec![piece(bytes.slice(..half)), piece(bytes.slice(half..))],
            Delivery::Tampered => {
                let mut tampered = bytes.to_vec();
                tampered[half] ^= 1;
                vec![piece(tampered.into())]
            }
            Delivery::Endless => {
                let large = Bytes::from(vec![b' '; 1 << 20]);
                (0..=MAX_BYTES >> 20).map(|_| piece(large.clone())).collect()
            }
            Delivery::Interrupted(times) => {
                *times -= 1;
                if *times == 0 {
                    self.policies.delivery = Delivery::Sound;
                }
                vec![piece(bytes.slice(..half)), Err(Status::unavailable("broken off"))]
            }
        }
    }
}

#[async_trait]
impl AgentPolicy for FakeServer {
    type FetchPoliciesStream = Responses<PoliciesPiece>;

    async fn fetch_policies(
        &self,
        request: Request<FetchPoliciesRequest>,
    ) -> Result<Response<Self::FetchPoliciesStream>, Status> {
        self.admit(&request)?;
        let mut state = self.state();
        if sha256(&state.policies.bytes) != *request.into_inner().sha256 {
            return Err(Status::not_found("others are in force"));
        }
        state.counts.fetched += 1;
        Ok(Response::new(futures_util::stream::iter(state.pieces()).boxed()))
    }
}
