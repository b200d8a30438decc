//! The node's side: the token is the evidence.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use zeroize::Zeroizing;

use super::{JoinToken, KIND, ParseTokenError};
use crate::{CollectError, NodeCollector, Presentation, Statement, files};

/// Presents a token. The token goes when this does.
#[derive(Debug)]
pub struct Collector(JoinToken);

impl Collector {
    /// Presents `token`.
    #[must_use]
    pub const fn new(token: JoinToken) -> Self {
        Self(token)
    }

    /// Presents the token in the file at `path`; a line break after it is not part of it.
    ///
    /// # Errors
    ///
    /// [`ReadTokenError`] if the file can't be read or holds something else.
    pub fn from_file(path: &Path) -> Result<Self, ReadTokenError> {
        let failed = |source| ReadTokenError::Read { path: path.to_owned(), source };
        let bytes = files::read_secret(path, ROOM).map_err(failed)?;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let token = JoinToken::parse(text)
            .map_err(|source| ReadTokenError::Parse { path: path.to_owned(), source })?;
        Ok(Self(token))
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// The token, a secret until it is spent. It is not bound to a key; the server remembers for
    /// which one it was spent.
    async fn present(&self, _binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let evidence = Zeroizing::new(self.0.expose().as_bytes().to_vec());
        Ok(Box::new(Statement::new(evidence)))
    }
}

/// The longest token and its line break.
const ROOM: usize = JoinToken::MAX_LEN + 2;

/// A file does not give a join token.
#[derive(Debug, thiserror::Error)]
pub enum ReadTokenError {
    /// It can't be read.
    #[error("cannot read the join token from `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("`{path}` does not hold a join token and nothing else", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParseTokenError,
    },
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn read(contents: &str) -> Result<Collector, ReadTokenError> {
        let dir = tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, contents).unwrap();
        Collector::from_file(&path)
    }

    #[tokio::test]
    async fn a_file_holds_a_token_and_perhaps_a_line_break() {
        let binding = Binding::new(KIND, b"key", &"example.org".parse().unwrap());
        let longest = "x".repeat(255);
        for (contents, token) in
            [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (&longest, &longest)]
        {
            let collector = read(contents).unwrap();
            let presented = collector.present(&binding).await.unwrap();
            assert_eq!(presented.evidence(), token.as_bytes());
        }
    }

    #[test]
    fn anything_else_is_refused_by_the_name_of_the_file() {
        for contents in ["", "\n", "a b", "a\nb\n", &"x".repeat(256)] {
            let error = read(contents).unwrap_err();
            assert!(matches!(error, ReadTokenError::Parse { .. }), "{error}");
            assert!(error.to_string().contains("token`"), "{error}");
        }
        let error = read(&"x".repeat(258)).unwrap_err();
        assert!(matches!(error, ReadTokenError::Read { .. }), "{error}");
        let error = Collector::from_file(Path::new("/nonexistent/token")).unwrap_err();
        assert!(matches!(error, ReadTokenError::Read { .. }), "{error}");
    }
}
