//! Several servers, each of which will do.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::ServerAddr;

/// The most servers that are named in one setting.
pub const MOST_SERVERS: usize = 32;

/// Where servers are that do the same: one, or several, none of them twice. A name with several addresses
/// stands for several servers, too.
///
/// In a configuration file it is a string, or a list of them: `"a.example.org:8081"`, or
/// `["a.example.org:8081", "b.example.org:8081"]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerAddrs(Vec<ServerAddr>);

impl ServerAddrs {
    /// Each of them, in the order in which they were named; there is at least one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ServerAddr> {
        self.0.iter()
    }
}

impl From<ServerAddr> for ServerAddrs {
    fn from(only: ServerAddr) -> Self {
        Self(vec![only])
    }
}

impl<'de> Deserialize<'de> for ServerAddrs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = ServerAddrs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("where the server is, or a list of where servers are")
    }

    fn visit_str<E: de::Error>(self, addr: &str) -> Result<ServerAddrs, E> {
        addr.parse::<ServerAddr>().map(ServerAddrs::from).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut named: A) -> Result<ServerAddrs, A::Error> {
        let mut all = Vec::new();
        while let Some(next) = named.next_element::<ServerAddr>()? {
            if all.contains(&next) {
                return Err(de::Error::custom(format!("`{next}` is there twice; keep one")));
            }
            if all.len() == MOST_SERVERS {
                return Err(de::Error::custom(format!(
                    "more than {MOST_SERVERS} servers; give them one name with several addresses"
                )));
            }
            all.push(next);
        }
        if all.is_empty() {
            return Err(de::Error::custom("the list is empty; name at least one server"));
        }
        Ok(ServerAddrs(all))
    }
}

impl fmt::Display for ServerAddrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, server) in self.0.iter().enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{server}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<ServerAddrs, String> {
        let table: toml::Table = format!("a = {value}").parse().unwrap();
        let value = table.get("a").unwrap().clone();
        value.try_into().map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn one_server_is_a_string_and_several_are_a_list() {
        assert_eq!(read("\"a:1\"").unwrap().to_string(), "a:1");
        assert_eq!(read("[\"a:1\"]").unwrap(), read("\"a:1\"").unwrap());
        let several = read("[\"a:1\", \"unix:/b\", \"[::1]:2\"]").unwrap();
        assert_eq!(several.to_string(), "a:1, unix:/b, [::1]:2");
        assert_eq!(several.iter().len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_said() {
        let many: Vec<_> = (1..=MOST_SERVERS + 1).map(|port| format!("a:{port}")).collect();
        for (bad, why) in [
            ("[]", "the list is empty"),
            ("[\"a:1\", \"a:1\"]", "`a:1` is there twice"),
            ("[\"a:1\", \"b\"]", "`b` is not of the form"),
            ("\"b\"", "`b` is not of the form"),
            ("7", "where the server is"),
            (&format!("{many:?}"), "more than 32 servers"),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
