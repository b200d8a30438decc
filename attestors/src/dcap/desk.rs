//! What the verifiers of quotes have in common.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use claviger_core::evidence::{TrustClaim, TrustVector};
use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};
use claviger_core::selector::{Selector, Selectors};
use claviger_core::time::UnixTime;

use super::appraise::{Standing, Terms, appraise};
use super::authentic::{Authentic, authenticate};
use super::chain::{ChainError, Roots};
use super::collateral::Collateral;
use super::config::{CollateralConfig, TcbPolicy};
use super::pck::Pck;
use super::quote::Quote;
use super::service::{OpenServiceError, Service};
use super::source::{CollateralError, CollateralSource, Folder, Wanted};
use super::status::TcbStatus;
use super::wire::{Hello, Presented, report_data};
use crate::checklist::Checklist;
use crate::references::{Image, Measured, ReferenceError};
use crate::{Challenged, ConfigProblem, NodeClaim, VerifyError, files};

/// Judges the platforms of quotes.
#[derive(Debug)]
pub(crate) struct Desk {
    roots: Roots,
    policy: TcbPolicy,
    grace: Duration,
    sources: Vec<Box<dyn CollateralSource>>,
    from_evidence: bool,
}

/// What a node answered, and what its report has to carry.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) presented: Presented,
    pub(crate) report_data: [u8; 64],
}

/// A quote that is what it has to be.
#[derive(Debug)]
pub(crate) struct Judgement<'a> {
    pub(crate) kind: &'static str,
    pub(crate) pck: &'a Pck,
    pub(crate) standing: &'a Standing,
    pub(crate) image: &'a Image,
    pub(crate) measured: &'a Measured,
    pub(crate) is_debug: bool,
}

impl Desk {
    pub(crate) fn open(
        collateral: &CollateralConfig,
        policy: &TcbPolicy,
        insecure_test_root: Option<&Path>,
    ) -> Result<Self, OpenError> {
        let roots = match insecure_test_root {
            None => Roots::intel()?,
            Some(path) => test_root(path)?,
        };
        let mut sources: Vec<Box<dyn CollateralSource>> = Vec::new();
        if let Some(folder) = &collateral.folder {
            sources.push(Box::new(Folder::new(folder.clone())));
        }
        if let Some(url) = &collateral.url {
            sources.push(Box::new(Service::open(url, collateral)?));
        }
        let (from_evidence, grace) = (collateral.from_evidence, collateral.grace);
        Ok(Self { roots, policy: policy.clone(), grace, sources, from_evidence })
    }

    /// Has the node quote a nonce.
    pub(crate) async fn ask(
        claim: &NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<Answer, VerifyError> {
        let Hello {} = Hello::parse(claim.evidence)?;
        let nonce = node.nonce()?;
        let answer = node.answer(nonce.to_vec()).await?;
        let report_data = report_data(&claim.binding.digest(&nonce));
        Ok(Answer { presented: Presented::parse(&answer)?, report_data })
    }

    /// The platform that made `quote`.
    pub(crate) fn authenticate(
        &self,
        quote: &Quote<'_>,
        now: UnixTime,
        checks: &mut Checklist,
    ) -> Result<Authentic, VerifyError> {
        let found = authenticate(quote, &self.roots, now, checks)?;
        found.ok_or(VerifyError::Malformed)
    }

    /// How far that platform is to be trusted. `brought` is the collateral that came with the quote.
    pub(crate) async fn appraise(
        &self,
        quote: &Quote<'_>,
        platform: &Authentic,
        brought: Option<Collateral>,
        now: UnixTime,
        checks: &mut Checklist,
    ) -> Result<Standing, VerifyError> {
        let wanted = Wanted::by(quote.tee(), &platform.pck);
        let collateral = self.collateral(wanted, brought, now).await;
        let collateral = collateral.map_err(|error| VerifyError::Unavailable(error.into()))?;
        let (roots, policy, grace) = (&self.roots, &self.policy, self.grace);
        let terms = Terms { roots, policy, grace, now };
        let standing = appraise(quote, Some(platform), Some(&collateral), terms, checks)?;
        standing.ok_or(VerifyError::Malformed)
    }

    async fn collateral(
        &self,
        wanted: Wanted,
        brought: Option<Collateral>,
        now: UnixTime,
    ) -> Result<Arc<Collateral>, CollateralError> {
        for source in &self.sources {
            if let Some(found) = source.collateral(wanted, now).await? {
                return Ok(found);
            }
        }
        let brought = brought.filter(|_| self.from_evidence);
        brought.map(Arc::new).ok_or(CollateralError::None { wanted })
    }
}

impl Judgement<'_> {
    /// The agent's identity: the platform, and `instance`, what tells those apart that run on it.
    pub(crate) fn id(
        &self,
        trust_domain: &TrustDomain,
        instance: &[&[u8]],
    ) -> Result<SpiffeId, ParseIdError> {
        let debug = if self.is_debug { "debug/" } else { "" };
        let (kind, platform) = (self.kind, self.platform());
        let instance = short_digest(instance);
        trust_domain.join(&format!("/spire/agent/{kind}/{debug}{platform}/{instance}"))
    }

