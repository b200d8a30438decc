//! On files that this very process has open or mapped. Each test has a folder of its own, and only
//! what lies in it are weights.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::time::{SystemClock, UnixTime};
use tempfile::{TempDir, tempdir};

use super::fixture::{Files, Publisher};
use super::*;
use crate::cgroup::Viewpoint;
use crate::workload::Caller;

/// A clock that says that whatever changed now did so long ago.
#[derive(Debug)]
struct Later;

impl Clock for Later {
    fn now(&self) -> UnixTime {
        SystemClock.now().after(Duration::from_secs(60))
    }
}

/// A folder of models that are known, and an attestor for them.
struct World {
    dir: TempDir,
    attestor: Arc<Attestor>,
    _running: tokio::task::JoinSet<()>,
}

impl World {
    fn new(models: &[(&str, Files<'_>)]) -> Self {
        Self::with(models, |config| config)
    }

    fn with(models: &[(&str, Files<'_>)], edit: impl FnOnce(Config) -> Config) -> Self {
        let dir = tempdir().unwrap();
        std::fs::create_dir(dir.path().join("weights")).unwrap();
        let config = edit(Publisher::new().settings(dir.path(), models));
        let clock: Arc<dyn Clock> = Arc::new(Later);
        let (attestor, watch) = Attestor::open(&config, &clock).unwrap();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(async { watch.run().await.unwrap() });
        Self { dir, attestor: Arc::new(attestor), _running: running }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("weights").join(name)
    }

    /// Puts a file there and opens it.
    fn load(&self, name: &str, content: &[u8]) -> File {
        std::fs::write(self.path(name), content).unwrap();
        File::open(self.path(name)).unwrap()
    }

    async fn facts(&self) -> Result<Vec<String>, String> {
        let facts = self.attestor.facts(&ourselves()).await;
        facts.map(|facts| shown(&facts)).map_err(|error| error.to_string())
    }
}

fn shown(facts: &Selectors) -> Vec<String> {
    facts.iter().map(ToString::to_string).collect()
}

/// This process.
fn ourselves() -> Process {
    let viewpoint = Arc::new(Viewpoint::own().unwrap());
    Process::open(Caller { pid: std::process::id(), uid: 0, gid: 0, since: None }, &viewpoint)
        .unwrap()
}

fn sha256(content: &[u8]) -> String {
    hex::encode(digest(&SHA256, content))
}

const ONE: &[u8] = b"the first weights";
const TWO: &[u8] = b"the second weights";
const WHOLE: Files<'_> = &[("one.gguf", ONE), ("two.gguf", TWO)];

#[tokio::test]
async fn a_process_is_named_by_the_weights_that_it_has_open() {
    let world = World::new(&[("tiny", WHOLE)]);
    assert!(world.facts().await.unwrap().is_empty(), "nothing is loaded");
    let _one = world.load("one.gguf", ONE);
    let root: Vec<u8> = [ONE, TWO].map(|file| digest(&SHA256, file).as_ref().to_vec()).concat();
    let part = [
        format!("model:digest:{}", sha256(&root)),
        format!("model:file:one.gguf:{}", sha256(ONE)),
        "model:name:tiny".to_owned(),
    ];
    assert_eq!(world.facts().await.unwrap(), part);
    let _two = world.load("any other name", TWO);
    let all = world.facts().await.unwrap();
    assert!(all.contains(&format!("model:complete:{}", sha256(&root))), "{all:?}");
    assert!(all.contains(&format!("model:file:two.gguf:{}", sha256(TWO))), "{all:?}");
}

#[tokio::test]
async fn one_flipped_byte_and_there_is_no_model() {
    let world = World::new(&[("tiny", WHOLE)]);
    let _one = world.load("one.gguf", ONE);
    for at in 0..TWO.len() {
        let mut content = TWO.to_vec();
        content[at] ^= 1;
        let two = world.load("two.gguf", &content);
        let why = world.facts().await.unwrap_err();
        assert!(why.contains("is in no manifest"), "{why}");
        drop(two);
    }
    // Other lengths are other files.
    for content in [&TWO[1..], &TWO[..TWO.len() - 1], &[], &[TWO, &[0]].concat()] {
        let two = world.load("two.gguf", content);
        world.facts().await.unwrap_err();
        drop(two);
    }
    let _two = world.load("two.gguf", TWO);
    world.facts().await.unwrap();
}

#[tokio::test]
async fn the_file_that_is_open_counts_and_not_what_lies_at_its_path() {
    let world = World::new(&[("tiny", WHOLE)]);
    // Replaced by something else: what is open is still the model.
    let _one = world.load("one.gguf", ONE);
    std::fs::write(world.path("new"), b"something else").unwrap();
    std::fs::rename(world.path("new"), world.path("one.gguf")).unwrap();
    assert!(world.facts().await.unwrap().contains(&"model:name:tiny".to_owned()));
    // Deleted.
    std::fs::remove_file(world.path("one.gguf")).unwrap();
    assert!(world.facts().await.unwrap().contains(&"model:name:tiny".to_owned()));
    // The model at the path of what is open, which is another.
    let _other = world.load("two.gguf", b"something else");
    std::fs::write(world.path("new"), TWO).unwrap();
    std::fs::rename(world.path("new"), world.path("two.gguf")).unwrap();
    world.facts().await.unwrap_err();
}

#[tokio::test]
async fn a_link_does_not_hide_what_it_leads_to() {
    let world = World::new(&[("tiny", WHOLE)]);
    std::fs::write(world.path("bad.gguf"), b"something else").unwrap();
    std::os::unix::fs::symlink(world.path("bad.gguf"), world.dir.path().join("link")).unwrap();
    let _one = world.load("one.gguf", ONE);
    let _through = File::open(world.dir.path().join("link")).unwrap();
    world.facts().await.unwrap_err();
}

#[tokio::test]
async fn what_the_process_can_write_to_is_no_model() {
    let world = World::new(&[("tiny", WHOLE)]);
    std::fs::write(world.path("one.gguf"), ONE).unwrap();
    let writable = [
        OpenOptions::new().read(true).write(true).open(world.path("one.gguf")),
        OpenOptions::new().append(true).open(world.path("one.gguf")),
    ];
    for file in writable {
        let _file = file.unwrap();
        let why = world.facts().await.unwrap_err();
        assert!(why.contains("can write to"), "{why}");
    }
    // With the same content at the other end of a descriptor that is for reading only.
    let _one = File::open(world.path("one.gguf")).unwrap();
    world.facts().await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_or_no_file_is_not_read() {
    let models: [(&str, Files<'_>); 1] = [("tiny", WHOLE)];
    let world = World::with(&models, |config| Config { max_file_size: 17, ..config });
    let _one = world.load("one.gguf", ONE);
    world.facts().await.unwrap();
    let _two = world.load("two.gguf", TWO);
    let why = world.facts().await.unwrap_err();
    assert!(why.contains("max-file-size"), "{why}");
    let world = World::new(&models);
    std::fs::create_dir(world.path("folder")).unwrap();
    let _folder = File::open(world.path("folder")).unwrap();
    assert!(world.facts().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_of_two_models_makes_nobody_the_other() {
    let own: Files<'_> = &[("base.gguf", b"base"), ("head.gguf", b"a head")];
    let other: Files<'_> = &[("base.gguf", b"base"), ("head.gguf", b"another head")];
    let world = World::new(&[("own", own), ("other", other)]);
    let names = |facts: Vec<String>| -> Vec<String> {
        facts
            .into_iter()
            .filter_map(|fact| Some(fact.strip_prefix("model:name:")?.into()))
            .collect()
    };
    let _base = world.load("base.gguf", b"base");
    assert_eq!(names(world.facts().await.unwrap()), ["other", "own"], "it may be of either");
    let head = world.load("head.gguf", b"a head");
    assert_eq!(names(world.facts().await.unwrap()), ["own"]);
    let _both = world.load("second.gguf", b"another head");
    assert_eq!(names(world.facts().await.unwrap()), ["other", "own"], "both are loaded");
    drop(head);
}

#[tokio::test]
async fn files_that_no_model_claims_alone_are_nobodys() {
    let pairs: [(&str, Files<'_>); 3] = [
        ("a", &[("1", b"1"), ("2", b"2")]),
        ("b", &[("2", b"2"), ("3", b"3")]),
        ("c", &[("1", b"1"), ("3", b"3")]),
    ];
    let world = World::new(&pairs);
    let _files = ["1", "2", "3"].map(|name| world.load(name, name.as_bytes()));
    let why = world.facts().await.unwrap_err();
    assert!(why.contains("in several manifests"), "{why}");
}

#[tokio::test]
async fn manifests_are_read_again_and_a_bad_one_names_nobody() {
    let world = World::new(&[("tiny", WHOLE)]);
    let _one = world.load("one.gguf", ONE);
    world.facts().await.unwrap();
    let manifest = world.dir.path().join("tiny.sig");
    std::fs::write(&manifest, Publisher::new().sign(WHOLE, "tiny")).unwrap();
    let why = world.facts().await.unwrap_err();
    assert!(why.contains("manifests of models cannot be used"), "{why}");
}

#[tokio::test]
async fn a_file_is_read_once_whoever_asks() {
    let world = World::new(&[("tiny", WHOLE)]);
    let _one = world.load("one.gguf", ONE);
    let process = ourselves();
    let loaded = world.attestor.look(&process).await.unwrap();
    let [file] = loaded.as_slice() else { panic!("one file is open: {loaded:?}") };
    let asked = (0..100).map(|_| world.attestor.digests.digest(file, None));
    let digests = futures_util::future::join_all(asked).await;
    assert!(digests.iter().all(|found| hex::encode(found.as_ref().unwrap()) == sha256(ONE)));
    assert_eq!(world.attestor.digests.reads(), 1);
    // Another state of it is another file.
    std::fs::write(world.path("one.gguf"), TWO).unwrap();
    world.facts().await.unwrap();
    assert_eq!(world.attestor.digests.reads(), 2);
}

#[tokio::test]
async fn a_file_that_just_changed_is_not_remembered() {
    let dir = tempdir().unwrap();
    std::fs::create_dir(dir.path().join("weights")).unwrap();
    let config = Publisher::new().settings(dir.path(), &[("tiny", WHOLE)]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (attestor, _watch) = Attestor::open(&config, &clock).unwrap();
    std::fs::write(dir.path().join("weights/one.gguf"), ONE).unwrap();
    let _one = File::open(dir.path().join("weights/one.gguf")).unwrap();
    for reads in 1..=2 {
        attestor.facts(&ourselves()).await.unwrap();
        assert_eq!(attestor.digests.reads(), reads);
    }
}

/// What becomes of facts when something happens.
async fn changed_by(world: &World, happen: impl FnOnce()) -> bool {
    let process = ourselves();
    let said = world.attestor.facts(&process).await.unwrap();
    assert!(!said.is_empty());
    let attestor = Arc::clone(&world.attestor);
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { attestor.changed(&process, &said).await });
    // Until it watches.
    tokio::time::sleep(Duration::from_millis(200)).await;
    happen();
    tokio::time::timeout(Duration::from_secs(3), waiting.join_next()).await.is_ok()
}

fn flip(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0], 3).unwrap();
}

#[tokio::test]
async fn a_change_of_a_file_is_told_at_once() {
    let world = World::new(&[("tiny", WHOLE)]);
    let _one = world.load("one.gguf", ONE);
    assert!(!changed_by(&world, || ()).await, "nothing happened");
    assert!(changed_by(&world, || flip(&world.path("one.gguf"))).await);
}

#[tokio::test]
async fn a_change_before_anybody_waits_is_not_missed() {
    let world = World::new(&[("tiny", WHOLE)]);
    let _one = world.load("one.gguf", ONE);
    let process = ourselves();
    let said = world.attestor.facts(&process).await.unwrap();
    flip(&world.path("one.gguf"));
    let changed = world.attestor.changed(&process, &said);
    tokio::time::timeout(Duration::from_secs(3), changed).await.unwrap();
}

#[tokio::test]
async fn what_is_loaded_beside_is_found_in_a_while() {
    let recheck = Duration::from_secs(1);
    let world = World::with(&[("tiny", WHOLE)], |config| Config { recheck, ..config });
    let _one = world.load("one.gguf", ONE);
    let mut other = None;
    assert!(changed_by(&world, || other = Some(world.load("other.gguf", b"other"))).await);
}

#[tokio::test]
async fn of_whom_nothing_was_said_nothing_changes() {
    let world = World::new(&[("tiny", WHOLE)]);
    let (process, nothing) = (ourselves(), Selectors::new());
    let changed = world.attestor.changed(&process, &nothing);
    tokio::time::timeout(Duration::from_millis(100), changed).await.unwrap_err();
}

#[tokio::test]
async fn a_file_that_is_only_mapped_counts() {
    let world = World::new(&[("tiny", WHOLE)]);
    std::fs::write(world.path("one.gguf"), ONE).unwrap();
    // A program that maps what it is told and closes it: Python's is at hand wherever we are tested.
    let script = "import mmap, sys\nf = open(sys.argv[1], 'rb')\n\
                  m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nf.close()\n\
                  import os\n[os.close(n) for n in range(3, 32) if os.path.exists(f'/proc/self/fd/{n}') \
                  and os.readlink(f'/proc/self/fd/{n}').endswith('.gguf')]\n\
                  print('mapped', flush=True)\nsys.stdin.read()";
    let mut child = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(world.path("one.gguf"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let said = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).unwrap();
    assert_eq!(line, "mapped\n");
    let viewpoint = Arc::new(Viewpoint::own().unwrap());
    let process =
        Process::open(Caller { pid: child.id(), uid: 0, gid: 0, since: None }, &viewpoint).unwrap();
    let facts = shown(&world.attestor.facts(&process).await.unwrap());
    assert!(facts.contains(&"model:name:tiny".to_owned()), "{facts:?}");
    child.stdin.take().unwrap().flush().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}
