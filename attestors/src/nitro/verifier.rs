//! The server's side: gives a nonce, and judges the document that comes back.

use std::error::Error;
use std::path::{Path, PathBuf};

use claviger_core::evidence::AttestedNode;
use serde::Deserialize;
use tracing::warn;

use super::judge::{Terms, judge};
use super::verdict::attested;
use super::{Debugging, Flavour, roots};
use crate::checklist::Checklist;
use crate::references::{self, ReferenceError, References};
use crate::{Challenged, NodeClaim, VerifyError, json};

/// Admits what makes documents of one kind.
#[derive(Debug)]
pub(crate) struct Verifier {
    flavour: &'static Flavour,
    roots: Vec<Vec<u8>>,
    is_aws: bool,
    references: References,
    debugging: Debugging,
}

/// What the node sends first: it has nothing to say before it is given a nonce.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {}

impl Verifier {
    /// A verifier that believes documents of this `flavour`, from software that `references` name. A
    /// `test_root` is trusted instead of AWS'.
    pub(crate) fn open(
        flavour: &'static Flavour,
        references: &references::Config,
        debugging: Debugging,
        test_root: Option<&Path>,
    ) -> Result<Self, OpenError> {
        let roots = match test_root {
            None => vec![roots::AWS.to_vec()],
            Some(path) => {
                warn!(
                    kind = flavour.kind,
                    path = %path.display(),
                    "INSECURE: a root for tests is trusted instead of that of AWS; whoever has its key \
                     can be any node of this kind"
                );
                let root = roots::read(path);
                vec![root.map_err(|source| OpenError::Root { path: path.to_owned(), source })?]
            }
        };
        let references = References::open(references, flavour.references)?;
        Ok(Self { flavour, roots, is_aws: test_root.is_none(), references, debugging })
    }

    /// The name of the kind on the wire.
    pub(crate) const fn kind(&self) -> &'static str {
        self.flavour.kind
    }

    /// Asks the `node` for a document and judges it.
    pub(crate) async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let Hello {} = json::read(claim.evidence)?;
        let nonce = node.nonce()?;
        let document = node.answer(nonce.to_vec()).await?;
        let binding = claim.binding.digest(&nonce);
        let terms = Terms {
            at: Some(claim.now),
            nonce: Some(&nonce),
            binding: Some(binding.as_bytes()),
            key: Some(claim.key),
            roots: &self.roots,
            references: Some(&self.references),
            debugging: &self.debugging,
        };
        let mut checks = Checklist::strict();
        let judged = judge(&document, self.flavour, &terms, &mut checks)?;
        checks.kept()?;
        let judged = judged.ok_or(VerifyError::Malformed)?;
        attested(&judged, self.flavour, self.is_aws, claim.trust_domain)
    }
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The reference values can't be used.
    #[error("`reference-values` can't be used")]
    References(#[from] ReferenceError),
    /// The root for tests can't be used.
    #[error("`insecure-test-root` can't be used: `{path}`", path = path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}
