//! A fake server: it speaks the real server's protocol over real TLS, and keeps nothing but what a
//! test told it. What it does not check, the real server's own tests do.
//!
//! | to find | look in |
//! |---|---|
//! | attestation, the stream of changes, PSKs | here |
//! | SVIDs of every kind | `svids` |
//! | policies | `policies` |

mod policies;
mod svids;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use claviger_core::audit::note::{Kind, SigningKey};
use claviger_core::audit::{Checkpoint, Head, SignedCheckpoint, TreeHash};
use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::{EpochKeys, EpochRoot};
use claviger_core::psk::identity::Serial;
use claviger_core::secret::Secret;
use claviger_core::time::{Clock, SystemClock};
use claviger_proto::NEWEST_EPOCH;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_proto::claviger::agent::v1::agent_policy_server::AgentPolicyServer;
use claviger_proto::claviger::agent::v1::agent_psk_server::{AgentPsk, AgentPskServer};
use claviger_proto::claviger::agent::v1::agent_sync_server::{AgentSync, AgentSyncServer};
use claviger_proto::spire::server::agent::v1 as agent;
use claviger_proto::spire::server::agent::v1::agent_server::{Agent, AgentServer};
use claviger_proto::spire::server::svid::v1::svid_server::SvidServer;
use claviger_proto::spire::types;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{Identity, Limits, TlsIncoming, TlsPeer, server_config};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use super::authority::Authority;
use super::machine::Machine;
use super::token_key::TokenKey;
use crate::server::Reason;

use policies::FakePolicies;
pub(crate) use policies::{Delivery, GOOD_FOR, Says, announcement, policies};
pub(crate) use svids::Jwts;

const SERVER: &str = "spiffe://example.org/spire/server";
const TOKEN: &str = "good-token";

/// Agents that earned their identity once, and those that can do it again.
const ONCE: &str = "spiffe://example.org/spire/agent/join_token/good-token";
const AGAIN: &str = "spiffe://example.org/spire/agent/again/1";

/// The server. Clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeServer {
    state: Arc<Mutex<FakeState>>,
    /// Fires with every change.
    changed: watch::Sender<u64>,
    /// The newest change that an agent acknowledged.
    acked: watch::Sender<u64>,
    /// The same of how identities stand.
    acked_standings: watch::Sender<u64>,
    /// Fires when something is asked for whose purpose or audience is `slow`, and then waits until it may be made.
    pub(crate) slow: Arc<[Notify; 2]>,
    stop: CancellationToken,
}

struct FakeState {
    authorities: Vec<Authority>,
    /// The last one signs; so it is with both.
    jwt_keys: Vec<TokenKey>,
    wit_keys: Vec<TokenKey>,
    federated: Vec<types::Bundle>,
    /// Rises whenever any of these changes.
    bundle_version: u64,
    jwts: Jwts,
    checkpoints: SigningKey,
    keys: EpochKeys,
    log: Vec<(EntryId, Option<Entry>)>,
    counts: Counts,
    thrown_out: Option<Reason>,
    agent_ttl: Duration,
    workload_ttl: Duration,
    jwt_ttl: Duration,
    psks: HashMap<String, wire::IssuePskRequest>,
    /// By which attempt each was redeemed.
    redeemed: HashMap<String, Vec<u8>>,
    /// The newest epoch of each series.
    series: HashMap<String, u64>,
    /// How identities stand, in the order in which they were told of.
    standings: Vec<wire::Standing>,
    policies: FakePolicies,
}

/// How often the server was asked for what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) attested: usize,
    pub(crate) renewed: usize,
    pub(crate) svids: usize,
    pub(crate) jwts: usize,
    pub(crate) wits: usize,
    pub(crate) snapshots: usize,
    pub(crate) fetched: usize,
}

