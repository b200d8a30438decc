//! Who am I? Prints this program's identities as the agent's SPIFFE Workload API tells them, and
//! again whenever they change.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use clap::Parser;
use claviger_examples::SocketOption;
use claviger_proto::workload::X509svidRequest;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_runtime::unix::connector;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    agent: SocketOption,
    /// Keep running, and print every change.
    #[arg(long)]
    watch: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();

    // The transport is a Unix socket; the URI only fills a header.
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector(options.agent.socket.0)?)
        .await?;

    // Nothing is presented: the agent knows from the kernel which process asks. The header proves
    // that the request does not come from a browser.
    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    let mut updates =
        SpiffeWorkloadApiClient::new(channel).fetch_x509svid(request).await?.into_inner();

    // Each message is the complete state: replace what you had. The stream stays open, and the
    // agent sends the next message well before a certificate expires.
    while let Some(update) = updates.message().await? {
        for svid in update.svids {
            let (chain, key) = (svid.x509_svid.len(), svid.x509_svid_key.len());
            println!("{}: {chain} bytes of certificates, {key} bytes of key", svid.spiffe_id);
        }
        if !options.watch {
            break;
        }
    }
    Ok(())
}
