//! `[attestor]`: what this machine has to show for itself.
//!
//! One table for each kind of evidence. With several, or with one and a join token, all of it is
//! shown together, as evidence of kind `composite`.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use claviger_attestors::composite::{self, MAX_PARTS};
use claviger_attestors::join_token::{self, JoinToken};
use claviger_attestors::{ConfigProblem, NodeCollector};
use claviger_attestors::{aws_iid, aws_nitro, azure_imds, gcp_iit, http_challenge, k8s_psat};
use claviger_attestors::{nitro_tpm, nvidia_gpu, oidc, sev_snp, sgx, sshpop, tdx, tpm, x509pop};
use claviger_runtime::settings::{self, Problems, Section};
use serde::de::DeserializeOwned;

use super::Config;

/// One kind of evidence, as it is configured.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Its name.
    fn kind(&self) -> &'static str;

    /// Gathers it from what there is at this moment: files are read anew each time, so that they
    /// may change.
    fn open(&self) -> Opened;
}

/// What a machine has to show for itself, beside a join token.
#[derive(Debug, Default)]
pub struct Attestors(pub(crate) Vec<Box<dyn Source>>);

impl Attestors {
    /// Reads the `[attestor.<kind>]` tables in `text`, which holds nothing else.
    ///
    /// # Errors
    ///
    /// [`Problems`]: every mistake in it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        settings::parse(text, |root| Some(read(root, false)))
    }

    /// What `open` gathers, of `kind`, each time that it is needed: for a machine that is played, and
    /// has no settings.
    #[must_use]
    pub fn played(kind: &'static str, open: impl Fn() -> Opened + Send + Sync + 'static) -> Self {
        Self(vec![Box::new(Played { kind, open: Box::new(open) })])
    }
}

/// Evidence of a machine that is played.
struct Played {
    kind: &'static str,
    open: Box<dyn Fn() -> Opened + Send + Sync>,
}

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Played({})", self.kind)
    }
}

impl Source for Played {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn open(&self) -> Opened {
        (self.open)()
    }
}

/// Where the join token is.
#[derive(Debug)]
pub enum TokenSource {
    /// In the configuration.
    Inline(JoinToken),
    /// In a file of its own, which is read when the token is needed.
    File(PathBuf),
}

impl Source for TokenSource {
    fn kind(&self) -> &'static str {
        join_token::KIND
    }

    fn open(&self) -> Opened {
        match self {
            Self::Inline(token) => Ok(Box::new(join_token::Collector::new(token.duplicate()))),
            Self::File(path) => Ok(Box::new(join_token::Collector::from_file(path)?)),
        }
    }
}

impl Config {
    /// What gathers all the evidence that is configured, if any is.
    pub(crate) fn evidence(&self) -> Result<Option<Box<dyn NodeCollector>>, OpenEvidenceError> {
        let open = |source: &dyn Source| {
            let kind = source.kind();
            source.open().map_err(|source| OpenEvidenceError { kind, source })
        };
        let others = self.attestors.0.iter().map(|source| open(&**source));
        let members = self.join_token.iter().map(|token| open(token)).chain(others);
        let mut members = members.collect::<Result<Vec<_>, _>>()?;
        Ok(match members.len() {
            0 | 1 => members.pop(),
            _ => Some(Box::new(composite::Collector::new(members))),
        })
    }
}

/// The settings of one kind.
struct Configured<C> {
    kind: &'static str,
    config: C,
    open: fn(&C) -> Opened,
}

/// What a kind makes of its settings.
pub type Opened = Result<Box<dyn NodeCollector>, Box<dyn Error + Send + Sync>>;

impl<C> fmt::Debug for Configured<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Configured({})", self.kind)
    }
}

impl<C: Send + Sync> Source for Configured<C> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn open(&self) -> Opened {
        (self.open)(&self.config)
    }
}

/// Reads the section, if it is there. `token` says whether there is a join token beside it.
pub(super) fn read(root: &mut Section<'_>, token: bool) -> Attestors {
    let is_there = root.has(KEY);
    let Attestors(sources) = root.table(KEY, kinds);
    if is_there && sources.is_empty() {
        let advice = "names no kind of evidence that is of use; add a table for one, such as \
                      `[attestor.x509pop]`, or leave it out";
        root.report(KEY, None, advice.to_owned());
    }
    let parts = sources.len().saturating_add(usize::from(token));
    if MAX_PARTS < parts {
        let advice = format!("name at most {MAX_PARTS} kinds of evidence, a join token included");
        root.report(KEY, Some(parts.to_string()), advice);
    }
    Attestors(sources)
}

const KEY: &str = "attestor";