impl FakeServer {
    pub(super) fn new() -> Self {
        let root = Secret::copy_from(&[7; 32]).unwrap();
        let state = FakeState {
            authorities: vec![Authority::new()],
            jwt_keys: vec![TokenKey::new("jwt-1")],
            wit_keys: vec![TokenKey::new("wit-1")],
            federated: Vec::new(),
            bundle_version: 1,
            jwts: Jwts::default(),
            checkpoints: audit_key(),
            keys: EpochKeys::new(EpochRoot(root)),
            log: Vec::new(),
            counts: Counts::default(),
            thrown_out: None,
            agent_ttl: Duration::from_secs(3_600),
            workload_ttl: Duration::from_secs(3_600),
            jwt_ttl: Duration::from_secs(300),
            psks: HashMap::new(),
            redeemed: HashMap::new(),
            series: HashMap::new(),
            standings: Vec::new(),
            policies: FakePolicies::default(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(0),
            acked: watch::Sender::new(0),
            acked_standings: watch::Sender::new(0),
            slow: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Listens at `addr`.
    pub(crate) async fn serve(&self, addr: SocketAddr, tasks: &Tasks) -> SocketAddr {
        let (identity, bundle) = {
            let state = self.state();
            let authority = &state.authorities[0];
            (Identity::new(authority.svid(SERVER)), authority.bundle())
        };
        let config = server_config(&identity, &bundle, Arc::new(SystemClock));
        let incoming = TlsIncoming::bind(addr, config, Limits::default(), tasks).await.unwrap();
        let addr = incoming.addr();
        let server = Self { stop: tasks.token(), ..self.clone() };
        let router = tonic::transport::Server::builder()
            .add_service(AgentServer::new(server.clone()))
            .add_service(SvidServer::new(server.clone()))
            .add_service(AgentSyncServer::new(server.clone()))
            .add_service(AgentPolicyServer::new(server.clone()))
            .add_service(AgentPskServer::new(server));
        tasks.spawn("fake server", |stop| async move {
            Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled()).await?)
        });
        addr
    }

    pub(super) fn bundle_pem(&self) -> String {
        self.state().authorities[0].pem()
    }

    /// The authorities, one after the other.
    pub(crate) fn bundle_der(&self) -> Vec<u8> {
        let state = self.state();
        state.authorities.iter().flat_map(|authority| authority.der().to_vec()).collect()
    }

    /// Creates or changes an entry.
    pub(crate) fn put(&self, entry: Entry) -> u64 {
        self.push(entry.id.clone(), Some(entry))
    }

    /// Removes an entry.
    pub(crate) fn delete(&self, id: &str) -> u64 {
        self.push(id.parse().unwrap(), None)
    }

    /// Publishes another authority.
    pub(crate) fn add_authority(&self) {
        self.change_bundle(|state| state.authorities.push(Authority::new()));
    }

    /// Publishes the bundle of another trust domain.
    pub(crate) fn federate(&self, bundle: &Bundle) {
        self.change_bundle(|state| state.federated.push(bundle.into()));
    }

    fn change_bundle(&self, change: impl FnOnce(&mut FakeState)) {
        let mut state = self.state();
        change(&mut state);
        state.bundle_version += 1;
        drop(state);
        self.changed.send_modify(|_| {});
    }

    /// Says how `id` stands from now on: the number of the change.
    pub(crate) fn stand(&self, id: &str, risk: u32, quarantined: bool) -> u64 {
        let mut state = self.state();
        let version = u64::try_from(state.standings.len()).unwrap() + 1;
        let (spiffe_id, changed_at) = (id.to_owned(), SystemClock.now().as_secs());
        state.standings.push(wire::Standing { spiffe_id, risk, quarantined, changed_at, version });
        drop(state);
        self.changed.send_modify(|_| {});
        version
    }

    /// Waits until the agent has taken in the change `version` to how identities stand.
    pub(crate) async fn took_in(&self, version: u64) {
        let mut acked = self.acked_standings.subscribe();
        super::within(acked.wait_for(|acked| version <= *acked)).await.unwrap();
    }

    /// The newest such change that the agent has taken in.
    pub(crate) fn taken_in(&self) -> u64 {
        *self.acked_standings.borrow()
    }

    async fn hold(&self) {
        let [begun, go] = &*self.slow;
        begun.notify_one();
        go.notified().await;
    }

    /// How many keys there are.
    pub(crate) fn psks(&self) -> usize {
        self.state().psks.len()
    }

    /// A key for a connection from `client` to `server` that some other agent has asked for.
    pub(crate) fn forge_psk(&self, client: &str, server: &str) -> String {
        let (client_id, server_id) = (client.to_owned(), server.to_owned());
        let purpose = "test".to_owned();
        let request = wire::IssuePskRequest {
            client_id,
            server_id,
            purpose,
            ttl_seconds: 60,
            ..wire::IssuePskRequest::default()
        };
        self.state().issue_psk(request).unwrap().identity
    }

    /// Throws the agent out for good.
    pub(crate) fn ban(&self) {
        self.throw_out(Reason::AgentBanned);
    }

    /// Throws the agent out until it attests.
    pub(crate) fn evict(&self) {
        self.throw_out(Reason::AgentNotAttested);
    }

    fn throw_out(&self, reason: Reason) {
        self.state().thrown_out = Some(reason);
        self.changed.send_modify(|_| {});
    }

    /// Forgets its authorities for a new one.
    pub(crate) fn begin_anew(&self) {
        self.state().authorities = vec![Authority::new()];
    }

    /// SVIDs last this long from now on.
    pub(crate) fn set_ttls(&self, agent: Duration, workload: Duration) {
        let mut state = self.state();
        (state.agent_ttl, state.workload_ttl) = (agent, workload);
    }

    /// How often it was asked for what.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Waits until the agent has applied the change `sequence`.
    pub(crate) async fn applied(&self, sequence: u64) {
        super::within(self.acked.subscribe().wait_for(|acked| sequence <= *acked)).await.unwrap();
    }

    fn push(&self, id: EntryId, entry: Option<Entry>) -> u64 {
        let mut state = self.state();
        state.log.push((id, entry));
        let sequence = state.log.len().try_into().unwrap();
        self.changed.send_replace(sequence);
        sequence
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    /// Only an agent may go on, and only one that was not thrown out.
    fn admit<T>(&self, request: &Request<T>) -> Result<SpiffeId, Status> {
        let peer = request.extensions().get::<TlsPeer>().and_then(TlsPeer::id).cloned();
        let known = peer.filter(|id| id.path().starts_with("/spire/agent/"));
        let known = known.ok_or_else(|| Status::permission_denied("no agent"))?;
        match self.state().thrown_out {
            Some(reason) => Err(denied(reason)),
            None => Ok(known),
        }
    }

    /// The next response for an agent whose state ends at `from`.
    fn response(&self, told: &Told) -> wire::SubscribeResponse {
        let (from, bundle_version) = (told.at, told.bundle_version);
        let mut state = self.state();
        let sequence = u64::try_from(state.log.len()).unwrap();
        let skip = from.map_or(0, |from| usize::try_from(from).unwrap());
        let newest: BTreeMap<_, _> = state.log.iter().skip(skip).cloned().collect();
        let mut response = wire::SubscribeResponse {
            cursor: Some(wire::Cursor { log_id: vec![9; 16], sequence }),
            snapshot: from.is_none(),
            checkpoint: Some(state.checkpoint()),
            ..wire::SubscribeResponse::default()
        };
        if response.snapshot {
            state.counts.snapshots += 1;
        }
        for (id, entry) in newest {
            match entry {
                Some(entry) => response.upserts.push((&entry).into()),
                None => response.deletes.push(id.to_string()),
            }
        }
        let version = u64::try_from(state.standings.len()).unwrap();
        if told.standings != Some(version) {
            let skip = usize::try_from(told.standings.unwrap_or_default()).unwrap();
            let upserts = state.standings.iter().skip(skip).cloned().collect();
            let snapshot = told.standings.is_none();
            response.standings = Some(wire::Standings { snapshot, upserts, version, more: false });
        }
        if told.policies != state.policies.edition {
            response.policy = state.announced();
        }
        if bundle_version != state.bundle_version {
            response.bundle = Some(state.bundle());
            let upserts = state.federated.clone();
            response.federated =
                Some(wire::FederatedBundles { snapshot: true, upserts, deletes: Vec::new() });
        }
        response
    }
}

/// A key that signs checkpoints.
fn audit_key() -> SigningKey {
    let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    SigningKey::from_pkcs8("example.org/audit", Kind::Author, pkcs8.as_ref()).unwrap()
}

impl FakeState {
    fn bundle(&self) -> types::Bundle {
        let authority = |authority: &Authority| types::X509Certificate {
            asn1: authority.der().to_vec().into(),
            tainted: false,
        };
        types::Bundle {
            trust_domain: "example.org".to_owned(),
            x509_authorities: self.authorities.iter().map(authority).collect(),
            jwt_authorities: self.jwt_keys.iter().map(|key| (&key.authority()).into()).collect(),
            wit_authorities: self.wit_keys.iter().map(|key| (&key.authority()).into()).collect(),
            sequence_number: self.bundle_version,
            ..types::Bundle::default()
        }
    }

    fn checkpoint(&self) -> wire::SignedCheckpoint {
        let size = u64::try_from(self.log.len()).unwrap() + 1;
        let head = Head { size, root: TreeHash::EMPTY };
        let trust_domain = "example.org".parse().unwrap();
        let checkpoint = Checkpoint { trust_domain, epoch: 1, head, time: SystemClock.now() };
        let signed = SignedCheckpoint::sign(checkpoint, &self.checkpoints);
        wire::SignedCheckpoint {
            note: signed.note().to_string(),
            verifier_key: self.checkpoints.public().to_string(),
        }
    }

    /// The answer to evidence that earns `id`.
    fn attested(&mut self, id: &str, csr: &[u8]) -> Result<agent::AttestAgentResponse, Status> {
        self.counts.attested += 1;
        self.thrown_out.take_if(|reason| *reason != Reason::AgentBanned);
        let svid = Some(self.sign(csr, id, self.agent_ttl)?);
        let result = agent::attest_agent_response::Result { svid, reattestable: id == AGAIN };
        let step = Some(agent::attest_agent_response::Step::Result(result));
        Ok(agent::AttestAgentResponse { step })
    }

    fn issue_psk(
        &mut self,
        request: wire::IssuePskRequest,
    ) -> Result<wire::IssuePskResponse, Status> {
        let newest = self.series.entry(request.series.clone()).or_default();
        *newest = request.epoch.max(*newest);
        if request.epoch < *newest {
            let mut over = Status::failed_precondition("series: a later epoch has begun");
            over.metadata_mut().insert(NEWEST_EPOCH, (*newest).into());
            return Err(over);
        }
        let not_after = SystemClock.now().after(Duration::from_secs(60));
        let random = [u8::try_from(self.psks.len()).unwrap(); 12];
        let identity = self.keys.seal(Serial::new(not_after, random));
        let base = self.keys.base(identity).0.expose().to_vec();
        let (identity, not_after) = (identity.to_string(), not_after.as_secs());
        let kept = wire::IssuePskRequest { ttl_seconds: not_after.try_into().unwrap(), ..request };
        self.psks.insert(identity.clone(), kept);
        Ok(wire::IssuePskResponse { identity, base, not_after })
    }

    fn sign(&self, csr: &[u8], id: &str, ttl: Duration) -> Result<types::X509svid, Status> {
        let signed = self.authorities[0].sign(csr, id, ttl);
        let der = signed.ok_or_else(|| Status::invalid_argument("bad request"))?;
        let cert_chain = vec![der.to_vec().into()];
        Ok(types::X509svid { cert_chain, ..types::X509svid::default() })
    }
}

/// As the real server says it.
fn denied(reason: Reason) -> Status {
    let url = b"type.googleapis.com/spire.api.types.PermissionDeniedDetails";
    let mut any = vec![0x0a, u8::try_from(url.len()).unwrap()];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, 2, 0x08, u8::try_from(i32::from(reason)).unwrap()]);
    let mut details = vec![0x08, 7, 0x1a, u8::try_from(any.len()).unwrap()];
    details.extend_from_slice(&any);
    let said = format!("as the details say: {reason:?}");
    Status::with_details(Code::PermissionDenied, said, details.into())
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of the fake"))
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl Agent for FakeServer {
    type AttestAgentStream = Responses<agent::AttestAgentResponse>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<agent::AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.step);
        let Some(agent::attest_agent_request::Step::Params(params)) = first else {
            return Err(Status::invalid_argument("no params"));
        };
        let data = params.data.unwrap();
        let refused = Status::permission_denied("the evidence is not believed");
        let id = match (data.r#type.as_str(), data.payload.as_slice()) {
            ("join_token", token) if token == TOKEN.as_bytes() => ONCE,
            (Machine::KIND, Machine::EVIDENCE) => AGAIN,
            _ => return Err(refused),
        };
        let server = self.clone();
        let csr = params.params.unwrap().csr;
        let outcome = async move {
            if id == AGAIN
                && !requests.message().await?.is_some_and(|answer| answer.step == Machine::answer())
            {
                return Err(refused);
            }
            server.state().attested(id, &csr)
        };
        let challenge = agent::attest_agent_response::Step::Challenge(Machine::CHALLENGE.to_vec());
        let challenge = Ok(agent::AttestAgentResponse { step: Some(challenge) });
        let challenge = (id == AGAIN).then_some(challenge);
        let outcome = futures_util::stream::once(outcome);
        Ok(Response::new(Box::pin(tokio_stream::iter(challenge).chain(outcome))))
    }

    async fn renew_agent(
        &self,
        request: Request<agent::RenewAgentRequest>,
    ) -> Result<Response<agent::RenewAgentResponse>, Status> {
        if self.admit(&request)?.path().contains("/again/") {
            return Err(denied(Reason::AgentMustReattest));
        }
        let mut state = self.state();
        state.counts.renewed += 1;
        let csr = request.into_inner().params.unwrap().csr;
        let svid = Some(state.sign(&csr, ONCE, state.agent_ttl)?);
        Ok(Response::new(agent::RenewAgentResponse { svid }))
    }

    async fn count_agents(
        &self,
        _: Request<agent::CountAgentsRequest>,
    ) -> Result<Response<agent::CountAgentsResponse>, Status> {
        unimplemented()
    }

    async fn list_agents(
        &self,
        _: Request<agent::ListAgentsRequest>,
    ) -> Result<Response<agent::ListAgentsResponse>, Status> {
        unimplemented()
    }

    async fn get_agent(
        &self,
        _: Request<agent::GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        unimplemented()
    }

    async fn delete_agent(
        &self,
        _: Request<agent::DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        unimplemented()
    }

    async fn ban_agent(&self, _: Request<agent::BanAgentRequest>) -> Result<Response<()>, Status> {
        unimplemented()
    }

    async fn create_join_token(
        &self,
        _: Request<agent::CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        unimplemented()
    }

    async fn post_status(
        &self,
        _: Request<agent::PostStatusRequest>,
    ) -> Result<Response<agent::PostStatusResponse>, Status> {
        unimplemented()
    }
}

