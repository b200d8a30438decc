//! An enclave of AWS Nitro. There is none here, so the demo plays the hypervisor: it signs documents
//! like AWS', by a root of its own that the demo's server is told to trust instead.
//!
//! Everything else is as it is in an enclave: the conversation, the rules, the reference values.

mod certificates;
mod hypervisor;
mod recorded;

use std::path::Path;
use std::sync::Arc;

use claviger_attestors::aws_nitro::{self, Collector};
use claviger_attestors::dsse::{Algorithm, Envelope, SigningKey};
use claviger_attestors::references::PAYLOAD_TYPE;
use claviger_core::time::{Clock as _, SystemClock};
use claviger_node_agent::config::Attestors;
use claviger_server::config::AttestorsConfig;
use serde_json::json;

use super::{Platform, settings};
use crate::failure::Failure;
use crate::files;
use hypervisor::Hypervisor;
pub(in crate::demo) use recorded::judge;

/// How long the reference values are worth something, in seconds: longer than any demo.
const DAY: i64 = 86_400;

/// Starts the hypervisor's part, and leaves in `folder` what an operator would give to the server.
pub(super) fn start(folder: &Path) -> Result<(Platform, String), Failure> {
    let now = SystemClock.now();
    let hypervisor = Hypervisor::new(now)?;
    let [root, references, public] =
        ["nitro-root.der", "nitro-references.json", "nitro-references.pem"]
            .map(|name| folder.join(name));
    files::replace(&root, hypervisor.root(), files::PUBLIC)?;

    let expires = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(DAY);
    let expires =
        jiff::Timestamp::from_second(expires).map_err(|error| Failure::because(&error))?;
    let image = json!({"name": "demo", "registers": {"pcr0": hex::encode(hypervisor.image())}});
    let values =
        json!({"kind": aws_nitro::KIND, "expires": expires.to_string(), "images": [image]});
    let failed = |error| Failure::because(&error);
    let key = SigningKey::generate(Algorithm::Ed25519).map_err(failed)?;
    files::replace(&public, key.public_pem().map_err(failed)?.as_bytes(), files::PUBLIC)?;
    let envelope = Envelope::seal(PAYLOAD_TYPE, values.to_string().as_bytes(), &[key]);
    let envelope = serde_json::to_vec(&envelope.map_err(failed)?);
    let envelope = envelope.map_err(|error| Failure::because(&error))?;
    files::replace(&references, &envelope, files::PUBLIC)?;

    let config: aws_nitro::Config = settings(json!({
        "reference-values": {"path": references, "keys": [public]},
        "insecure-test-root": root,
    }))?;
    let server = AttestorsConfig { aws_nitro: Some(config), ..AttestorsConfig::default() };
    let hypervisor = Arc::new(hypervisor);
    let agent = Attestors::played(aws_nitro::KIND, move || {
        Ok(Box::new(Collector::new(Arc::<Hypervisor>::clone(&hypervisor))))
    });
    let line = "no enclave here: the demo plays the Nitro hypervisor, with its own root";
    Ok((Platform { server, agent: Some(agent) }, line.to_owned()))
}
