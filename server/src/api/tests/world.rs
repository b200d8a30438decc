//! A server, its operator, and agents.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::audit::{Body, Event, Verifier};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::Clock;
use claviger_proto::claviger::admin::v1::ReadAuditRequest;
use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, attest_agent_request,
    attest_agent_response,
};
use claviger_proto::spire::server::bundle::v1::bundle_client::BundleClient;
use claviger_proto::spire::server::entry::v1::entry_client::EntryClient;
use claviger_proto::spire::server::entry::v1::{BatchCreateEntryRequest, BatchDeleteEntryRequest};
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::types;
use claviger_runtime::tasks::{Drain, Tasks};
use claviger_runtime::tls::{self, Identity, Svid, TrustBundle, client_config};
use claviger_runtime::unix;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::config::Config;
use crate::registry::fixture;
use crate::registry::server_id;
use crate::run::{Running, Server};
use crate::storage::fixture::{NOW, TestClock};

pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) clock: Arc<TestClock>,
    pub(super) running: Running,
    tasks: Tasks,
}

/// A server with the built-in policy.
pub(super) async fn world() -> World {
    world_with(|_| {}).await
}

pub(super) async fn world_with(change: impl FnOnce(&mut Config)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOW);
    let mut config = config(dir.path());
    change(&mut config);
    let tasks = Tasks::default();
    let shown: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
    let running = Server::start(config, shown, &tasks).await.unwrap();
    World { dir, clock, running, tasks }
}

pub(super) fn config(dir: &Path) -> Config {
    let mut config = Config::new(fixture::domain(), dir.join("data"));
    config.listen = ([127, 0, 0, 1], 0).into();
    config.admin_socket = dir.join("admin.sock");
    config
}

/// An agent that was admitted.
pub(super) struct Agent {
    pub(super) id: SpiffeId,
    pub(super) identity: Identity,
    pub(super) channel: Channel,
}

/// What a node needs to attest: the same twice is the same attempt.
pub(super) struct Node {
    pub(super) token: String,
    pub(super) key: KeyPair,
}

impl Node {
    pub(super) fn with(token: &str) -> Self {
        Self { token: token.to_owned(), key: KeyPair::generate().unwrap() }
    }
}

impl World {
    pub(super) fn domain() -> TrustDomain {
        fixture::domain()
    }

    /// The admin socket.
    pub(super) fn operator(&self) -> Channel {
        let path = unix::connector(self.running.admin_socket.clone()).unwrap();
        Endpoint::from_static("http://admin").connect_with_connector_lazy(path)
    }

    pub(super) fn trust(&self) -> TrustBundle {
        let pems = pem::parse_many(&self.running.bundle_pem).unwrap();
        let ders: Vec<_> =
            pems.into_iter().map(|pem| CertificateDer::from(pem.into_contents())).collect();
        TrustBundle::new(Self::domain(), &ders).unwrap()
    }

    /// Over the network, as `identity` or as nobody.
    pub(super) fn remote(&self, identity: Option<&Identity>) -> Channel {
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        let server = server_id(&Self::domain());
        let tls = client_config(identity, &self.trust(), server, clock);
        let address = self.running.address.to_string().parse().unwrap();
        Endpoint::from_static("http://server")
            .connect_with_connector_lazy(tls::connector(address, tls))
    }

    pub(super) async fn token(&self) -> Node {
        let request = CreateJoinTokenRequest { ttl: 600, ..CreateJoinTokenRequest::default() };
        let made = AgentClient::new(self.operator()).create_join_token(request).await.unwrap();
        Node::with(&made.into_inner().value)
    }

    /// Presents the node's token and key.
    pub(super) async fn attest(&self, node: &Node) -> Result<Agent, Status> {
        let svid = self.attest_as("join_token", node.token.as_bytes(), csr(&node.key)).await?;
        Ok(self.agent(&svid, &node.key))
    }