/// What one agent has been told.
struct Told {
    server: FakeServer,
    requests: Streaming<wire::SubscribeRequest>,
    changes: WatchStream<u64>,
    at: Option<u64>,
    bundle_version: u64,
    standings: Option<u64>,
    policies: u64,
}

impl Told {
    async fn next(&mut self) -> Result<Option<wire::SubscribeResponse>, Status> {
        loop {
            tokio::select! {
                () = self.server.stop.cancelled() => return Err(Status::unavailable("stopping")),
                request = self.requests.message() => match request?.and_then(|request| request.step) {
                    Some(wire::subscribe_request::Step::Ack(ack)) => {
                        self.server.acked.send_replace(ack.sequence);
                        self.server.acked_standings.send_replace(ack.standings);
                    }
                    Some(_) => return Err(Status::invalid_argument("a second Hello")),
                    None => return Ok(None),
                },
                Some(_) = self.changes.next() => {
                    if self.server.state().thrown_out.is_some() {
                        return Err(Status::aborted("the subscription has ended"));
                    }
                    let response = self.server.response(self);
                    self.standings =
                        response.standings.as_ref().map(|told| told.version).or(self.standings);
                    self.at = response.cursor.as_ref().map(|cursor| cursor.sequence);
                    self.bundle_version = self.server.state().bundle_version;
                    self.policies = self.server.state().policies.edition;
                    return Ok(Some(response));
                }
            }
        }
    }
}

