//! An SVID that the operator withdraws.

use std::fs;

use claviger_proto::workload::X509svidResponse;
use claviger_tests::process::{Dev, PATIENCE, my_uid};
use claviger_tests::workload::Workload;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Streaming;
use x509_parser::prelude::{FromDer as _, Pem, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::claviger;

async fn next(stream: &mut Streaming<X509svidResponse>) -> X509svidResponse {
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap()
}

fn serial(response: &X509svidResponse) -> Vec<u8> {
    let svid = response.svids.first().unwrap();
    let (_, leaf) = X509Certificate::from_der(&svid.x509_svid).unwrap();
    leaf.raw_serial().to_vec()
}

#[tokio::test]
async fn a_revoked_svid_is_on_the_list_and_replaced_on_open_streams() {
    let dev = Dev::start(&claviger()).await;
    let id = "spiffe://example.org/web";
    dev.admin(&["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"]).await;
    let workload = Workload::at(&dev.agent_socket);
    let mut stream = workload.watch_x509().await.unwrap();
    let first = next(&mut stream).await;
    assert!(first.crl.is_empty(), "nothing is revoked");

    let dir = TempDir::new().unwrap();
    let written = dir.path().to_str().unwrap();
    let socket = format!("unix://{}", dev.agent_socket.display());
    let fetch = ["svid", "fetch", "--write", written, "--endpoint-socket", &socket];
    claviger().json(&fetch).await;
    let file = dir.path().join("svid.0.pem");
    let revoked = dev.admin(&["svid", "revoke", file.to_str().unwrap()]).await;
    let pem = fs::read(&file).unwrap();
    let (pem, _) = Pem::read(std::io::Cursor::new(pem)).unwrap();
    let leaf = pem.parse_x509().unwrap();
    assert_eq!(revoked["spiffe_id"], id);

    // The list, and another SVID: in one message or in two.
    let mut newest = next(&mut stream).await;
    while newest.crl.is_empty() || serial(&newest) == leaf.raw_serial() {
        newest = next(&mut stream).await;
    }
    let (_, list) = CertificateRevocationList::from_der(&newest.crl[0]).unwrap();
    let listed: Vec<_> = list.iter_revoked_certificates().map(|one| one.raw_serial()).collect();
    assert_eq!(listed, [leaf.raw_serial()]);
    assert_ne!(serial(&newest), serial(&first));

    let again = dev.admin(&["svid", "revoke", file.to_str().unwrap()]).await;
    assert_eq!(again, revoked, "once is enough");
    let socket = dev.server_socket.to_str().unwrap();
    let log = claviger().run(["audit", "export", "--socket-path", socket]).await;
    let log = String::from_utf8(log.stdout).unwrap();
    assert_eq!(log.matches("x509_svid_revoked").count(), 1);
}
