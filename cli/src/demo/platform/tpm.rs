//! A TPM in software: Debian's swtpm, with a maker of its own. The demo plays the firmware, which
//! measures what it boots.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use claviger_attestors::dsse::{Algorithm, Envelope, SigningKey};
use claviger_attestors::references::{Image, Manifest, PAYLOAD_TYPE};
use claviger_attestors::tpm;
use claviger_core::time::{Clock as _, SystemClock};
use claviger_runtime::tasks::Tasks;
use claviger_server::config::AttestorsConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{Platform, quoted, settings, tables};
use crate::failure::Failure;
use crate::files;

/// What the firmware measures, and where: a boot loader, into PCR 4.
const LOADER: &[u8] = b"the boot loader of the demo";
const PCR: u8 = 4;

/// How long the TPM may take to start. It makes an RSA key when it is set up, which may take a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the TPM, lets it measure, and says in `folder` what the server is to believe.
pub(super) async fn start(folder: &Path, tasks: &Tasks) -> Result<(Platform, String), Failure> {
    let place = Place::new(folder)?;
    place.set_up().await?;
    let mut tpm = place.run()?;
    place.answers(&mut tpm).await?;
    tasks.spawn("software TPM", |stop| async move {
        stop.cancelled().await;
        Ok(tpm.kill().await?)
    });
    let measured = measure(&place.socket).await?;
    let config = place.server(&measured)?;
    let server = AttestorsConfig { tpm: Some(config), ..AttestorsConfig::default() };
    let device = format!("unix:{}", place.socket.display());
    let agent = tables(&format!("[attestor.tpm]\ndevice = {}\n", quoted(Path::new(&device))))?;
    let line = "TPM in software (swtpm) started; the demo plays its maker and the firmware";
    Ok((Platform { server, agent: Some(agent) }, line.to_owned()))
}

/// Where the TPM and its maker keep their things: absolute, because swtpm may work elsewhere.
struct Place {
    folder: PathBuf,
    socket: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Result<Self, Failure> {
        let folder = folder.join("tpm");
        let socket = folder.join("socket");
        for part in ["state", "maker"] {
            let part = folder.join(part);
            std::fs::create_dir_all(&part)
                .map_err(|error| Failure::because(&error).within(part.display()))?;
        }
        Ok(Self { folder, socket })
    }

    fn write(&self, name: &str, contents: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        files::replace(&path, contents.as_bytes(), files::SECRET)?;
        Ok(path)
    }

    /// Makes the TPM, its endorsement key, and a maker who certifies it.
    async fn set_up(&self) -> Result<(), Failure> {
        let maker = self.folder.join("maker");
        let maker = maker.display();
        let authority = self.write(
            "maker.conf",
            &format!(
                "statedir = {maker}\nsigningkey = {maker}/key.pem\nissuercert = {maker}/cert.pem\n\
                 certserial = {maker}/serial\n"
            ),
        )?;
        let options = self.write("maker.options", "--platform-manufacturer Demo\n")?;
        let setup = self.write(
            "setup.conf",
            &format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
                 create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
                authority.display(),
                options.display()
            ),
        )?;
        let mut command = Command::new("swtpm_setup");
        command.args(["--tpm2", "--create-ek-cert", "--overwrite", "--tpmstate"]);
        command.arg(self.folder.join("state")).arg("--config").arg(setup);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let done = timeout(PATIENCE, command.output()).await;
        let done = done.map_err(|_late| Failure::failed("`swtpm_setup` does not end"))?;
        let Output { status, stdout, stderr } =
            done.map_err(|error| missing("swtpm_setup", &error))?;
        if status.success() {
            return Ok(());
        }
        let said = [stdout, stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Err(Failure::failed(format_args!("`swtpm_setup` ended with {status}: {}", said.trim_end())))
    }

    fn run(&self) -> Result<Child, Failure> {
        let state = format!("dir={}", self.folder.join("state").display());
        let server = format!("type=unixio,path={}", self.socket.display());
        let control = format!("type=unixio,path={}.ctrl", self.socket.display());
        Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", &state, "--server", &server])
            .args(["--ctrl", &control, "--flags", "not-need-init,startup-clear"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| missing("swtpm", &error))
    }

    /// Waits until the TPM listens.
    async fn answers(&self, tpm: &mut Child) -> Result<(), Failure> {
        let listens = async {
            while UnixStream::connect(&self.socket).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            listening = timeout(PATIENCE, listens) => {
                listening.map_err(|_late| Failure::failed("`swtpm` does not listen"))
            }
            _ended = tpm.wait() => Err(Failure::failed("`swtpm` ended at once")),
        }
    }

    /// What the server believes: the maker, and one image, which the demo's operator signs.
    fn server(&self, measured: &str) -> Result<tpm::Config, Failure> {
        let tomorrow = SystemClock.now().as_secs().saturating_add(86_400);
        let expires = i64::try_from(tomorrow).ok();
        let expires = expires.and_then(|tomorrow| jiff::Timestamp::from_second(tomorrow).ok());
        let manifest = Manifest {
            kind: tpm::KIND.to_owned(),
            expires: expires.ok_or_else(|| Failure::failed("the clock is beyond all calendars"))?,
            images: vec![Image {
                name: "demo".to_owned(),
                version: None,
                registers: [(format!("pcr{PCR}"), measured.to_owned())].into(),
            }],
        };
        let sealed = serde_json::to_vec(&manifest).map_err(|error| Failure::because(&error))?;
        let sign = || {
            let key = SigningKey::generate(Algorithm::Ed25519)?;
            let public = key.public_pem()?;
            Ok((public, Envelope::seal(PAYLOAD_TYPE, &sealed, &[key])?))
        };
        let (public, envelope) =
            sign().map_err(|error: aws_lc_rs::error::Unspecified| Failure::because(&error))?;
        let envelope =
            serde_json::to_string(&envelope).map_err(|error| Failure::because(&error))?;
        settings(json!({
            "ek-roots": [self.folder.join("maker/cert.pem")],
            "pcrs": [0, PCR, 7],
            "reference-values": {
                "path": self.write("references.json", &envelope)?,
                "keys": [self.write("operator.pem", &public)?],
            },
        }))
    }
}

fn missing(program: &str, error: &io::Error) -> Failure {
    Failure::failed(format_args!("cannot run `{program}`: {error}"))
        .try_this("install swtpm and its tools (on Debian: apt-get install swtpm swtpm-tools)")
}

/// Measures the boot loader, as a machine's firmware does: `TPM2_PCR_Extend`. What is in the PCR
/// afterwards, in hexadecimal digits.
async fn measure(socket: &Path) -> Result<String, Failure> {
    let loader = digest(&SHA256, LOADER);
    let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, PCR];
    // An empty password, and one digest by SHA-256.
    command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b]);
    command.extend(loader.as_ref());
    let talk = async {
        let mut tpm = UnixStream::connect(socket).await?;
        tpm.write_all(&command).await?;
        let mut header = [0; 10];
        tpm.read_exact(&mut header).await?;
        Ok::<_, io::Error>(header)
    };
    let header = talk.await.map_err(|error| Failure::because(&error))?;
    if !header.ends_with(&[0; 4]) {
        return Err(Failure::failed("the TPM does not measure"));
    }
    Ok(hex::encode(digest(&SHA256, &[&[0; 32], loader.as_ref()].concat())))
}
