//! What an engine says of a container: Docker's Engine API, which Podman speaks, too.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::cgroup::ContainerId;
use crate::http::{read_body, unix_client};
use crate::workload::FactsError;

/// The most bytes of an answer; one has some kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A container, as far as anybody is told.
pub struct Inspected {
    /// The process that it began with, by its number.
    pub(super) main_pid: u32,
    /// The image, as whoever made the container called it.
    pub(super) image_name: String,
    /// The image, by its digest.
    pub(super) image_digest: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The values may be secrets.
    pub(super) env: Vec<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspected")
            .field("main_pid", &self.main_pid)
            .field("image_name", &self.image_name)
            .field("image_digest", &self.image_digest)
            .field("labels", &self.labels)
            .field("env", &format_args!("({} variables)", self.env.len()))
            .finish()
    }
}

/// What the engine that listens at `socket` says of the container `id`; nothing if it does not know
/// it.
pub(super) async fn inspect(
    socket: &Path,
    id: &ContainerId,
) -> Result<Option<Inspected>, FactsError> {
    let failed = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        FactsError::unavailable(format!("the engine at {} {what}", socket.display()), error)
    };
    let client = unix_client(socket, DEADLINE);
    let client = client.map_err(|error| failed("can't be asked", error.into()))?;
    let answer = client.get(format!("http://localhost/containers/{id}/json")).send().await;
    let answer = answer.map_err(|error| {
        failed(
            "does not answer; is it running, and may the agent ask it?",
            error.without_url().into(),
        )
    })?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        status => {
            let what = format!("the engine at {} answered {status}", socket.display());
            return Err(FactsError::Unavailable { what, source: None });
        }
    }
    let body = read_body(answer, MAX_ANSWER).await.map(Zeroizing::new);
    let body = body.map_err(|error| failed("gave no whole answer", error.into()))?;
    let inspected = read_container(&body, id).ok_or_else(|| {
        FactsError::unknown(format!("the engine at {} told of something else", socket.display()))
    })?;
    Ok(Some(inspected))
}

/// What the answer `json` says of the container `id`, if it is about that container and it runs.
#[must_use]
pub fn read_container(json: &[u8], id: &ContainerId) -> Option<Inspected> {
    // What is wrong with it is not told: the parser might quote a secret.
    let answer: Answer = serde_json::from_slice(json).ok()?;
    let Answer { id: answered, image, state, config } = answer;
    if answered != id.as_str() || !state.running || state.pid == 0 {
        return None;
    }
    let env = config.env.into_iter().filter_map(|variable| {
        let (name, value) = variable.0.split_once('=')?;
        Some((name.to_owned(), Zeroizing::new(value.to_owned())))
    });
    Some(Inspected {
        main_pid: state.pid,
        image_name: config.image,
        image_digest: image,
        labels: config.labels,
        env: env.collect(),
    })
}

/// The parts of the answer that are used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: String,
    #[serde(default)]
    image: String,
    state: State,
    config: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    pid: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default, deserialize_with = "or_none")]
    image: String,
    #[serde(default, deserialize_with = "or_none")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_none")]
    env: Vec<Variable>,
}

/// `NAME=value`.
struct Variable(Zeroizing<String>);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new).map(Self)
    }
}

/// Engines write `null` for what is empty.
fn or_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
