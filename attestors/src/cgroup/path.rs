//! What a path of control groups says.

use super::name::{ContainerId, Name, PodUid, Runtime};

/// One container on a path.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Level {
    /// The path up to it.
    pub(super) place: String,
    pub(super) id: ContainerId,
    pub(super) pod: Option<PodUid>,
    pub(super) runtime: Runtime,
    pub(super) user: Option<u32>,
    pub(super) rooted: bool,
    pub(super) beside_us: bool,
}

/// The most names in a path that is understood; the kernel permits more.
const MAX_DEPTH: usize = 64;

/// What a path says of the names since the last container.
#[derive(Default)]
struct Above {
    pod: Option<PodUid>,
    user: Option<u32>,
    /// Somebody other than root may have made what follows.
    open: bool,
    /// What follows are the users' own places, which root makes.
    users: bool,
}

/// The containers on `path`, outermost first.
pub(super) fn levels(path: &str) -> Vec<Level> {
    let mut levels = Vec::new();
    let Some(names) = path.strip_prefix('/') else { return levels };
    let names: Vec<_> = names.split('/').collect();
    let hidden = names.iter().take_while(|name| **name == "..").count();
    // The kernel writes no such names, or so many; what they mean is not to be guessed.
    let is_strange = |name: &&str| matches!(*name, "" | "." | "..");
    if MAX_DEPTH < names.len() || names.iter().skip(hidden).any(is_strange) {
        return levels;
    }
    let mut place = "/..".repeat(hidden);
    // Our container may be one of a user's, and then what is beside it are those of others.
    let mut above = Above { users: hidden > 0, ..Above::default() };
    for name in names.into_iter().skip(hidden) {
        place.push('/');
        place.push_str(name);
        match Name::of(name) {
            Name::Container(pod, runtime, id) => {
                let Above { pod: around, user, open, .. } = std::mem::take(&mut above);
                levels.push(Level {
                    place: place.clone(),
                    id,
                    pod: pod.or(around),
                    runtime,
                    user,
                    rooted: !open,
                    beside_us: hidden > 0 && levels.is_empty(),
                });
            }
            Name::Pod(pod) => above.pod = Some(pod),
            Name::Roots => {}
            Name::Users => {
                above.users = !above.open;
                above.open = true;
                continue;
            }
            Name::User(uid) => {
                above.user = above.user.or(above.users.then_some(uid));
                above.open = true;
            }
            Name::Other => above.open = true,
        }
        above.users = false;
    }
    levels
}
