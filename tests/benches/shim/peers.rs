//! Other programs that put TLS around connections, as far as they are installed: each as a pair, with
//! TLS 1.3 and certificates at both ends.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use claviger_tests::process::free_port;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use tokio::process::{Child, Command};

use crate::world::{World, opens};

/// A pair of processes.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) door: SocketAddr,
    _ends: Vec<Child>,
}

/// Those that are installed, in front of the world's sink.
pub(crate) async fn start(world: &World) -> Vec<Peer> {
    let dir = world.dir.path();
    certificates(dir);
    let mut peers = Vec::new();
    if let Some(program) = named("GHOSTUNNEL") {
        peers.push(ghostunnel(&program, dir, world.sink).await);
    }
    if let Some(program) = installed("haproxy") {
        peers.push(haproxy(&program, dir, world.sink).await);
    }
    if let Some(program) = installed("stunnel") {
        peers.push(stunnel(&program, dir, world.sink).await);
    }
    peers
}

fn named(variable: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a setting of a benchmark")]
    let named = std::env::var(variable);
    named.ok().map(PathBuf::from)
}

fn installed(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

/// An authority's certificate, and one with its key for both ends.
fn certificates(dir: &Path) {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "bench");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut end = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    end.subject_alt_names.push(SanType::URI("spiffe://example.org/db".try_into().unwrap()));
    end.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    end.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let end = end.signed_by(&key, &ca).unwrap();
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    fs::write(dir.join("cert.pem"), end.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(dir.join("both.pem"), end.pem() + &key.serialize_pem()).unwrap();
}

async fn run(program: &Path, args: &[&str], port: u16) -> Child {
    let child = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    opens(([127, 0, 0, 1], port).into()).await;
    child
}

async fn ghostunnel(program: &Path, dir: &Path, sink: SocketAddr) -> Peer {
    let (door, between) = (free_port(), free_port());
    let file = |name: &str| dir.join(name).display().to_string();
    let tls = ["--cert", &file("cert.pem"), "--key", &file("key.pem"), "--cacert", &file("ca.pem")];
    let [listen, target] = [format!("127.0.0.1:{between}"), sink.to_string()];
    let server = ["server", "--listen", &listen, "--target", &target, "--allow-all"];
    let far = run(program, &[&server[..], &tls].concat(), between).await;
    let [listen, target] = [format!("127.0.0.1:{door}"), format!("localhost:{between}")];
    let client = ["client", "--listen", &listen, "--target", &target];
    let near = run(program, &[&client[..], &tls].concat(), door).await;
    Peer { name: "ghostunnel", door: ([127, 0, 0, 1], door).into(), _ends: vec![near, far] }
}

async fn haproxy(program: &Path, dir: &Path, sink: SocketAddr) -> Peer {
    let (door, between) = (free_port(), free_port());
    let (ca, both) = (dir.join("ca.pem"), dir.join("both.pem"));
    let (ca, both) = (ca.display(), both.display());
    let write = |name: &str, bind: &str, server: &str| {
        let path = dir.join(name);
        let config = format!(
            "global\n ssl-default-bind-options ssl-min-ver TLSv1.3\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
             listen bench\n bind {bind}\n server next {server}\n"
        );
        fs::write(&path, config).unwrap();
        path.display().to_string()
    };
    let far = write(
        "haproxy-far.cfg",
        &format!("127.0.0.1:{between} ssl crt {both} ca-file {ca} verify required"),
        &sink.to_string(),
    );
    let near = write(
        "haproxy-near.cfg",
        &format!("127.0.0.1:{door}"),
        &format!("127.0.0.1:{between} ssl crt {both} ca-file {ca} verify required"),
    );
    let far = run(program, &["-db", "-f", &far], between).await;
    let near = run(program, &["-db", "-f", &near], door).await;
    Peer { name: "HAProxy", door: ([127, 0, 0, 1], door).into(), _ends: vec![near, far] }
}

async fn stunnel(program: &Path, dir: &Path, sink: SocketAddr) -> Peer {
    let (door, between) = (free_port(), free_port());
    let (ca, both) = (dir.join("ca.pem"), dir.join("both.pem"));
    let write = |name: &str, client: &str, accept: u16, connect: String| {
        let path = dir.join(name);
        let config = format!(
            "foreground = yes\npid =\ndebug = err\nsslVersionMin = TLSv1.3\n[bench]\n\
             client = {client}\naccept = 127.0.0.1:{accept}\nconnect = {connect}\ncert = {}\n\
             CAfile = {}\nverifyChain = yes\n",
            both.display(),
            ca.display(),
        );
        fs::write(&path, config).unwrap();
        path.display().to_string()
    };
    let far = write("stunnel-far.conf", "no", between, sink.to_string());
    let near = write("stunnel-near.conf", "yes", door, format!("127.0.0.1:{between}"));
    let far = run(program, &[&far], between).await;
    let near = run(program, &[&near], door).await;
    Peer { name: "stunnel", door: ([127, 0, 0, 1], door).into(), _ends: vec![near, far] }
}
