//! Names that can be asked for: of hosts, and of agents on them.

use std::fmt;

/// The name of a host in the DNS.
///
/// Invariant: 1 to 253 bytes of labels of `a-z 0-9 -`, of which the last begins with a letter, so
/// that no way to write an IP address is a name; and not `localhost`. Upper case is refused: a host
/// is to have one name, and so one agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HostName(String);

impl HostName {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let is_short = (1..=253).contains(&name.len());
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_no_number = last.starts_with(|c: char| c.is_ascii_lowercase());
        let is_sound = is_short && is_no_number && last != "localhost";
        (is_sound && name.split('.').all(is_label)).then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let is_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(is_byte)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether an agent can be called this: one segment of the path of a URL, and no dot in it.
pub(super) fn is_agent_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_host_is_just_that() {
        for good in ["a", "vm", "p1.example.org", "1.2.3.4.example.org", "xn--bcher-kva.example"] {
            assert_eq!(HostName::parse(good).unwrap().as_str(), good);
        }
        let long = ["a"; 128].join(".");
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "localhost",
            "a.localhost",
            "localhost.",
            "LOCALHOST",
            "Vm",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "017700000001",
            "::1",
            "[::1]",
            "a:80",
            "a/b",
            "a\\b",
            "user@a",
            "a?b",
            "a#b",
            "a%2e",
            "a b",
            "a\r\nb",
            "a\0",
            "\u{e9}.org",
            "\u{ff41}.org",
            "a_b",
            "-a",
            "a-",
            "1.2.3.4",
            "a.1",
            &long,
        ] {
            assert_eq!(HostName::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_agent_is_one_segment_of_a_path() {
        for good in ["default", "A", "a-1", &"x".repeat(32)] {
            assert!(is_agent_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a.b",
            "-a",
            "1",
            "a%2f",
            "a b",
            "a?",
            "a#",
            "é",
            &"x".repeat(33),
        ] {
            assert!(!is_agent_name(bad), "{bad}");
        }
    }
}
