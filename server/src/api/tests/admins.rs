//! Identities that may administrate or sign below, by what their entries say.

use claviger_core::audit::Event;
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_proto::spire::server::agent::v1::{GetAgentRequest, PostStatusRequest};
use claviger_proto::spire::server::entry::v1::{BatchCreateEntryRequest, CountEntriesRequest};
use claviger_proto::spire::server::svid::v1::{MintX509svidRequest, NewDownstreamX509caRequest};
use claviger_proto::spire::types;
use claviger_runtime::tls::{Identity, Svid};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use tonic::{Code, Status};

use super::world::{
    Agent, World, agents, config, csr, entries, entry, refused, svids, world, world_with,
};

fn id(path: &str) -> SpiffeId {
    World::domain().join(path).unwrap()
}

fn parent() -> SpiffeId {
    id("/spire/agent/x")
}

/// What a workload may do with its SVID.
async fn count(workload: &Agent) -> Result<i32, Status> {
    let mut client = entries(&workload.channel);
    let counted = client.count_entries(CountEntriesRequest::default()).await?;
    Ok(counted.into_inner().count)
}

async fn sign_below(
    caller: &Agent,
    csr: Vec<u8>,
    preferred_ttl: i32,
) -> Result<Vec<Vec<u8>>, Status> {
    let request = NewDownstreamX509caRequest { csr, preferred_ttl };
    let answer = svids(&caller.channel).new_downstream_x509ca(request).await?.into_inner();
    assert_eq!(answer.x509_authorities.len(), 1);
    Ok(answer.ca_cert_chain.iter().map(|der| der.to_vec()).collect())
}

impl World {
    /// A workload with an SVID of its own.
    async fn workload(&self, path: &str) -> Agent {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = id(path).to_string().try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let csr = params.serialize_request(&key).unwrap().der().to_vec();
        let request = MintX509svidRequest { csr, ttl: 3_600 };
        let minted = svids(&self.operator()).mint_x509svid(request).await.unwrap();
        self.agent(&minted.into_inner().svid.unwrap(), &key)
    }

    async fn register(&self, name: &str, path: &str, change: impl FnOnce(&mut types::Entry)) {
        let mut wanted = entry(name, &parent(), path, &format!("unix:user:{name}"));
        change(&mut wanted);
        self.create(vec![wanted]).await;
    }
}

#[tokio::test]
async fn an_admin_does_what_the_operator_does() {
    let world = world().await;
    world.register("ops", "/ops", |entry| entry.admin = true).await;
    world.register("web", "/web", |_| {}).await;
    let (ops, web) = (world.workload("/ops").await, world.workload("/web").await);
    assert_eq!(count(&ops).await.unwrap(), 2);
    refused(count(&web).await, Code::PermissionDenied, "whose entry says `admin`");

    let entries_made = vec![entry("new", &parent(), "/new", "unix:uid:7")];
    let request = BatchCreateEntryRequest { entries: entries_made, output_mask: None };
    entries(&ops.channel).batch_create_entry(request).await.unwrap();
    let events = world.events().await;
    let by_ops = Requester::Admin(id("/ops"));
    let is_it = |event: &&Event| {
        matches!(event, Event::EntryCreated { entry, requester }
            if entry.id.as_str() == "new" && *requester == by_ops)
    };
    assert_eq!(events.iter().filter(is_it).count(), 1);
}

/// On the connection that is open already.
#[tokio::test]
async fn the_right_ends_with_the_entry() {
    let world = world().await;
    world.register("ops", "/ops", |entry| entry.admin = true).await;
    let end = crate::storage::fixture::NOW + 60;
    world
        .register("brief", "/brief", |entry| {
            entry.admin = true;
            entry.expires_at = i64::try_from(end).unwrap();
        })
        .await;
    let (ops, brief) = (world.workload("/ops").await, world.workload("/brief").await);
    assert_eq!(count(&brief).await.unwrap(), 2);
    world.clock.set(end);
    refused(count(&brief).await, Code::PermissionDenied, "admin");
    count(&ops).await.unwrap();
    world.delete("ops").await;
    refused(count(&ops).await, Code::PermissionDenied, "admin");
}

#[tokio::test]
async fn the_right_ends_with_the_svid() {
    let world = world().await;
    world.register("ops", "/ops", |entry| entry.admin = true).await;
    let ops = world.workload("/ops").await;
    count(&ops).await.unwrap();
    world.clock.advance(3_601);
    refused(count(&ops).await, Code::PermissionDenied, "expired");
}

