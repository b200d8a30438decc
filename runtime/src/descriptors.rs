//! How many files and connections the process may have open.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets the process open as many file descriptors as the administrator allows, and returns that
/// number; `None` is no limit. What it starts with is often 1,024, a limit kept low for programs
/// that use `select`.
///
/// # Errors
///
/// What the operating system says, if it refuses.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let allowed = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_on_the_table() {
        let allowed = raise_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, allowed);
    }
}
