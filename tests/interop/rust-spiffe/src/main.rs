//! What the `spiffe` crate, an independent client, sees of the Workload API.

use std::env;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use spiffe::workload_api::WorkloadApiError;
use spiffe::{BundleSource, TrustDomain, WorkloadApiClient, X509Source, X509Svid};
use tokio::process::Command;

const SHORT_TTL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = WorkloadApiClient::connect_env().await?;
    a_stranger_is_told_so(&client).await?;
    create_entry("first", &["--x509-svid-ttl", &SHORT_TTL.as_secs().to_string()]).await?;
    it_fetches_the_same_twice(&client).await?;
    the_source_rotates().await?;
    entries_arrive_on_the_open_stream(&client).await
}

async fn a_stranger_is_told_so(client: &WorkloadApiClient) -> Result<()> {
    // The crate waits longer between its attempts when it sees this very refusal.
    match client.fetch_x509_svid().await {
        Err(WorkloadApiError::NoIdentityIssued) => ok("no identity: `no identity issued`"),
        Err(other) => bail!("the crate does not recognise the refusal: {other}"),
        Ok(svid) => bail!("an SVID without an entry: {}", svid.spiffe_id()),
    }
    Ok(())
}

async fn it_fetches_the_same_twice(client: &WorkloadApiClient) -> Result<()> {
    let (one, two) = (client.fetch_x509_context().await?, client.fetch_x509_context().await?);
    let svid = one.default_svid().context("no SVID")?;
    is_ours(svid, "first")?;
    ensure!(one.bundle_set().get(&domain()?).is_some(), "no bundle for {}", domain()?);
    ensure!(leaf(svid)? == leaf(two.default_svid().context("no SVID")?)?, "signed anew per call");
    ensure!(client.fetch_x509_bundles().await?.len() == 1, "FetchX509Bundles gives one bundle");
    ok("FetchX509SVID and FetchX509Bundles; a second call gives the same certificate");
    Ok(())
}

async fn the_source_rotates() -> Result<()> {
    let source = within(X509Source::new()).await??;
    let mut updates = source.updated();
    let before = source.svid()?;
    is_ours(&before, "first")?;
    while leaf(&*source.svid()?)? == leaf(&*before)? {
        within(updates.changed()).await??;
    }
    is_ours(&*source.svid()?, "first")?;
    ensure!(source.is_healthy(), "the source is not healthy after a rotation");
    ensure!(source.bundle_for_trust_domain(&domain()?)?.is_some(), "the bundle is gone");
    source.shutdown().await;
    ok(&format!("X509Source follows the rotation of a {} s SVID", SHORT_TTL.as_secs()));
    Ok(())
}

async fn entries_arrive_on_the_open_stream(client: &WorkloadApiClient) -> Result<()> {
    let mut stream = client.stream_x509_contexts().await?;
    let begin = Instant::now();
    create_entry("second", &[]).await?;
    loop {
        let context = within(stream.next()).await?.context("the stream ended")??;
        if context.svids().len() == 2 {
            break;
        }
    }
    let took = begin.elapsed().as_millis();
    ok(&format!("a new entry reaches the open stream, {took} ms after the command began"));
    Ok(())
}

/// Entitles this program, by user and by path.
async fn create_entry(name: &str, more: &[&str]) -> Result<()> {
    let id = format!("spiffe://{}/{name}", domain()?);
    let path = format!("unix:path:{}", env::current_exe()?.display());
    let status = Command::new(env::var("CLAVIGER")?)
        .args(["entry", "create", "--wait", "--spiffe-id", &id, "--selector", &path])
        .args(["--selector", &format!("unix:uid:{}", env::var("UID_OF_WORKLOAD")?)])
        .args(more)
        .stdout(std::process::Stdio::null())
        .status()
        .await?;
    ensure!(status.success(), "entry create: {status}");
    Ok(())
}

fn is_ours(svid: &X509Svid, name: &str) -> Result<()> {
    let id = svid.spiffe_id().to_string();
    ensure!(id == format!("spiffe://{}/{name}", domain()?), "{id} is not {name}");
    Ok(())
}

fn leaf(svid: &X509Svid) -> Result<Vec<u8>> {
    Ok(svid.cert_chain().first().context("an empty chain")?.as_bytes().to_vec())
}

fn domain() -> Result<TrustDomain> {
    Ok(TrustDomain::new(&env::var("TRUST_DOMAIN")?)?)
}

async fn within<T>(future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future).await.context("nothing came within 15 s")
}

fn ok(what: &str) {
    println!("  ok    {what}");
}
