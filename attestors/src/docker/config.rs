//! What an operator can set.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ConfigProblem;

/// Which engines to ask, and for what.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where Docker's engine listens.
    pub socket_path: PathBuf,
    /// Where root's Podman listens.
    pub podman_socket_path: PathBuf,
    /// Where the Podman of a user listens; `{uid}` stands for the user's number.
    pub rootless_podman_socket_path: String,
    /// Whose Podman is believed. What it says, the user can make it say.
    pub rootless_podman_uids: Option<BTreeSet<u32>>,
    /// The environment variables that are told of. Others may be secrets.
    pub env: Option<BTreeSet<String>>,
    /// Refuse callers whose container can't be found out.
    pub required: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket_path: "/var/run/docker.sock".into(),
            podman_socket_path: "/run/podman/podman.sock".into(),
            rootless_podman_socket_path: format!("/run/user/{UID}/podman/podman.sock"),
            rootless_podman_uids: None,
            env: None,
            required: false,
        }
    }
}

/// What stands for the number of a user.
const UID: &str = "{uid}";

/// The most users, and the most variables.
const MAX_LISTED: usize = 1_000;

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: Option<&str>, advice: &str| {
            problems.push(ConfigProblem::new(key, value, advice));
        };
        let rootless = Path::new(&self.rootless_podman_socket_path);
        let paths = [
            ("socket-path", self.socket_path.as_path()),
            ("podman-socket-path", self.podman_socket_path.as_path()),
            ("rootless-podman-socket-path", rootless),
        ];
        for (key, path) in paths.into_iter().filter(|(_, path)| path.is_relative()) {
            let advice = "write it as an absolute path, beginning with `/`";
            problem(key, Some(&path.display().to_string()), advice);
        }
        if self.rootless_podman_socket_path.matches(UID).count() != 1 {
            let advice = "write `{uid}` once, where the user's number belongs";
            let value = Some(self.rootless_podman_socket_path.as_str());
            problem("rootless-podman-socket-path", value, advice);
        }
        let sizes = [
            ("rootless-podman-uids", self.rootless_podman_uids.as_ref().map(BTreeSet::len)),
            ("env", self.env.as_ref().map(BTreeSet::len)),
        ];
        for (key, size) in sizes {
            match size {
                Some(0) => problem(key, None, "names nothing; list what is meant, or drop it"),
                Some(size) if MAX_LISTED < size => {
                    problem(key, Some(&size.to_string()), "list at most 1000");
                }
                Some(_) | None => {}
            }
        }
        for name in self.env.iter().flatten() {
            if name.is_empty() || name.contains('=') {
                problem("env", Some(name), "write the name of a variable alone");
            }
        }
        problems
    }

    /// Where the Podman of the user `uid` listens, if it is believed.
    pub(super) fn rootless_socket(&self, uid: u32) -> Option<PathBuf> {
        let is_believed = self.rootless_podman_uids.as_ref()?.contains(&uid);
        let path = self.rootless_podman_socket_path.replace(UID, &uid.to_string());
        is_believed.then(|| path.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read() {
        let config: Config = toml::from_str(
            "socket-path = \"/d\"\npodman-socket-path = \"/p\"\nrequired = true\n\
             rootless-podman-socket-path = \"/u/{uid}/p\"\nrootless-podman-uids = [7]\n\
             env = [\"TIER\"]",
        )
        .unwrap();
        assert_eq!(config.problems(), []);
        assert_eq!(config.rootless_socket(7).as_deref(), Some(Path::new("/u/7/p")));
        assert_eq!(config.rootless_socket(8), None);
        assert_eq!(Config::default().rootless_socket(7), None);
        assert_eq!(Config::default().problems(), []);
        toml::from_str::<Config>("socket = \"/d\"").unwrap_err();
    }

    #[test]
    fn every_mistake_is_found() {
        let config: Config = toml::from_str(
            "socket-path = \"d\"\nrootless-podman-socket-path = \"/p\"\n\
             rootless-podman-uids = []\nenv = [\"A=b\"]",
        )
        .unwrap();
        let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
        let want = ["socket-path", "rootless-podman-socket-path", "rootless-podman-uids", "env"];
        assert_eq!(keys, want);
        let many = (0..1_001).map(|number| number.to_string()).collect();
        let config = Config { env: Some(many), ..Config::default() };
        assert_eq!(config.problems().len(), 1);
    }
}
