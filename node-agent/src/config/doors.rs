//! The agent's other sockets: for its operator, and for those who act for workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_runtime::settings::{AbsolutePath, Section};
use serde::{Deserialize, Deserializer};

/// The most delegates, and the most brokers.
const MAX_TRUSTED: usize = 1_000;

/// Where the operator asks, and delegates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminSocket {
    /// Where it is.
    pub path: PathBuf,
    /// Its permission bits, as in chmod(2).
    pub mode: u32,
    /// Who may ask for the SVIDs of any workload of this agent.
    pub delegates: BTreeSet<SpiffeId>,
}

impl AdminSocket {
    /// For root and the agent's own user.
    pub const MODE: u32 = 0o600;

    /// A socket for the operator alone.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, mode: Self::MODE, delegates: BTreeSet::new() }
    }
}

/// The settings `admin-socket-path`, `admin-socket-mode` and `authorized-delegates`.
pub(super) fn admin_socket(
    root: &mut Section<'_>,
    trust_domain: Option<&TrustDomain>,
) -> Option<AdminSocket> {
    let path = socket_path(root, "admin-socket-path");
    let mode = root.value::<Mode>("admin-socket-mode");
    let delegates = root.value::<Vec<SpiffeId>>("authorized-delegates").unwrap_or_default();
    if MAX_TRUSTED < delegates.len() {
        let advice = format!("name at most {MAX_TRUSTED}");
        root.problem("authorized-delegates", &delegates.len(), advice);
    }
    for id in &delegates {
        check_ours(root, "authorized-delegates", id, trust_domain);
    }
    if path.is_none() && (mode.is_some() || !delegates.is_empty()) {
        let key = if mode.is_some() { "admin-socket-mode" } else { "authorized-delegates" };
        root.problem(key, &"set", "means nothing without `admin-socket-path`; say where it is");
    }
    let mode = mode.map_or(AdminSocket::MODE, |mode| mode.0);
    Some(AdminSocket { path: path?, mode, delegates: delegates.into_iter().collect() })
}

/// Delegates and brokers are known by an SVID of the agent's own trust domain.
fn check_ours(
    root: &mut Section<'_>,
    key: &str,
    id: &SpiffeId,
    trust_domain: Option<&TrustDomain>,
) {
    let is_ours = trust_domain.is_none_or(|ours| ours == id.trust_domain());
    if !is_ours || id.is_trust_domain() {
        root.problem(key, id, "name workloads of the agent's own trust domain");
    }
}

/// Permission bits, written in octal as chmod(1) has them.
struct Mode(u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok();
        let mode = mode.filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
        let advice = "write the mode in octal, such as \"0600\" or \"0770\"";
        mode.map(Self).ok_or_else(|| serde::de::Error::custom(advice))
    }
}

/// The setting `key`, an absolute path with room for it in the address of a socket (unix(7)).
pub(super) fn socket_path(root: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    const MAX: usize = 107;
    let path = root.value::<AbsolutePath>(key)?.0;
    let length = path.as_os_str().len();
    if MAX < length {
        let advice =
            format!("is {length} bytes long, the limit is {MAX}; choose a shorter directory");
        root.problem(key, &path.display(), advice);
    }
    Some(path)
}

/// Where brokers ask, and who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BrokerSocket {
    /// Where it is. Everybody may connect; a broker proves by its SVID who it is.
    pub path: PathBuf,
    /// Each broker, and the kinds of references by which it may name workloads: names of messages
    /// such as `spiffe.broker.WorkloadPIDReference`.
    pub brokers: BTreeMap<SpiffeId, BTreeSet<String>>,
}

/// One `[[brokers]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BrokerEntry {
    id: SpiffeId,
    allowed_references: Vec<String>,
}

/// The most kinds of references for one broker.
const MAX_KINDS: usize = 16;

/// The settings `broker-socket-path` and `[[brokers]]`.
pub(super) fn broker_socket(
    root: &mut Section<'_>,
    trust_domain: Option<&TrustDomain>,
) -> Option<BrokerSocket> {
    let path = socket_path(root, "broker-socket-path");
    let entries = root.value::<Vec<BrokerEntry>>("brokers").unwrap_or_default();
    if MAX_TRUSTED < entries.len() {
        root.problem("brokers", &entries.len(), format!("name at most {MAX_TRUSTED}"));
    }
    if path.is_none() && !entries.is_empty() {
        let advice = "mean nothing without `broker-socket-path`; say where it is";
        root.problem("brokers", &entries.len(), advice);
    }
    let mut brokers = BTreeMap::new();
    for BrokerEntry { id, allowed_references } in entries {
        check_ours(root, "brokers.id", &id, trust_domain);
        if MAX_KINDS < allowed_references.len() {
            root.problem("brokers.allowed-references", &id, format!("name at most {MAX_KINDS}"));
        }
        // A type URL is a host, which says nothing, and the name of a message.
        let name = |url: &String| url.rsplit('/').next().unwrap_or_default().to_owned();
        let kinds = allowed_references.iter().map(name).collect();
        if brokers.insert(id.clone(), kinds).is_some() {
            root.problem("brokers.id", &id, "is listed twice");
        }
    }
    Some(BrokerSocket { path: path?, brokers })
}
