//! The evidence on the wire.

use std::fmt;

use claviger_core::jose::compact::MAX_TOKEN;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Statement;

/// The longest name of a cluster, in bytes.
pub(super) const MAX_CLUSTER: usize = 128;

/// A cluster's name and a token of it.
///
/// Invariant: the cluster's name is one segment of a SPIFFE ID's path; the token has at most
/// [`MAX_TOKEN`] bytes of ASCII.
#[derive(Deserialize, Serialize)]
pub struct Evidence<'a> {
    /// The name by which the server knows the cluster.
    pub cluster: &'a str,
    /// A secret.
    pub token: &'a str,
}

impl<'a> Evidence<'a> {
    /// Reads evidence.
    ///
    /// # Errors
    ///
    /// [`MalformedEvidence`] if it breaks the invariant, or is other JSON or none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedEvidence> {
        let evidence: Self =
            serde_json::from_slice(bytes).map_err(|_detail| MalformedEvidence::Json)?;
        if !is_cluster(evidence.cluster) {
            return Err(MalformedEvidence::Cluster);
        }
        if MAX_TOKEN < evidence.token.len() || !evidence.token.is_ascii() {
            return Err(MalformedEvidence::Token);
        }
        Ok(evidence)
    }

    /// The evidence as it is sent.
    pub(super) fn to_statement(&self) -> Result<Statement, serde_json::Error> {
        // Room for all of it, so that no piece of the token stays behind where the buffer was.
        let room = self.cluster.len().saturating_add(self.token.len()).saturating_mul(2);
        let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(64)));
        serde_json::to_writer(&mut *bytes, self)?;
        Ok(Statement::new(bytes))
    }
}

impl fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence({}, {} bytes)", self.cluster, self.token.len())
    }
}

/// Whether a cluster can have this name: it is a part of the identities of its nodes.
pub(super) fn is_cluster(name: &str) -> bool {
    (1..=MAX_CLUSTER).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// Why bytes are no evidence of this kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MalformedEvidence {
    /// It is no JSON with `cluster` and `token`.
    #[error("it is no JSON object with `cluster` and `token`")]
    Json,
    /// No cluster has this name.
    #[error("the cluster's name is not 1 to {MAX_CLUSTER} characters of `A-Z a-z 0-9 . - _`")]
    Cluster,
    /// This is no token.
    #[error("the token is longer than {MAX_TOKEN} bytes, or not ASCII")]
    Token,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Presentation as _;

    #[test]
    fn what_is_sent_is_what_spire_sends() {
        let sent = Evidence { cluster: "prod", token: "h.p.s" }.to_statement().unwrap();
        assert_eq!(sent.evidence(), br#"{"cluster":"prod","token":"h.p.s"}"#);
        let read = Evidence::parse(sent.evidence()).unwrap();
        assert_eq!((read.cluster, read.token), ("prod", "h.p.s"));
        assert_eq!(format!("{read:?}"), "Evidence(prod, 5 bytes)");
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = format!(r#"{{"cluster":"prod","token":"{}"}}"#, "t".repeat(MAX_TOKEN + 1));
        for (bad, why) in [
            ("", MalformedEvidence::Json),
            ("[]", MalformedEvidence::Json),
            (r#"{"cluster":"prod"}"#, MalformedEvidence::Json),
            (r#"{"token":"t"}"#, MalformedEvidence::Json),
            (r#"{"cluster":"prod","token":1}"#, MalformedEvidence::Json),
            (r#"{"cluster":"prod","cluster":"dev","token":"t"}"#, MalformedEvidence::Json),
            (r#"{"cluster":"prod","token":"t"}{}"#, MalformedEvidence::Json),
            (r#"{"cluster":"","token":"t"}"#, MalformedEvidence::Cluster),
            (r#"{"cluster":"..","token":"t"}"#, MalformedEvidence::Cluster),
            (r#"{"cluster":"a/b","token":"t"}"#, MalformedEvidence::Cluster),
            (r#"{"cluster":"prod","token":"é"}"#, MalformedEvidence::Token),
            (&long, MalformedEvidence::Token),
        ] {
            assert_eq!(Evidence::parse(bad.as_bytes()).unwrap_err(), why, "{bad:.60}");
        }
    }
}
