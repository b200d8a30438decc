//! What an operator can set.

use std::path::PathBuf;

use serde::Deserialize;

use crate::ConfigProblem;

/// How to ask systemd.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the system bus listens.
    pub bus_socket_path: PathBuf,
    /// Refuse callers whose unit can't be found out.
    pub required: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { bus_socket_path: "/run/dbus/system_bus_socket".into(), required: false }
    }
}

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let path = self.bus_socket_path.display().to_string();
        // The characters that need no escape in the address of a bus.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_/.\\*".contains(c);
        if self.bus_socket_path.is_absolute() && path.chars().all(is_plain) {
            return Vec::new();
        }
        let advice = "write an absolute path of letters, digits and `-_/.`";
        vec![ConfigProblem::new("bus-socket-path", Some(&path), advice)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_is_at_a_plain_path() {
        assert_eq!(Config::default().problems(), []);
        for path in ["bus", "/run/a,b", "/run/a;tcp:host=x", ""] {
            let config = Config { bus_socket_path: path.into(), ..Config::default() };
            assert_eq!(config.problems().len(), 1, "{path}");
        }
        let config: Config = toml::from_str("bus-socket-path = \"/b\"\nrequired = true").unwrap();
        assert_eq!(config, Config { bus_socket_path: "/b".into(), required: true });
    }
}
