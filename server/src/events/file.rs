//! Events as lines of JSON at the end of a file, which others may rotate.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::export::ExportError;
use super::notice::Notice;

/// A file that events are appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<File>,
}

impl LogFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Appends `notices`, to another file if the one at the path is another by now.
    pub(super) async fn append(&mut self, notices: &[Arc<Notice>]) -> Result<(), ExportError> {
        let mut lines = Vec::new();
        for notice in notices {
            serde_json::to_writer(&mut lines, notice)?;
            lines.push(b'\n');
        }
        let mut file = match self.open.take() {
            Some(file) if self.is_at_path(&file).await? => file,
            Some(_) | None => self.open().await?,
        };
        file.write_all(&lines).await?;
        file.flush().await?;
        self.open = Some(file);
        Ok(())
    }

    async fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path).await
    }

    async fn is_at_path(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata().await?;
        match fs::metadata(&self.path).await {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
