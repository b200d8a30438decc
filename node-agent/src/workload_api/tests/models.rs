//! Identities that depend on the files of a model that the caller has loaded. The caller is this very
//! process; each test has a folder of its own, and only what lies in it are weights.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use claviger_attestors::model;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::config::{Config, Workload};
use crate::world::within;

/// What `model_signing sign key` of the PyPI package `model-signing` 1.1.1 wrote for a folder `tiny`
/// with a file [`NAME`], of [`CONTENT`], and another one; and the public key.
const SIGNED: &[u8] = include_bytes!("../../../../attestors/src/model/vectors/tiny.sig");
const PUBLISHER: &[u8] = include_bytes!("../../../../attestors/src/model/vectors/publisher.pem");
const NAME: &str = "a.safetensors";
const CONTENT: &[u8] = b"abc\n";

/// A folder with the weights, and settings of an agent that knows the model.
fn folder(world: &World, required: bool) -> (TempDir, Config) {
    let dir = tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    std::fs::create_dir(dir.path().join("weights")).unwrap();
    write(&format!("weights/{NAME}"), CONTENT);
    let (manifest, key) = (write("tiny.sig", SIGNED), write("publisher.pem", PUBLISHER));
    let patterns = vec![format!("{}/weights/*", dir.path().display())];
    let model =
        model::Config { patterns, required, ..model::Config::new(vec![manifest], vec![key]) };
    let workload = Workload { model: Some(model), ..Workload::default() };
    (dir, Config { workload, ..world.config() })
}

/// An entry for this process, if it has loaded the model.
fn with_model(id: &str) -> Entry {
    let mut entry = ours(id);
    entry.selectors.extend(["model:name:tiny".parse().unwrap()]);
    entry
}

fn flip_a_byte(dir: &TempDir) {
    let path = dir.path().join("weights").join(NAME);
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"x", 0).unwrap();
}

#[tokio::test]
async fn a_stream_loses_the_identity_when_one_byte_of_a_loaded_model_changes() {
    let world = World::new().await;
    world.server.put(with_model("llm"));
    let (dir, config) = folder(&world, false);
    let _agent = world.start(config).await;
    let client = crate::world::workload(&world.socket()).await;
    let refused = client.x509().await.map(drop).unwrap_err();
    assert_eq!(said(&refused), NOBODY, "the model is not loaded");

    let _weights = File::open(dir.path().join("weights").join(NAME)).unwrap();
    let mut stream = client.x509().await.unwrap();
    assert_eq!(ids(&stream.next().await.unwrap()), ["spiffe://example.org/llm"]);
    flip_a_byte(&dir);
    assert_eq!(said(&within(stream.end()).await), NOBODY);
    let refused = client.x509().await.map(drop).unwrap_err();
    assert_eq!(said(&refused), NOBODY);
}

#[tokio::test]
async fn a_stream_keeps_what_does_not_depend_on_the_model() {
    let world = World::new().await;
    world.server.put(with_model("llm"));
    world.server.put(ours("any"));
    let (dir, config) = folder(&world, false);
    let _agent = world.start(config).await;
    let client = crate::world::workload(&world.socket()).await;
    let _weights = File::open(dir.path().join("weights").join(NAME)).unwrap();
    let mut stream = client.x509().await.unwrap();
    assert_eq!(stream.next().await.unwrap().svids.len(), 2);
    flip_a_byte(&dir);
    let message = within(stream.next()).await.unwrap();
    assert_eq!(ids(&message), ["spiffe://example.org/any"]);
}

#[tokio::test]
async fn nobody_with_other_weights_is_attested_where_that_is_required() {
    let world = World::new().await;
    world.server.put(ours("any"));
    let (dir, config) = folder(&world, true);
    let _agent = world.start(config).await;
    let client = crate::world::workload(&world.socket()).await;
    assert_eq!(client.ids().await.unwrap(), ["spiffe://example.org/any"], "no weights are loaded");
    let _weights = File::open(dir.path().join("weights").join(NAME)).unwrap();
    let mut stream = client.x509().await.unwrap();
    stream.next().await.unwrap();
    flip_a_byte(&dir);
    // Of the model nothing was said in the stream's identities, but it was said.
    assert_eq!(within(stream.end()).await.code(), Code::Unavailable);
    assert_eq!(client.ids().await.unwrap_err(), Code::Unavailable);
}
