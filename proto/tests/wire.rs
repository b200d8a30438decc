//! What others rely on: paths, field numbers and types, as bytes and names written down by hand.

use bytes::Bytes;
use claviger_proto::spire::server::{agent, bundle, entry, svid};
use claviger_proto::spire::types;
use claviger_proto::{FILE_DESCRIPTOR_SET, claviger, workload};
use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

/// Every RPC in `set`, as `/service/Method`, with `>` for a stream of requests and `<` for one of
/// responses.
fn rpcs(set: &[u8]) -> Result<Vec<String>, DecodeError> {
    let set = FileDescriptorSet::decode(set)?;
    let mut rpcs = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let package = file.package.as_deref().map(|name| format!("{name}."));
            let service_path = format!("{}{}", package.unwrap_or_default(), service.name());
            for method in &service.method {
                let requests = if method.client_streaming() { ">" } else { "" };
                let responses = if method.server_streaming() { "<" } else { "" };
                rpcs.push(format!("/{service_path}/{}{requests}{responses}", method.name()));
            }
        }
    }
    Ok(rpcs)
}

#[test]
fn the_workload_api_is_the_standards_and_nothing_else() {
    assert_eq!(
        rpcs(workload::FILE_DESCRIPTOR_SET).unwrap(),
        [
            "/SpiffeWorkloadAPI/FetchX509SVID<",
            "/SpiffeWorkloadAPI/FetchX509Bundles<",
            "/SpiffeWorkloadAPI/FetchJWTSVID",
            "/SpiffeWorkloadAPI/FetchJWTBundles<",
            "/SpiffeWorkloadAPI/ValidateJWTSVID",
            "/SpiffeWorkloadAPI/FetchWITSVID<",
            "/SpiffeWorkloadAPI/FetchWITBundles<",
        ]
    );
    assert_eq!(workload::spiffe_workload_api_server::SERVICE_NAME, "SpiffeWorkloadAPI");
}

#[test]
fn spires_server_api_has_its_paths() {
    let mut spires = rpcs(FILE_DESCRIPTOR_SET).unwrap();
    spires.retain(|rpc| rpc.starts_with("/spire."));
    let mut want = Vec::new();
    for (service, methods) in [
        (
            "agent.v1.Agent",
            "CountAgents ListAgents GetAgent DeleteAgent BanAgent AttestAgent>< RenewAgent \
             CreateJoinToken PostStatus",
        ),
        (
            "bundle.v1.Bundle",
            "CountBundles GetBundle AppendBundle PublishJWTAuthority PublishWITAuthority \
             ListFederatedBundles GetFederatedBundle BatchCreateFederatedBundle \
             BatchUpdateFederatedBundle BatchSetFederatedBundle BatchDeleteFederatedBundle",
        ),
        (
            "entry.v1.Entry",
            "CountEntries ListEntries GetEntry BatchCreateEntry BatchUpdateEntry BatchDeleteEntry \
             GetAuthorizedEntries SyncAuthorizedEntries><",
        ),
        (
            "svid.v1.SVID",
            "MintX509SVID MintJWTSVID MintWITSVID BatchNewX509SVID NewJWTSVID BatchNewWITSVID \
             NewDownstreamX509CA",
        ),
    ] {
        let path = |method| format!("/spire.api.server.{service}/{method}");
        want.extend(methods.split_whitespace().map(path));
    }
    let delegated = "SubscribeToX509SVIDs< SubscribeToX509Bundles< FetchJWTSVIDs \
                     SubscribeToJWTBundles<";
    let path = |method| format!("/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/{method}");
    want.extend(delegated.split_whitespace().map(path));
    spires.sort();
    want.sort();
    assert_eq!(spires, want);
    assert_eq!(agent::v1::agent_server::SERVICE_NAME, "spire.api.server.agent.v1.Agent");
    assert_eq!(bundle::v1::bundle_server::SERVICE_NAME, "spire.api.server.bundle.v1.Bundle");
    assert_eq!(entry::v1::entry_server::SERVICE_NAME, "spire.api.server.entry.v1.Entry");
    assert_eq!(svid::v1::svid_server::SERVICE_NAME, "spire.api.server.svid.v1.SVID");
}