    /// A name for the platform. Its certificate's is a secret of its own kind: it links what runs there.
    fn platform(&self) -> String {
        short_digest(&[b"claviger/dcap/platform", &self.pck.ppid])
    }

    /// What is proved: what was measured and is not zero, `more`, and what all quotes have.
    pub(crate) fn selectors(&self, more: &[String]) -> Result<Selectors, VerifyError> {
        let mut values: Vec<String> = self
            .measured
            .iter()
            .filter(|(_, value)| value.iter().any(|byte| *byte != 0))
            .map(|(register, value)| format!("{register}:{}", hex::encode(value)))
            .collect();
        values.extend([
            format!("platform:{}", self.platform()),
            format!("fmspc:{}", hex::encode(self.pck.fmspc)),
            format!("tcb_status:{}", self.standing.status),
            format!("image:{}", self.image.name),
        ]);
        values.extend(self.image.version.iter().map(|version| format!("version:{version}")));
        values.extend(self.standing.advisories.iter().map(|id| format!("advisory:{id}")));
        values.extend(self.is_debug.then(|| "debug:true".to_owned()));
        values.extend_from_slice(more);
        let selector = |value: String| Selector::new(self.kind, &value);
        let selectors: Result<Selectors, _> = values.into_iter().map(selector).collect();
        selectors.map_err(|error| VerifyError::not_genuine(error.to_string()))
    }

    /// What goes on record.
    pub(crate) fn on_record(&self) -> BTreeMap<String, String> {
        let measured = self.measured.iter();
        let mut record: BTreeMap<_, _> =
            measured.map(|(register, value)| (register.clone(), hex::encode(value))).collect();
        let advisories: Vec<_> = self.standing.advisories.iter().map(String::as_str).collect();
        for (name, value) in [
            ("image", self.image.name.clone()),
            ("version", self.image.version.clone().unwrap_or_default()),
            ("tcb_status", self.standing.status.to_string()),
            ("tcb_evaluation_number", self.standing.evaluation_number.to_string()),
            ("advisories", advisories.join(" ")),
            ("fmspc", hex::encode(self.pck.fmspc)),
            ("platform", self.platform()),
        ] {
            if !value.is_empty() {
                record.insert(name.to_owned(), value);
            }
        }
        record
    }

    /// How far it is to be trusted (draft-ietf-rats-ar4si §2.3.4).
    pub(crate) const fn trust(&self) -> TrustVector {
        /// Something is known to be weak, and made up for.
        const WARNING: TrustClaim = TrustClaim::new(32);
        /// It is known to be bad.
        const BAD: TrustClaim = TrustClaim::new(96);

        let status = self.standing.status;
        let hardware = match status {
            TcbStatus::UpToDate => TrustClaim::AFFIRMING,
            TcbStatus::SWHardeningNeeded
            | TcbStatus::ConfigurationNeeded
            | TcbStatus::ConfigurationAndSWHardeningNeeded => WARNING,
            TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded | TcbStatus::Revoked => {
                BAD
            }
        };
        let needs_configuration = status.needs_configuration();
        let configuration = if needs_configuration { WARNING } else { TrustClaim::AFFIRMING };
        let runtime_opaque = if self.is_debug { BAD } else { TrustClaim::AFFIRMING };
        TrustVector {
            instance_identity: TrustClaim::AFFIRMING,
            configuration,
            executables: TrustClaim::AFFIRMING,
            file_system: TrustClaim::NONE,
            hardware,
            runtime_opaque,
            storage_opaque: TrustClaim::NONE,
            sourced_data: TrustClaim::NONE,
        }
    }
}

/// The root in the PEM file at `path`.
fn test_root(path: &Path) -> Result<Roots, OpenError> {
    let unreadable = |source| OpenError::TestRoot { path: path.to_owned(), source };
    let text = files::read(path, MAX_ROOT).map_err(unreadable)?;
    let block = pem::parse(&*text).map_err(|_not_pem| ChainError::Pem)?;
    Ok(Roots::of([block.into_contents()])?)
}

/// The largest file with a root, in bytes.
const MAX_ROOT: usize = 64 << 10;

/// What is wrong with the setting of a test's root.
pub(crate) fn test_root_problem(path: Option<&Path>) -> Option<ConfigProblem> {
    let advice = "name a certificate, or leave it out to trust Intel";
    path.filter(|path| path.as_os_str().is_empty())
        .map(|_| ConfigProblem::new("insecure-test-root", Some(""), advice))
}

/// The first 16 bytes of the SHA-256 of these parts, each with its length before it.
fn short_digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    hex::encode(digest.as_ref().first_chunk::<16>().unwrap_or(&[0; 16]))
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The reference values can't be used.
    #[error("the reference values cannot be used")]
    References(#[from] ReferenceError),
    /// A root can't be used.
    #[error("the roots cannot be used")]
    Roots(#[from] ChainError),
    /// The file with a test's root can't be read.
    #[error("cannot read the root in `{path}`", path = path.display())]
    TestRoot {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There would be no collateral.
    #[error("collateral cannot be had")]
    Service(#[from] OpenServiceError),
}
