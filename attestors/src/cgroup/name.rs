//! What the name of one control group says.

use std::fmt;

/// The id of a container: 64 lower-case hexadecimal digits, as every engine makes them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerId(Box<str>);

impl ContainerId {
    /// In characters.
    const LEN: usize = 64;

    /// The id that `text` spells.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == Self::LEN && text.bytes().all(is_hex);
        is_id.then(|| Self(text.into()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The UID of a pod: a UUID, or 32 hexadecimal digits for a pod that the kubelet made from a file.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodUid(Box<str>);

impl PodUid {
    /// The UID that `text` spells, as the API spells it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let groups: Vec<_> = text.split('-').collect();
        let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
        let is_uid = matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [32])
            && groups.iter().all(|group| group.bytes().all(is_hex));
        is_uid.then(|| Self(text.into()))
    }

    /// As the API spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// What runs a container, as far as its name tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Runtime {
    /// Docker's engine.
    Docker,
    /// Podman.
    Podman,
    /// containerd, for a kubelet or for nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Any that names groups by the bare id, as most do without systemd.
    Unnamed,
}

/// What a name is the name of.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// A container, and its pod if the name has both.
    Container(Option<PodUid>, Runtime, ContainerId),
    /// A pod.
    Pod(PodUid),
    /// A place in which only root makes groups.
    Roots,
    /// The groups of all users.
    Users,
    /// The groups of one user, if it is among those of all.
    User(u32),
    /// Anything else, in which anybody might be allowed to make groups.
    Other,
}

/// What stands before the id, and whose containers those are.
const PREFIXES: [(&str, Runtime); 7] = [
    ("", Runtime::Unnamed),
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    // Of a container that shares the groups of its unit, as Quadlet makes them.
    ("libpod-payload-", Runtime::Podman),
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
];

/// Units of root's in which a runtime makes groups when it does not speak with systemd.
const SERVICES: [&str; 7] = [
    "containerd.service",
    "crio.service",
    "docker.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
];

/// The groups of a kubelet and of Docker without systemd; `kubelet` is kind's.
const ROOTS: [&str; 5] = ["docker", "kubelet", "kubepods", "burstable", "besteffort"];

impl Name {
    pub(super) fn of(name: &str) -> Self {
        if let Some(container) = container(name) {
            return container;
        }
        if let Some(pod) = pod(name) {
            return Self::Pod(pod);
        }
        if ROOTS.contains(&name) || SERVICES.contains(&name) {
            return Self::Roots;
        }
        let Some(slice) = name.strip_suffix(".slice") else { return Self::Other };
        match slice.strip_prefix("user") {
            Some("") => Self::Users,
            Some(user) => {
                let uid = user.strip_prefix('-').and_then(|uid| uid.parse().ok());
                uid.map_or(Self::Other, Self::User)
            }
            None => Self::Roots,
        }
    }
}

fn container(name: &str) -> Option<Name> {
    let (stem, is_scope) = name.strip_suffix(".scope").map_or((name, false), |stem| (stem, true));
    let (prefix, id) = stem.split_at_checked(stem.len().checked_sub(ContainerId::LEN)?)?;
    let id = ContainerId::parse(id)?;
    if let Some((_, runtime)) = PREFIXES.iter().find(|(known, _)| *known == prefix) {
        // No runtime makes a scope whose name is an id and nothing more.
        let is_known = !(is_scope && *runtime == Runtime::Unnamed);
        return is_known.then_some(Name::Container(None, *runtime, id));
    }
    // What a runtime without systemd makes of the name that was meant for systemd:
    // `slice:prefix:id`.
    let (slice, runtime) = prefix.strip_suffix(':')?.split_once(':')?;
    let runtime = match runtime {
        "cri-containerd" => Runtime::Containerd,
        "docker" => Runtime::Docker,
        "crio" => Runtime::CriO,
        _ => return None,
    };
    let is_slice = !is_scope && slice.ends_with(".slice");
    is_slice.then(|| Name::Container(pod(slice), runtime, id))
}

/// `pod<uid>`, or `kubepods[-<quality>]-pod<uid>.slice`, in which the UID has underscores, since a
/// dash means something to systemd.
fn pod(name: &str) -> Option<PodUid> {
    if let Some(uid) = name.strip_prefix("pod") {
        return PodUid::parse(uid);
    }
    let (parents, uid) = name.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let quality = |name: &'static str| parents.strip_suffix(name);
    let parents = quality("-burstable").or(quality("-besteffort")).unwrap_or(parents);
    let is_kubelets = parents == "kubepods" || parents.ends_with("-kubepods");
    if !is_kubelets || uid.contains('-') {
        return None;
    }
    PodUid::parse(&uid.replace('_', "-"))
}
