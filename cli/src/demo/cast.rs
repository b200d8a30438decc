//! The programs: made, registered, started.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use claviger_core::id::SpiffeId;
use claviger_proto::claviger::admin::v1::WaitForEntriesRequest;
use claviger_proto::spire::server::agent::v1::ListAgentsRequest;
use claviger_proto::spire::server::entry::v1::BatchCreateEntryRequest;
use claviger_proto::spire::types;

use super::TRUST_DOMAIN;
use super::orders::{Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::admin::{self, Server};
use crate::dev::Directory;
use crate::failure::Failure;

/// Three programs, two of which are registered.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) frontend: Program,
    pub(super) backend: Program,
    pub(super) stranger: Program,
}

/// The name of a registered program's identity.
pub(super) fn id(name: &str) -> Result<SpiffeId, Failure> {
    format!("spiffe://{TRUST_DOMAIN}/{name}").parse().map_err(|error| Failure::because(&error))
}

/// Makes three programs, registers two, starts all, and lets the two fetch their SVIDs.
pub(super) async fn assemble(
    stage: &mut Stage,
    folder: &Path,
    place: &Directory,
    server: &Server,
) -> Result<Cast, Failure> {
    let [frontend, backend, stranger] = {
        let made =
            async { Ok((make(folder)?, "three programs made: same code, other bytes".into())) };
        stage.step("three programs are made", made).await?
    };
    let register = async {
        Box::pin(register(server, &[&frontend, &backend])).await?;
        Ok(((), "two of them registered by uid, path and SHA-256; the agent knows".into()))
    };
    stage.step("two programs are registered", register).await?;
    let socket = place.agent_socket();
    let start = |made: &Made| Program::start(&made.path, &socket);
    let mut cast = Cast {
        frontend: start(&frontend)?,
        backend: start(&backend)?,
        stranger: start(&stranger)?,
    };
    for program in [&mut cast.frontend, &mut cast.backend] {
        let due = format!("{} fetches its X.509-SVID", program.name());
        stage.step(&due, fetch(program)).await?;
    }
    Ok(cast)
}

async fn fetch(program: &mut Program) -> Result<((), String), Failure> {
    let due = id(program.name())?;
    let report = program.order(&Order::Fetch).await?;
    if report != Report::Fetched(due.clone()) {
        return Err(program.unexpected(&format!("an SVID for {due}"), &report));
    }
    Ok(((), format!("{} asked, and is now {due}", program.name())))
}

/// A program on disk.
#[derive(Debug)]
struct Made {
    name: &'static str,
    path: PathBuf,
    /// Hexadecimal.
    sha256: String,
}

/// Copies of ourselves, told apart by what follows the end of the ELF file, which no loader reads.
fn make(folder: &Path) -> Result<[Made; 3], Failure> {
    let copied = || {
        let ourselves = std::env::current_exe()?;
        // The kernel reports the path without symbolic links.
        let folder = folder.canonicalize()?.join("bin");
        fs::create_dir(&folder)?;
        let copy = |name: &'static str| {
            let path = folder.join(name);
            fs::copy(&ourselves, &path)?;
            writeln!(OpenOptions::new().append(true).open(&path)?, "\n{name}")?;
            let sha256 = sha256(&path)?;
            Ok::<_, io::Error>(Made { name, path, sha256 })
        };
        Ok([copy("frontend")?, copy("backend")?, copy("stranger")?])
    };
    copied().map_err(|error: io::Error| {
        Failure::failed(format_args!("cannot make programs in `{}`: {error}", folder.display()))
            .try_this("set TMPDIR to a directory with room for three copies of this program")
    })
}

fn sha256(path: &Path) -> io::Result<String> {
    struct Hasher(Context);

    impl io::Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut hasher = Hasher(Context::new(&SHA256));
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hex::encode(hasher.0.finish()))
}

/// Registers the programs under the one agent, and waits until it knows.
async fn register(server: &Server, programs: &[&Made]) -> Result<(), Failure> {
    let agents = ListAgentsRequest::default();
    let agents = server.ask("list agents", server.agents().list_agents(agents)).await?.agents;
    let parent = admin::only("list agents", agents)?.id;
    let uid = rustix::process::getuid().as_raw();
    let mut entries = Vec::new();
    for Made { name, path, sha256 } in programs {
        let path = path.display();
        let facts = [format!("uid:{uid}"), format!("path:{path}"), format!("sha256:{sha256}")];
        let selector = |value| types::Selector { r#type: "unix".to_owned(), value };
        entries.push(types::Entry {
            spiffe_id: Some((&id(name)?).into()),
            parent_id: parent.clone(),
            selectors: facts.map(selector).into(),
            ..types::Entry::default()
        });
    }
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    let created =
        server.ask("create entries", server.entries().batch_create_entry(request)).await?;
    let mut entry_ids = Vec::new();
    for result in created.results {
        admin::item("create an entry", result.status)?;
        entry_ids.extend(result.entry.map(|entry| entry.id));
    }
    let request = WaitForEntriesRequest { entry_ids, timeout_ms: 10_000 };
    let spread = server.ask("wait", server.admin().wait_for_entries(request)).await?;
    if spread.reached.len() == 1 && spread.pending.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed("the agent does not get to know the new entries"))
    }
}