#[async_trait]
impl AgentSync for FakeServer {
    type SubscribeStream = Responses<wire::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.admit(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.step);
        let Some(wire::subscribe_request::Step::Hello(hello)) = first else {
            return Err(Status::invalid_argument("no Hello"));
        };
        let told = Told {
            server: self.clone(),
            requests,
            changes: WatchStream::new(self.changed.subscribe()),
            at: hello.cursor.map(|cursor| cursor.sequence),
            bundle_version: 0,
            standings: None,
            policies: 0,
        };
        let responses = futures_util::stream::try_unfold(told, |mut told| async move {
            Ok(told.next().await?.map(|response| (response, told)))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

#[async_trait]
impl AgentPsk for FakeServer {
    async fn issue_psk(
        &self,
        request: Request<wire::IssuePskRequest>,
    ) -> Result<Response<wire::IssuePskResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        if request.purpose == "forbidden" {
            return Err(Status::permission_denied("the policy refuses"));
        }
        if request.purpose == "slow" {
            self.hold().await;
        }
        self.state().issue_psk(request).map(Response::new)
    }

    /// Spends a key, whatever the binder.
    async fn redeem_psk(
        &self,
        request: Request<wire::RedeemPskRequest>,
    ) -> Result<Response<wire::RedeemPskResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let mut state = self.state();
        let first = state.redeemed.get(&request.identity);
        let is_replay = first.is_some_and(|attempt| *attempt != request.attempt_id);
        let Some(kept) = state.psks.get(&request.identity).filter(|_| !is_replay).cloned() else {
            return Err(Status::permission_denied("refused"));
        };
        if !request.acceptor_ids.contains(&kept.server_id) {
            return Err(Status::permission_denied("refused"));
        }
        let base = state.keys.base(request.identity.parse().unwrap()).0.expose().to_vec();
        state.redeemed.insert(request.identity, request.attempt_id);
        Ok(Response::new(wire::RedeemPskResponse {
            base,
            client_id: kept.client_id,
            server_id: kept.server_id,
            purpose: kept.purpose,
            not_after: kept.ttl_seconds.into(),
            run: String::new(),
            series: kept.series,
            epoch: kept.epoch,
        }))
    }
}
