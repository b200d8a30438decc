//! Telling a program that its files are new.

use std::ffi::OsString;
use std::fs::File;
use std::future::{self, Future};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::process::{Pid, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

use claviger_runtime::telemetry::Chain;

use crate::console;

/// How long a program may take. Meanwhile no update is written.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is told of new files, and how.
#[derive(Args, Debug)]
pub(super) struct Reload {
    /// Runs a program after each update, for at most 30 s. All that follows is its arguments, so
    /// this goes last; there is no shell, unless it is the program: `--exec sh -c '…'`
    #[arg(
        long,
        value_names = ["PROGRAM", "ARGUMENT"],
        num_args = 1..,
        allow_hyphen_values = true,
        requires = "write",
        display_order = 950
    )]
    exec: Vec<OsString>,

    /// Sends a signal after each update, to the process whose id is in this file
    #[arg(long, value_name = "FILE", requires = "write")]
    pid_file: Option<PathBuf>,

    /// The signal that goes to the process in --pid-file
    #[arg(long, value_enum, ignore_case = true, value_name = "NAME", default_value = "HUP")]
    #[arg(requires = "pid_file")]
    signal: Signal,
}

/// The signals by which programs are told to look at their files.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Signal {
    #[value(name = "HUP", alias = "SIGHUP")]
    Hup,
    #[value(name = "USR1", alias = "SIGUSR1")]
    Usr1,
    #[value(name = "USR2", alias = "SIGUSR2")]
    Usr2,
    #[value(name = "WINCH", alias = "SIGWINCH")]
    Winch,
    #[value(name = "TERM", alias = "SIGTERM")]
    Term,
}

impl From<Signal> for rustix::process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Hup => Self::HUP,
            Signal::Usr1 => Self::USR1,
            Signal::Usr2 => Self::USR2,
            Signal::Winch => Self::WINCH,
            Signal::Term => Self::TERM,
        }
    }
}

/// Why a program was not told.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("cannot start `{}`", .program.display())]
    Start { program: OsString, source: io::Error },
    #[error("`{}` ended with {status}", .program.display())]
    Ended { program: OsString, status: ExitStatus },
    #[error("`{}` was ended because it took longer than {} s", .program.display(), PATIENCE.as_secs())]
    Late { program: OsString },
    #[error("cannot read `{}`", .path.display())]
    PidFile { path: PathBuf, source: io::Error },
    #[error("no process id is in `{}`", .path.display())]
    NoPid { path: PathBuf },
    #[error("cannot signal process {}, which `{}` names", .pid.as_raw_nonzero(), .path.display())]
    Signal { path: PathBuf, pid: Pid, source: io::Error },
}

impl Reload {
    async fn run(&self) -> Result<(), ReloadError> {
        if let Some(path) = &self.pid_file {
            signal(path, self.signal)?;
        }
        match self.exec.split_first() {
            Some((program, arguments)) => execute(program, arguments).await,
            None => Ok(()),
        }
    }
}

async fn execute(program: &OsString, arguments: &[OsString]) -> Result<(), ReloadError> {
    let program = program.clone();
    let running = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        // Our own stdout has one line for each update, and nothing else.
        .stdout(io::stderr())
        .kill_on_drop(true)
        .spawn();
    let mut running = match running {
        Ok(running) => running,
        Err(source) => return Err(ReloadError::Start { program, source }),
    };
    match timeout(PATIENCE, running.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(ReloadError::Ended { program, status }),
        Ok(Err(source)) => Err(ReloadError::Start { program, source }),
        Err(_elapsed) => Err(ReloadError::Late { program }),
    }
}

fn signal(path: &Path, signal: Signal) -> Result<(), ReloadError> {
    let path = path.to_owned();
    let pid = match read_pid(&path) {
        Ok(Some(pid)) => pid,
        Ok(None) => return Err(ReloadError::NoPid { path }),
        Err(source) => return Err(ReloadError::PidFile { path, source }),
    };
    kill_process(pid, signal.into()).map_err(|errno| ReloadError::Signal {
        path,
        pid,
        source: errno.into(),
    })
}

