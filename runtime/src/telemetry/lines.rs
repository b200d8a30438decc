//! Lines at the end of a file, which others may rotate.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// A file that lines are appended to. Its group may read it.
#[derive(Debug)]
pub struct LinesFile {
    path: PathBuf,
    open: Option<File>,
}

impl LinesFile {
    /// The file at `path`, which is made when there is something to write.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Appends `lines`, each with its newline, to another file if the one at the path is another by
    /// now. They may be in it already when this fails.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub async fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) if self.is_at_path(&file).await? => file,
            Some(_) | None => self.open().await?,
        };
        file.write_all(lines).await?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;

    #[tokio::test]
    async fn a_file_that_was_rotated_is_left_behind() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut lines = LinesFile::new(path.clone());
        lines.append(b"one\n").await.unwrap();
        lines.append(b"two\n").await.unwrap();
        fs::rename(&path, dir.path().join("lines.1")).unwrap();
        lines.append(b"three\n").await.unwrap();
        assert_eq!(fs::read(dir.path().join("lines.1")).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_said_and_tried_anew() {
        let dir = tempdir().unwrap();
        let mut lines = LinesFile::new(dir.path().join("later/lines"));
        lines.append(b"lost\n").await.unwrap_err();
        fs::create_dir(dir.path().join("later")).unwrap();
        lines.append(b"kept\n").await.unwrap();
        assert_eq!(fs::read(dir.path().join("later/lines")).unwrap(), b"kept\n");
    }
}