    pub(super) async fn attest_as(
        &self,
        kind: &str,
        evidence: &[u8],
        csr: Vec<u8>,
    ) -> Result<types::X509svid, Status> {
        let data = types::AttestationData { r#type: kind.into(), payload: evidence.to_vec() };
        let params = attest_agent_request::Params {
            data: Some(data),
            params: Some(AgentX509svidParams { csr }),
        };
        let step = Some(attest_agent_request::Step::Params(params));
        self.attest_step(AttestAgentRequest { step }).await
    }

    pub(super) async fn attest_step(
        &self,
        request: AttestAgentRequest,
    ) -> Result<types::X509svid, Status> {
        let mut client = AgentClient::new(self.remote(None));
        let mut answers = client.attest_agent(tokio_stream::iter([request])).await?.into_inner();
        match answers.message().await?.unwrap().step.unwrap() {
            attest_agent_response::Step::Result(result) => Ok(result.svid.unwrap()),
            attest_agent_response::Step::Challenge(_) => panic!("join tokens need no challenge"),
        }
    }

    pub(super) fn agent(&self, svid: &types::X509svid, key: &KeyPair) -> Agent {
        let chain: Vec<_> =
            svid.cert_chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let id = tls::verify_svid(&chain, &self.trust(), self.clock.now()).unwrap();
        let identity = Identity::new(Svid::new(chain, &key.serialize_der()).unwrap());
        let channel = self.remote(Some(&identity));
        Agent { id, identity, channel }
    }

    /// An agent, admitted with a fresh token.
    pub(super) async fn admitted(&self) -> Agent {
        self.attest(&self.token().await).await.unwrap()
    }

    pub(super) async fn create(&self, entries: Vec<types::Entry>) {
        let request = BatchCreateEntryRequest { entries, output_mask: None };
        let created = EntryClient::new(self.operator()).batch_create_entry(request).await.unwrap();
        for result in created.into_inner().results {
            assert_eq!(result.status.unwrap().code, 0);
        }
    }

    pub(super) async fn delete(&self, id: &str) {
        let request = BatchDeleteEntryRequest { ids: vec![id.to_owned()] };
        let deleted = EntryClient::new(self.operator()).batch_delete_entry(request).await.unwrap();
        assert_eq!(deleted.into_inner().results[0].status.clone().unwrap().code, 0);
    }

    /// Everything in the audit log, checked.
    pub(super) async fn events(&self) -> Vec<Event> {
        let request = ReadAuditRequest::default();
        let records = AdminClient::new(self.operator()).read_audit(request).await.unwrap();
        let records: Vec<_> = records.into_inner().map(Result::unwrap).collect().await;
        let mut verifier = Verifier::default();
        let mut events = Vec::new();
        for record in records {
            verifier.push(record.sequence, &record.body).unwrap();
            events.push(serde_json::from_slice::<Body>(&record.body).unwrap().event);
        }
        events
    }

    /// The server again, over what one has left in `dir`.
    pub(super) async fn again(
        dir: tempfile::TempDir,
        clock: Arc<TestClock>,
        config: fn(&Path) -> Config,
    ) -> Self {
        let tasks = Tasks::default();
        let shown: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let running = Server::start(config(dir.path()), shown, &tasks).await.unwrap();
        Self { dir, clock, running, tasks }
    }

    /// Waits until there is such a record in the audit log, which is written a moment after a denial.
    pub(super) async fn recorded(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let request = ReadAuditRequest { follow: true, ..ReadAuditRequest::default() };
        let records = AdminClient::new(self.operator()).read_audit(request).await.unwrap();
        let mut records = records.into_inner();
        let found = async {
            loop {
                let record = records.next().await.unwrap().unwrap();
                let event = serde_json::from_slice::<Body>(&record.body).unwrap().event;
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.unwrap()
    }

    /// Stops the server in good order, and gives back what it leaves on disk.
    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.tasks.stop();
        assert_eq!(self.tasks.drained(Duration::from_secs(30)).await, Drain::Clean);
        self.dir
    }
}

pub(super) fn agents(channel: &Channel) -> AgentClient<Channel> {
    AgentClient::new(channel.clone())
}

pub(super) fn entries(channel: &Channel) -> EntryClient<Channel> {
    EntryClient::new(channel.clone())
}

pub(super) fn svids(channel: &Channel) -> SvidClient<Channel> {
    SvidClient::new(channel.clone())
}

pub(super) fn bundles(channel: &Channel) -> BundleClient<Channel> {
    BundleClient::new(channel.clone())
}

pub(super) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// An entry as the operator writes it.
pub(super) fn entry(id: &str, parent: &SpiffeId, identity: &str, selector: &str) -> types::Entry {
    let entry = fixture::entry(id, "/spire/agent/x", identity, selector);
    types::Entry { parent_id: Some(parent.into()), ..(&entry).into() }
}

#[track_caller]
pub(super) fn refused<T>(outcome: Result<T, Status>, code: Code, text: &str) {
    let Err(status) = outcome else { panic!("not refused") };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{status:?}");
}
