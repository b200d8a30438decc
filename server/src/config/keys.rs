//! `[keys]`: where machines draw keys, and what they are called.

mod names;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_runtime::settings::Section;

pub use names::{Names, NotAName};

/// What the door is told by the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeysConfig {
    /// Where it is.
    pub listen: SocketAddr,
    /// What ends are called beside their SPIFFE IDs, as ETSI's SAE IDs.
    pub aliases: Names,
    /// The same as system IDs of SKIP.
    pub systems: Names,
}

/// Reads the section; `None` if there is no door.
pub(super) fn read(section: &mut Section<'_>, own: Option<&TrustDomain>) -> Option<KeysConfig> {
    let listen = section.value("listen");
    let aliases = names(section, "aliases", own);
    let systems = names(section, "systems", own);
    let nobody = Names::default();
    if listen.is_none() && (&aliases, &systems) != (&nobody, &nobody) {
        section.problem("listen", &"missing", "say where keys are drawn, or name nobody");
        return None;
    }
    listen.map(|listen| KeysConfig { listen, aliases, systems })
}

fn names(section: &mut Section<'_>, key: &'static str, own: Option<&TrustDomain>) -> Names {
    let listed: BTreeMap<String, SpiffeId> = section.value(key).unwrap_or_default();
    let mut names = Names::default();
    for (name, id) in listed {
        if let Some(own) = own
            && let Err(error) = names.add(&name, id, own)
        {
            section.problem(key, &name, error);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(section: &str) -> Result<Option<KeysConfig>, String> {
        let text = format!("trust-domain = \"example.org\"\ndata-dir = \"/d\"\n{section}");
        Config::parse(&text).map(|config| config.keys).map_err(|problems| problems.to_string())
    }

    #[test]
    fn there_is_no_door_unless_asked_for() {
        assert_eq!(parse("").unwrap(), None);
        let keys = parse(
            "[keys]\nlisten = \"127.0.0.1:1\"\n[keys.aliases]\nalice = \"spiffe://example.org/a\"\n\
             [keys.systems]\nRouter-1 = \"spiffe://example.org/a\"\n",
        );
        let keys = keys.unwrap().unwrap();
        let mut named = Names::default();
        let (id, own) = ("spiffe://example.org/a".parse().unwrap(), "example.org".parse().unwrap());
        named.add("alice", id, &own).unwrap();
        assert_eq!((keys.listen.port(), keys.aliases), (1, named));
    }

    #[test]
    fn names_that_mean_nobody_or_two_are_mistakes() {
        let listen = "[keys]\nlisten = \"127.0.0.1:1\"\n[keys.aliases]\n";
        for (lines, why) in [
            ("\"a/b\" = \"spiffe://example.org/a\"", "keys.aliases = a/b: a name has 1 to 64"),
            ("a = \"spiffe://example.com/a\"", "keys.aliases = a: names the identity of another"),
            (
                "a = \"spiffe://example.org/a\"\nb = \"spiffe://example.org/a\"",
                "keys.aliases = b: names the same identity as `a`",
            ),
            ("a = \"example.org/a\"", "keys.aliases"),
        ] {
            let problems = parse(&format!("{listen}{lines}")).unwrap_err();
            assert!(problems.contains(why), "{problems}");
        }
        let nowhere = parse("[keys.systems]\na = \"spiffe://example.org/a\"").unwrap_err();
        assert!(nowhere.contains("keys.listen = missing: say where"), "{nowhere}");
        let taken = parse("[keys]\nlisten = \"127.0.0.1:8081\"").unwrap_err();
        assert!(taken.contains("keys.listen = 127.0.0.1:8081: is taken by `listen`"), "{taken}");
    }
}
