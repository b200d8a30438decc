//! Which container a process is in, by the names of its control groups (cgroups(7)).
//!
//! | to find | look in |
//! |---|---|
//! | what the name of one group says: a container, a pod, a place that users can write to | `name` |
//! | what a path of such names says | `path` |
//!
//! Nobody moves a process out of its container but root on the node. What a process can do, where
//! its user or its container was given control groups of its own, is to make groups *below* and to
//! give them names that look like somebody else's container. So these rules hold:
//!
//! 1. The outermost container of a path counts. What is below it belongs to the container itself.
//! 2. A container counts as [`Container::rooted`] only if every name above it is one that only root
//!    makes. Whatever is below `user@1000.service`, a service, a session or an unknown name is not.
//! 3. All hierarchies of version 1, and that of version 2, must name the same container, where they
//!    name one. Otherwise the process is in no container that anything is said about.
//! 4. A container that holds the agent, too, tells no callers apart, if there is another inside it:
//!    then the agent looks at the inside of a node that is itself a container, as kind makes them.
//! 5. `/proc/<pid>/mountinfo` is not asked: a process chooses its mounts, and so what it says.
//!
//! Paths are as the agent's own cgroup namespace shows them: what is beside or above the agent's
//! container begins with `/..`.

mod name;
mod path;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::proc::{ProcDir, ProcError};

pub use name::{ContainerId, PodUid, Runtime};
use path::Level;

/// Room for every hierarchy there is, with long paths.
const MAX_TEXT: u64 = 64 << 10;

/// The container of a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// The pod that it is part of, if its path says so.
    pub pod: Option<PodUid>,
    /// What runs it.
    pub runtime: Runtime,
    /// The user among whose control groups it is, if they are a user's.
    pub user: Option<u32>,
    /// Whether nobody but root can have made a group of this name at this place.
    pub rooted: bool,
    /// Whether part of the path was hidden from us: it is beside our own container.
    pub beside_us: bool,
    /// Where it is in each hierarchy that names it.
    places: BTreeMap<Hierarchy, String>,
}

/// The number of a hierarchy of control groups; 0 for the one of version 2.
type Hierarchy = u32;

impl Container {
    /// Whether both are the same container at the same place: not one of the same name elsewhere.
    #[must_use]
    pub fn is_where(&self, other: &Self) -> bool {
        self.id == other.id
            && self.places.iter().all(|(at, place)| other.places.get(at) == Some(place))
    }
}

/// The containers that hold whoever looks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Viewpoint(BTreeSet<(Hierarchy, String)>);

impl Viewpoint {
    /// Ours.
    ///
    /// # Errors
    ///
    /// What the kernel says, if it does not tell.
    pub fn own() -> io::Result<Self> {
        let text = ProcDir::own().and_then(|dir| read(&dir));
        text.map(|text| Self::parse(&text)).map_err(io::Error::other)
    }

    /// That of the process of which `/proc/<pid>/cgroup` is `text`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let levels = lines(text).flat_map(|(hierarchy, path)| {
            let levels = path::levels(path);
            levels.into_iter().map(move |level| (hierarchy, level.place))
        });
        Self(levels.collect())
    }
}

/// What `/proc/<pid>/cgroup` of the process says.
pub(crate) fn read(process: &ProcDir) -> Result<Vec<u8>, ProcError> {
    process.read("cgroup", MAX_TEXT)
}

/// The container of the process of which `/proc/<pid>/cgroup` is `text`, if it is in one.
///
/// # Errors
///
/// [`Ambiguous`] if the hierarchies do not agree.
pub fn find(text: &[u8], viewpoint: &Viewpoint) -> Result<Option<Container>, Ambiguous> {
    let mut found = Found::default();
    for (hierarchy, path) in lines(text) {
        let mut levels = path::levels(path).into_iter().peekable();
        while let Some(level) = levels.next() {
            let ours = viewpoint.0.contains(&(hierarchy, level.place.clone()));
            if ours && levels.peek().is_some() {
                continue;
            }
            let side = if ours { &mut found.around_us } else { &mut found.elsewhere };
            add(side, hierarchy, level)?;
            break;
        }
    }
    Ok(found.elsewhere.or(found.around_us))
}

#[derive(Default)]
struct Found {
    elsewhere: Option<Container>,
    /// The container that holds the agent, too. Some hierarchies may not show what is inside it.
    around_us: Option<Container>,
}

/// Adds what one hierarchy says to what others have said.
fn add(said: &mut Option<Container>, at: Hierarchy, level: Level) -> Result<(), Ambiguous> {
    let Level { place, id, pod, runtime, user, rooted, beside_us } = level;
    let Some(container) = said else {
        let places = BTreeMap::from([(at, place)]);
        *said = Some(Container { id, pod, runtime, user, rooted, beside_us, places });
        return Ok(());
    };
    if container.id != id {
        return Err(Ambiguous::Containers(container.id.clone(), id));
    }
    if let (Some(one), Some(other)) = (&container.pod, &pod)
        && one != other
    {
        return Err(Ambiguous::Pods(one.clone(), other.clone()));
    }
    if container.user != user {
        return Err(Ambiguous::Users);
    }
    container.pod = container.pod.take().or(pod);
    container.rooted &= rooted;
    container.beside_us |= beside_us;
    if container.runtime == Runtime::Unnamed {
        container.runtime = runtime;
    }
    container.places.insert(at, place);
    Ok(())
}

/// Each line is `hierarchy:controllers:path`. One that is something else says nothing.
fn lines(text: &[u8]) -> impl Iterator<Item = (Hierarchy, &str)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = str::from_utf8(line).ok()?.splitn(3, ':');
        let (hierarchy, _controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((hierarchy.parse().ok()?, path))
    })
}

/// The hierarchies of control groups do not say the same of a process.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ambiguous {
    /// They name different containers.
    #[error("the process's control groups name two containers, {0} and {1}")]
    Containers(ContainerId, ContainerId),
    /// They name different pods.
    #[error("the process's control groups name two pods, {0} and {1}")]
    Pods(PodUid, PodUid),
    /// One is a user's, and another is not.
    #[error("the process's control groups are not all of one user")]
    Users,
}

#[cfg(test)]
mod tests;