#[test]
fn an_x509_svid_response_has_the_standards_bytes() {
    let response = workload::X509svidResponse {
        svids: vec![workload::X509svid {
            spiffe_id: "a".into(),
            x509_svid: Bytes::from_static(&[1]),
            x509_svid_key: Bytes::from_static(&[2]),
            bundle: Bytes::from_static(&[3]),
            hint: "h".into(),
        }],
        crl: vec![Bytes::from_static(&[4])],
        federated_bundles: [("b".to_owned(), [5].as_slice().into())].into(),
    };
    let want = [
        [0x0a, 15].as_slice(),                 // svids = 1
        &[0x0a, 1, b'a'],                      // spiffe_id = 1
        &[0x12, 1, 1],                         // x509_svid = 2
        &[0x1a, 1, 2],                         // x509_svid_key = 3
        &[0x22, 1, 3],                         // bundle = 4
        &[0x2a, 1, b'h'],                      // hint = 5
        &[0x12, 1, 4],                         // crl = 2
        &[0x1a, 6, 0x0a, 1, b'b', 0x12, 1, 5], // federated_bundles = 3, a map
    ];
    assert_eq!(response.encode_to_vec(), want.concat());
}

#[test]
fn a_wit_svid_has_the_standards_bytes() {
    let svid = workload::Witsvid {
        spiffe_id: "a".into(),
        wit_svid: "t".into(),
        wit_svid_key: "k".into(),
        hint: "h".into(),
    };
    let want = [0x0a, 1, b'a', 0x12, 1, b't', 0x1a, 1, b'k', 0x22, 1, b'h'];
    assert_eq!(svid.encode_to_vec(), want);
}

#[test]
fn an_entry_has_spires_bytes() {
    let id = |path: &str| types::Spiffeid { trust_domain: "d".into(), path: path.into() };
    let entry = types::Entry {
        id: "i".into(),
        spiffe_id: Some(id("/s")),
        parent_id: Some(id("")),
        selectors: vec![types::Selector { r#type: "t".into(), value: "v".into() }],
        x509_svid_ttl: 5,
        federates_with: vec!["f".into()],
        admin: true,
        downstream: true,
        expires_at: 300,
        dns_names: vec!["n".into()],
        revision_number: 11,
        store_svid: true,
        jwt_svid_ttl: 13,
        hint: "h".into(),
        created_at: 15,
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
        }),
    };
    let want = [
        [0x0a, 1, b'i'].as_slice(),                     // id = 1
        &[0x12, 7, 0x0a, 1, b'd', 0x12, 2, b'/', b's'], // spiffe_id = 2
        &[0x1a, 3, 0x0a, 1, b'd'],                      // parent_id = 3
        &[0x22, 6, 0x0a, 1, b't', 0x12, 1, b'v'],       // selectors = 4
        &[0x28, 5],                                     // x509_svid_ttl = 5
        &[0x32, 1, b'f'],                               // federates_with = 6
        &[0x38, 1],                                     // admin = 7
        &[0x40, 1],                                     // downstream = 8
        &[0x48, 0xac, 0x02],                            // expires_at = 9
        &[0x52, 1, b'n'],                               // dns_names = 10
        &[0x58, 11],                                    // revision_number = 11
        &[0x60, 1],                                     // store_svid = 12
        &[0x68, 13],                                    // jwt_svid_ttl = 13
        &[0x72, 1, b'h'],                               // hint = 14
        &[0x78, 15],                                    // created_at = 15
        &[0x82, 0x01, 4, 0x08, 1, 0x10, 1],             // additional_attributes = 16
    ];
    assert_eq!(entry.encode_to_vec(), want.concat());
}

