//! May this be done? Asks the server on behalf of whoever wants to do it, as a gateway in front of tools
//! or services does, and prints the decision. Ends with 0 if it may, with 1 if not.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Parser;
use claviger_core::der;
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::SystemClock;
use claviger_examples::SocketOption;
use claviger_proto::workload::X509svidRequest;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_runtime::tls::{Identity, Svid, TrustBundle, mutual_web_client_config};
use claviger_runtime::unix::connector;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    agent: SocketOption,
    /// Where the control door is, such as 127.0.0.1:8444.
    #[arg(long)]
    control: SocketAddr,
    /// Who wants to do it.
    #[arg(long)]
    subject: SpiffeId,
    /// Which tool they want to call.
    #[arg(long)]
    tool: String,
    /// What for.
    #[arg(long)]
    purpose: Purpose,
    /// What the tool is called with: a JSON object.
    #[arg(long, default_value = "{}", value_parser = parameters)]
    parameters: Value,
}

/// Numbers stay numbers, and `{"a":1,"a":2}` is for the server to refuse.
fn parameters(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 << 10;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let (identity, bundle) = own_svid(&options.agent).await?;

    // Whom we talk to is checked by its SPIFFE ID; the name only fills a field.
    let server = bundle.trust_domain().join("/spire/server")?;
    let tls = mutual_web_client_config(&identity, &bundle, server, Arc::new(SystemClock));
    let tcp = TcpStream::connect(options.control).await.context("cannot reach the control door")?;
    let name = ServerName::from(options.control.ip());
    let stream = TlsConnector::from(tls).connect(name, tcp).await?;

    let question = json!({
        "subject": { "type": "identity", "id": options.subject },
        "action": { "name": "call", "properties": options.parameters },
        "resource": { "type": "tool", "id": options.tool },
        "context": { "purpose": options.purpose },
    });
    // Many questions can follow each other here; a gateway keeps the connection.
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post("/v1/authorize")
        .header("host", options.control.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(question.to_string())))?;
    let (answer, connection) = tokio::join!(requests.send_request(request), connection);
    connection?;
    let answer = answer?;
    ensure!(answer.status().is_success(), "the server refused to decide: {}", answer.status());
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    println!("{answer}");
    // Whatever is not said to be permitted is denied.
    let permitted = answer.get("decision").and_then(Value::as_bool) == Some(true);
    Ok(if permitted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// This program's X.509-SVID, and whom it believes.
async fn own_svid(agent: &SocketOption) -> anyhow::Result<(Identity, TrustBundle)> {
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector(agent.socket.0.clone())?)
        .await?;
    let mut request = tonic::Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    let mut client = SpiffeWorkloadApiClient::new(channel);
    let update = client.fetch_x509svid(request).await?.into_inner().message().await?;
    let svid = update.and_then(|update| update.svids.into_iter().next()).context("no identity")?;
    let id: SpiffeId = svid.spiffe_id.parse()?;
    let certificates = |bytes: &Bytes| -> anyhow::Result<Vec<_>> {
        let all = der::split(bytes)?;
        Ok(all.iter().map(|der| CertificateDer::from(der.to_vec())).collect())
    };
    let identity = Svid::new(certificates(&svid.x509_svid)?, &svid.x509_svid_key)?;
    let bundle = TrustBundle::new(id.trust_domain().clone(), &certificates(&svid.bundle)?)?;
    Ok((Identity::new(identity), bundle))
}