/// Every kind there is: a line for each.
fn kinds(section: &mut Section<'_>) -> Attestors {
    let mut kinds = Kinds { section, sources: Vec::new() };
    kinds.read(aws_iid::KIND, aws_iid::CollectorConfig::problems, |c| {
        boxed(aws_iid::Collector::open(c))
    });
    kinds.read(aws_nitro::KIND, aws_nitro::CollectorConfig::problems, |c| {
        boxed(aws_nitro::Collector::open(c))
    });
    kinds.read(azure_imds::KIND, azure_imds::CollectorConfig::problems, |c| {
        boxed(azure_imds::Collector::open(c))
    });
    kinds.read(gcp_iit::KIND, gcp_iit::CollectorConfig::problems, |c| {
        boxed(gcp_iit::Collector::open(c))
    });
    kinds.read(http_challenge::KIND, http_challenge::CollectorConfig::problems, |c| {
        boxed(http_challenge::Collector::open(c.clone()))
    });
    kinds.read(k8s_psat::KIND, k8s_psat::CollectorConfig::problems, |c| {
        boxed(k8s_psat::Collector::open(c))
    });
    kinds.read(nitro_tpm::KIND, nitro_tpm::CollectorConfig::problems, |c| {
        boxed(Ok::<_, Infallible>(nitro_tpm::Collector::open(c)))
    });
    kinds.read(nvidia_gpu::KIND, nvidia_gpu::CollectorConfig::problems, |c| {
        boxed(Ok::<_, Infallible>(nvidia_gpu::Collector::open(c.clone())))
    });
    kinds.read(oidc::KIND, oidc::CollectorConfig::problems, |c| {
        boxed(Ok::<_, Infallible>(oidc::Collector::open(c.clone())))
    });
    kinds.read(sev_snp::KIND, sev_snp::CollectorConfig::problems, |c| {
        boxed(sev_snp::Collector::open(c))
    });
    kinds.read(sgx::KIND, sgx::CollectorConfig::problems, |c| boxed(sgx::Collector::open(c)));
    kinds.read(sshpop::KIND, sshpop::CollectorConfig::problems, |c| {
        boxed(sshpop::Collector::open(c.clone()))
    });
    kinds.read(tpm::KIND, tpm::CollectorConfig::problems, |c| boxed(tpm::Collector::open(c)));
    kinds.read(tdx::KIND, tdx::CollectorConfig::problems, |c| boxed(tdx::Collector::open(c)));
    kinds.read(x509pop::KIND, x509pop::CollectorConfig::problems, |c| {
        boxed(x509pop::Collector::open(c.clone()))
    });
    Attestors(kinds.sources)
}

fn boxed<C: NodeCollector, E: Error + Send + Sync + 'static>(opened: Result<C, E>) -> Opened {
    Ok(Box::new(opened?))
}

struct Kinds<'a, 'p> {
    section: &'a mut Section<'p>,
    sources: Vec<Box<dyn Source>>,
}

impl Kinds<'_, '_> {
    /// Takes in the settings of one kind, if it is configured; what is wrong with them is reported.
    fn read<C: DeserializeOwned + Send + Sync + 'static>(
        &mut self,
        kind: &'static str,
        problems: fn(&C) -> Vec<ConfigProblem>,
        open: fn(&C) -> Opened,
    ) {
        let Some(config) = self.section.value::<C>(kind) else { return };
        for ConfigProblem { key, value, advice } in problems(&config) {
            let key = if key.is_empty() { kind.to_owned() } else { format!("{kind}.{key}") };
            self.section.report(&key, value, advice);
        }
        self.sources.push(Box::new(Configured { kind, config, open }));
    }
}

/// The evidence that is configured can't be had on this machine.
#[derive(Debug, thiserror::Error)]
#[error("there is no evidence of kind `{kind}` to attest with")]
pub struct OpenEvidenceError {
    kind: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "trust-domain = \"example.org\"\nserver-address = \"localhost:8081\"\n\
                           data-dir = \"/var/lib/claviger\"\ntrust-bundle-path = \"/b.pem\"\n";
    const TOKEN: &str = "join-token = \"a\"\n";
    const X509POP: &str = "[attestor.x509pop]\nprivate-key-path = \"/nonexistent/key.pem\"\n\
                           certificate-path = \"/nonexistent/cert.pem\"\n";
    const OIDC: &str = "[attestor.oidc]\ntoken-path = \"/t\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&format!("{MINIMAL}{text}")).map_err(|problems| problems.to_string())
    }

    fn kind(text: &str) -> &'static str {
        parse(text).unwrap().evidence().unwrap().unwrap().kind()
    }

    #[test]
    fn one_kind_is_shown_alone_and_several_together() {
        assert!(parse("").unwrap().evidence().unwrap().is_none());
        assert_eq!(kind(TOKEN), "join_token");
        assert_eq!(kind(OIDC), "oidc");
        assert_eq!(kind(&format!("{TOKEN}{OIDC}")), "composite");
        assert_eq!(kind(&format!("{OIDC}[attestor.gcp_iit]\n")), "composite");
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let error = parse(X509POP).unwrap().evidence().unwrap_err();
        assert!(error.to_string().contains("`x509pop`"), "{error}");
        let source = error.source().unwrap().to_string();
        assert!(source.contains("/nonexistent/"), "{source}");
    }

    #[test]
    fn what_is_no_evidence_is_refused() {
        let unknown = parse("[attestor.tpm2pop]\n").unwrap_err();
        assert!(unknown.contains("attestor.tpm2pop: is not a setting; settings here are "));
        assert!(unknown.contains("k8s_psat") && unknown.contains("x509pop"), "{unknown}");
        let typo = parse("[attestor.x509pob]\n").unwrap_err();
        assert!(typo.contains("did you mean `x509pop`?"), "{typo}");
        let empty = parse("[attestor]\n").unwrap_err();
        assert!(empty.starts_with("attestor: names no kind of evidence"), "{empty}");
        let half = parse("[attestor.x509pop]\ncertificate-path = \"/c\"\n").unwrap_err();
        assert!(half.contains("attestor.x509pop: missing field `private-key-path`"), "{half}");
        let wrong = parse("[attestor.k8s_psat]\ncluster = \"a/b\"\n").unwrap_err();
        assert!(wrong.starts_with("attestor.k8s_psat.cluster = a/b: "), "{wrong}");
    }
}