#[tokio::test]
async fn the_configuration_names_admins_too() {
    let world = world_with(|config| config.admin_ids = [id("/ops")].into()).await;
    count(&world.workload("/ops").await).await.unwrap();
    refused(count(&world.workload("/web").await).await, Code::PermissionDenied, "admin");
}

#[tokio::test]
async fn an_agent_is_never_an_admin() {
    let first = world().await;
    let agent = first.admitted().await;
    let dir = first.stop().await;
    // Not even where the configuration says so, which would not be read from a file.
    let world = world_with(|config| {
        *config = self::config(dir.path());
        config.admin_ids = [agent.id.clone()].into();
    })
    .await;
    let agent = Agent { channel: world.remote(Some(&agent.identity)), ..agent };
    refused(count(&agent).await, Code::PermissionDenied, "admin");
    let entries_made = vec![types::Entry {
        admin: true,
        spiffe_id: Some((&agent.id).into()),
        ..entry("agent", &id("/spire/agent/y"), "/x", "unix:uid:1")
    }];
    let request = BatchCreateEntryRequest { entries: entries_made, output_mask: None };
    let made = entries(&world.operator()).batch_create_entry(request).await.unwrap().into_inner();
    let status = made.results[0].status.as_ref().unwrap();
    assert_eq!(Code::from(status.code), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn a_downstream_server_has_its_authority_signed() {
    let world = world().await;
    world.register("nested", "/nested", |entry| entry.downstream = true).await;
    let nested = world.workload("/nested").await;
    let key = KeyPair::generate().unwrap();
    let chain = sign_below(&nested, csr(&key), 600).await.unwrap();
    assert_eq!(chain.len(), 1);
    let events = world.events().await;
    let is_it = |event: &&Event| {
        matches!(event, Event::X509CaIssued { server, ttl, entry, .. }
            if *server == nested.id && ttl.as_secs() == 600 && entry.as_str() == "nested")
    };
    assert_eq!(events.iter().filter(is_it).count(), 1);

    sign_below(&nested, csr(&key), 0).await.unwrap();
    refused(sign_below(&nested, csr(&key), -1).await, Code::InvalidArgument, "preferred_ttl");
    refused(sign_below(&nested, vec![1], 60).await, Code::InvalidArgument, "csr");
    world.delete("nested").await;
    let gone = sign_below(&nested, csr(&key), 60).await;
    refused(gone, Code::PermissionDenied, "says `downstream`");
}

/// Agents are those that this server let in, whatever a server below it signs.
#[tokio::test]
async fn a_downstream_server_cannot_pass_for_an_agent() {
    let world = world().await;
    world.register("nested", "/nested", |entry| entry.downstream = true).await;
    let (nested, agent) = (world.workload("/nested").await, world.admitted().await);
    let authority = KeyPair::generate().unwrap();
    let chain = sign_below(&nested, csr(&authority), 600).await.unwrap();
    let authority_der = CertificateDer::from(chain[0].clone());
    let issuer = rcgen::Issuer::from_ca_cert_der(&authority_der, authority).unwrap();
    let request = GetAgentRequest { id: Some((&agent.id).into()), output_mask: None };
    let shown = agents(&world.operator()).get_agent(request).await.unwrap().into_inner();
    let serial: u128 = shown.x509svid_serial_number.parse().unwrap();

    let forge = |path: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id(path).to_string().try_into().unwrap())];
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial.to_be_bytes()));
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let chain = vec![leaf.der().clone(), authority_der.clone()];
        world.remote(Some(&Identity::new(Svid::new(chain, &key.serialize_der()).unwrap())))
    };
    // What is forged is believed where names alone count.
    world.register("ops", "/ops", |entry| entry.admin = true).await;
    let count = entries(&forge("/ops")).count_entries(CountEntriesRequest::default()).await;
    assert_eq!(count.unwrap().into_inner().count, 2);
    let status = agents(&forge(agent.id.path())).post_status(PostStatusRequest::default()).await;
    refused(status, Code::PermissionDenied, "replaced by a newer one");
    agents(&agent.channel).post_status(PostStatusRequest::default()).await.unwrap();
}

#[tokio::test]
async fn nobody_else_signs_below() {
    let world = world().await;
    world.register("ops", "/ops", |entry| entry.admin = true).await;
    let (ops, agent) = (world.workload("/ops").await, world.admitted().await);
    for caller in [&ops, &agent] {
        let key = KeyPair::generate().unwrap();
        let signed = sign_below(caller, csr(&key), 60).await;
        refused(signed, Code::PermissionDenied, "says `downstream`");
    }
    let request = NewDownstreamX509caRequest::default();
    let operator = svids(&world.operator()).new_downstream_x509ca(request).await;
    refused(operator, Code::PermissionDenied, "says `downstream`");
}
