//! AWS' program `nitro-tpm-attest`, which speaks to the NitroTPM in commands of its vendor.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::CollectError;
use crate::nitro::{MAX_DOCUMENT, Questions, SecurityModule, unavailable};

/// The program, which is started for each document.
#[derive(Debug)]
pub(super) struct Program(PathBuf);

/// A TPM takes well below a second.
const PATIENCE: Duration = Duration::from_secs(20);

impl Program {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    async fn run(&self, questions: &Questions) -> io::Result<Vec<u8>> {
        // It takes both from files. Neither is a secret.
        let (nonce, user_data) = (file_of(&questions.nonce)?, file_of(&questions.user_data)?);
        let child = Command::new(&self.0)
            .arg("--nonce")
            .arg(nonce.path())
            .arg("--user-data")
            .arg(user_data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        match timeout(PATIENCE, output(child)).await {
            Ok(output) => output,
            Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
        }
    }
}

#[async_trait]
impl SecurityModule for Program {
    async fn document(&self, questions: Questions) -> Result<Vec<u8>, CollectError> {
        self.run(&questions).await.map_err(|source| {
            let path = self.0.display();
            let what = format!(
                "`{path}` makes no document of the NitroTPM; install the package \
                 aws-nitro-tpm-tools, and run the agent as a user who may open the TPM"
            );
            unavailable(what, Some(source.into()))
        })
    }
}

fn file_of(bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// What the program writes, if it succeeds.
async fn output(mut child: Child) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut document, mut complaint) = (Vec::new(), Vec::new());
    let read_document = async {
        match stdout {
            Some(stdout) => stdout.take(limit).read_to_end(&mut document).await,
            None => Ok(0),
        }
    };
    let read_complaint = async {
        match stderr {
            Some(stderr) => stderr.take(MAX_COMPLAINT).read_to_end(&mut complaint).await,
            None => Ok(0),
        }
    };
    tokio::try_join!(read_document, read_complaint)?;
    let status = child.wait().await?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        return Err(io::Error::other(format!("{status}: {}", complaint.trim().escape_debug())));
    }
    Ok(document)
}

/// As much of the program's complaint as is repeated, in bytes.
const MAX_COMPLAINT: u64 = 1_024;

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    async fn run(script: &str) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attest");
        // Written by another process: a file that this one has open for writing can't be run.
        let write = "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod 700 \"$1\"";
        let mut shell = std::process::Command::new("sh");
        let written = shell.args(["-c", write, "sh"]).arg(&path).arg(script).status().unwrap();
        assert!(written.success());
        let questions = Questions { nonce: b"nonce".to_vec(), user_data: b"data".to_vec() };
        let document = Program::new(path).document(questions).await;
        document.map_err(|error| format!("{error}: {}", error.source().unwrap()))
    }

    #[tokio::test]
    async fn the_program_is_given_both_values_and_its_output_is_the_document() {
        let document = run(r#"test "$1 $3" = "--nonce --user-data" && cat "$2" "$4""#).await;
        assert_eq!(document.unwrap(), b"noncedata");
    }

    #[tokio::test]
    async fn what_the_program_complains_of_is_passed_on() {
        let error = run("echo no TPM >&2; exit 3").await.unwrap_err();
        assert!(error.contains("no TPM") && error.contains("aws-nitro-tpm-tools"), "{error}");
        let questions = Questions { nonce: Vec::new(), user_data: Vec::new() };
        let missing = Program::new("/nonexistent/attest".into()).document(questions).await;
        assert!(missing.unwrap_err().to_string().contains("/nonexistent/attest"));
    }

    #[tokio::test]
    async fn output_has_a_bound() {
        let document = run("head -c 1000000 /dev/zero; exit 0").await;
        assert_eq!(document.unwrap().len(), MAX_DOCUMENT + 1);
    }
}
