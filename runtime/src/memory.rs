//! What a process has in memory stays there: no core dump, no debugger.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Has the kernel write no core dump of this process, ever.
///
/// # Errors
///
/// What the operating system says, if it refuses.
pub fn forbid_core_dumps() -> io::Result<()> {
    // Not raised again by anybody without `CAP_SYS_RESOURCE`.
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// The same, whatever the system does with dumps; and no process of the same user may read the memory
/// of this one or attach to it (`PR_SET_DUMPABLE`, prctl(2)).
///
/// Nobody can attest such a process by its `/proc` unless they have `CAP_SYS_PTRACE`, so it is for those
/// whom nobody attests: a server and an agent.
///
/// # Errors
///
/// What the operating system says, if it refuses.
pub fn close() -> io::Result<()> {
    forbid_core_dumps()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    /// The whole test process is closed, which does no harm to the others.
    #[test]
    fn what_is_closed_is_not_dumped() {
        close().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    }
}