#[test]
fn filters_are_wrapped_so_that_unset_differs_from_false() {
    let filter = entry::v1::list_entries_request::Filter {
        by_hint: Some("h".into()),
        by_downstream: Some(false),
        ..Default::default()
    };
    assert_eq!(filter.encode_to_vec(), [0x2a, 3, 0x0a, 1, b'h', 0x32, 0]);
    let filter = agent::v1::list_agents_request::Filter {
        by_banned: Some(true),
        by_can_reattest: Some(false),
        by_expires_before: "x".into(),
        ..Default::default()
    };
    assert_eq!(filter.encode_to_vec(), [0x1a, 2, 0x08, 1, 0x22, 0, 0x2a, 1, b'x']);
}

#[test]
fn attestation_has_spires_bytes() {
    let request = agent::v1::AttestAgentRequest {
        step: Some(agent::v1::attest_agent_request::Step::Params(
            agent::v1::attest_agent_request::Params {
                data: Some(types::AttestationData { r#type: "t".into(), payload: vec![1] }),
                params: Some(agent::v1::AgentX509svidParams { csr: vec![2] }),
            },
        )),
    };
    let want = [
        [0x0a, 13].as_slice(),                 // params = 1
        &[0x0a, 6, 0x0a, 1, b't', 0x12, 1, 1], // data = 1
        &[0x12, 3, 0x0a, 1, 2],                // params = 2
    ];
    assert_eq!(request.encode_to_vec(), want.concat());
}

#[test]
fn a_bundle_has_spires_bytes() {
    let bundle = types::Bundle {
        trust_domain: "d".into(),
        x509_authorities: vec![types::X509Certificate {
            asn1: Bytes::from_static(&[1]),
            tainted: true,
        }],
        jwt_authorities: Vec::new(),
        refresh_hint: 4,
        sequence_number: 5,
        wit_authorities: vec![types::WitKey { key_id: "k".into(), ..Default::default() }],
    };
    let want = [
        [0x0a, 1, b'd'].as_slice(),      // trust_domain = 1
        &[0x12, 5, 0x0a, 1, 1, 0x10, 1], // x509_authorities = 2
        &[0x20, 4],                      // refresh_hint = 4
        &[0x28, 5],                      // sequence_number = 5
        &[0x32, 3, 0x12, 1, b'k'],       // wit_authorities = 6
    ];
    assert_eq!(bundle.encode_to_vec(), want.concat());
}

/// Compiles only if no type in the list has `Debug`: with it, which `refuse` is meant would be
/// ambiguous.
macro_rules! have_no_debug {
    ($($message:ty),+ $(,)?) => {$(
        const _: fn() = || {
            trait Refuse<Why> {
                fn refuse() {}
            }
            struct HasDebug;
            impl<T> Refuse<()> for T {}
            impl<T: std::fmt::Debug> Refuse<HasDebug> for T {}
            <$message as Refuse<_>>::refuse()
        };
    )+};
}

have_no_debug!(
    workload::X509svid,
    workload::X509svidResponse,
    workload::Jwtsvid,
    workload::JwtsvidResponse,
    workload::ValidateJwtsvidRequest,
    workload::Witsvid,
    workload::WitsvidResponse,
    types::AttestationData,
    types::JoinToken,
    types::Jwtsvid,
    types::Witsvid,
    agent::v1::AttestAgentRequest,
    agent::v1::attest_agent_request::Step,
    agent::v1::CreateJoinTokenRequest,
    svid::v1::BatchNewWitsvidResponse,
    svid::v1::MintJwtsvidResponse,
    svid::v1::NewJwtsvidResponse,
    claviger::agent::v1::IssuePskResponse,
    claviger::agent::v1::RedeemPskResponse,
    claviger::psk::v1::IssueResponse,
    claviger::psk::v1::RedeemResponse,
);