/// The first line, which is all that most programs write; haproxy's master writes its workers below.
fn read_pid(path: &Path) -> io::Result<Option<Pid>> {
    const LONGEST: u64 = 4096;

    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    let raw = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
    // A negative number would name a whole group of processes.
    Ok(raw.filter(|raw| *raw > 0).and_then(Pid::from_raw))
}

/// Tells it, and tells it again if that failed.
#[derive(Debug)]
pub(super) struct Reloader<'a> {
    reload: &'a Reload,
    pause: Duration,
    /// When it is to be repeated; none if it has succeeded.
    due: Option<Instant>,
}

impl<'a> Reloader<'a> {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);

    pub(super) fn new(reload: &'a Reload) -> Self {
        Self { reload, pause: Self::FIRST_PAUSE, due: None }
    }

    /// Tells of new files.
    pub(super) async fn tell(&mut self) {
        self.pause = Self::FIRST_PAUSE;
        self.attempt().await;
    }

    /// Waits for `event`, and meanwhile repeats what failed.
    pub(super) async fn until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        loop {
            let due = self.due;
            let repeat = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                happened = &mut event => return happened,
                () = repeat => self.attempt().await,
            }
        }
    }

    async fn attempt(&mut self) {
        self.due = match self.reload.run().await {
            Ok(()) => None,
            Err(error) => {
                let secs = self.pause.as_secs();
                console::remark(format_args!(
                    "warning: {}; trying again in {secs} s",
                    Chain(&error)
                ));
                let due = Instant::now() + self.pause;
                self.pause = self.pause.saturating_mul(2).min(Self::LONGEST_PAUSE);
                Some(due)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reload(exec: &[&str]) -> Reload {
        let exec = exec.iter().map(OsString::from).collect();
        Reload { exec, pid_file: None, signal: Signal::Hup }
    }

    #[tokio::test]
    async fn a_program_gets_its_arguments_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("a $HOME; b");
        reload(&["touch", "--", there.to_str().unwrap()]).run().await.unwrap();
        assert!(there.exists());
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_with_the_program() {
        let told = async |exec: &[&str]| Chain(&reload(exec).run().await.unwrap_err()).to_string();
        assert_eq!(told(&["sh", "-c", "exit 3"]).await, "`sh` ended with exit status: 3");
        let missing = told(&["/none/such"]).await;
        assert!(missing.starts_with("cannot start `/none/such`: No such file"), "{missing}");
    }

    #[tokio::test]
    async fn what_failed_is_repeated_until_it_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let twice = format!(
            "cd '{}' && {{ test -e a || {{ touch a; exit 1; }}; }} && touch b",
            dir.path().display()
        );
        let reload = reload(&["sh", "-c", &twice]);
        let mut reloader = Reloader::new(&reload);
        reloader.tell().await;
        assert!(dir.path().join("a").exists() && reloader.due.is_some());
        let done = async {
            while !dir.path().join("b").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(10), reloader.until(done)).await.unwrap();
    }

    #[test]
    fn a_pid_file_names_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        for (text, want) in [("17\n", Some(17)), (" 17 \n18\n", Some(17)), ("-1\n", None)] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_pid(&path).unwrap(), want.and_then(Pid::from_raw), "{text:?}");
        }
        for text in ["", "0\n", "nginx\n", "99999999999\n"] {
            fs::write(&path, text).unwrap();
            let told = signal(&path, Signal::Hup).unwrap_err().to_string();
            assert!(told.starts_with("no process id is in `/"), "{text:?}: {told}");
        }
        let told = signal(&dir.path().join("none"), Signal::Hup).unwrap_err().to_string();
        assert!(told.contains("cannot read") && told.contains("none"), "{told}");
    }
}
