//! How does a program in an enclave get a one-time key with no agent and no network? Its parent makes
//! the HTTPS calls, and can neither read nor change what comes back.
//!
//! What the enclave says and hears are three lines of JSON, over whatever there is: here on standard
//! input and output. The parent's part is
//!
//! ```sh
//! curl -d '{}' $SERVER/v1/challenge        # the answer is the first line in
//! curl -d @-   $SERVER/v1/psk              # the line out, and its answer is the second line in
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use claviger_attestors::NodeCollector as _;
use claviger_attestors::aws_nitro::{Collector, CollectorConfig, KIND};
use claviger_core::evidence::Binding;
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::seal::Context;
use claviger_runtime::seal::{Curve, Recipient, Sealed};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

#[derive(Debug, Parser)]
struct Options {
    /// The identity that this image is registered for.
    #[arg(long)]
    id: SpiffeId,
    /// Whom to talk to.
    #[arg(long)]
    peer: SpiffeId,
    /// What for.
    #[arg(long)]
    purpose: Purpose,
    /// Where the security module is.
    #[arg(long, default_value = "/dev/nsm")]
    device: std::path::PathBuf,
}

/// The first line in.
#[derive(Deserialize)]
struct Challenge {
    challenge: String,
}

/// The second line in. Only what is sealed is to be believed.
#[derive(Deserialize)]
struct Answer {
    grant_id: String,
    sealed: Sealed,
}

/// What is sealed.
#[derive(Deserialize)]
struct Issued {
    identity: String,
    client_id: SpiffeId,
    server_id: SpiffeId,
    purpose: Purpose,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { id, peer, purpose, device } = Options::parse();

    // A key for this one answer, made here; and evidence that names it, for this identity only.
    let recipient = Recipient::generate(Curve::X25519)?;
    let nonce = STANDARD.decode(line::<Challenge>()?.challenge)?;
    let binding = Binding::new(KIND, recipient.spki(), id.trust_domain());
    let binding = binding.requesting(Some(id.clone()));
    let collector = Collector::open(&CollectorConfig { device })?;
    let evidence = collector.present(&binding).await?.answer(&nonce).await?;

    println!(
        "{}",
        json!({
            "peer": peer,
            "purpose": purpose,
            "spiffe_id": id,
            "evidence": {
                "kind": KIND,
                "payload": STANDARD.encode(&*evidence),
                "challenge": STANDARD.encode(&nonce),
            },
            "seal_to": STANDARD.encode(recipient.spki()),
        })
    );

    // It opens only if it was sealed to this key, for this identity, nonce and evidence.
    let Answer { grant_id, sealed } = line()?;
    let digest = binding.digest(&nonce);
    let context = Context { id: &id, binding: &digest, evidence: &evidence, grant: &grant_id };
    let opened = recipient.open(sealed, &context)?;
    let issued: Issued = serde_json::from_slice(&opened)?;
    // The evidence does not say what was asked for: the parent may have asked for something else.
    ensure!(issued.client_id == id && issued.server_id == peer && issued.purpose == purpose);
    println!("{} opens one connection of {id} to {peer}", issued.identity);
    Ok(())
}

/// The next line that the parent has to say.
fn line<T: DeserializeOwned>() -> anyhow::Result<T> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    serde_json::from_str(&text).context("the parent did not hand on what the server said")
}
