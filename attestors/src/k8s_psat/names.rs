//! What Kubernetes calls its objects.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The name of an object or a namespace.
///
/// Invariant: 1 to 253 bytes of `a-z 0-9 . -` that begin and end with a letter or digit (a DNS
/// subdomain of RFC 1123, as Kubernetes asks of the names of pods, nodes and service accounts).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Name(Box<str>);

/// What tells an object from another that had or will have its name.
///
/// Invariant: 1 to 64 bytes of `A-Z a-z 0-9 -`, so one segment of a SPIFFE ID's path.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Uid(Box<str>);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Uid {
    /// The uid.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = MalformedName;

    fn try_from(text: String) -> Result<Self, MalformedName> {
        let (first, last) = (text.bytes().next(), text.bytes().next_back());
        let is_inner =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let is_outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let is_name = text.bytes().all(is_inner) && is_outer(first) && is_outer(last);
        if is_name && text.len() <= 253 { Ok(Self(text.into())) } else { Err(MalformedName) }
    }
}

impl TryFrom<String> for Uid {
    type Error = MalformedName;

    fn try_from(text: String) -> Result<Self, MalformedName> {
        let is_uid = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if is_uid && (1..=64).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(MalformedName)
        }
    }
}

impl FromStr for Name {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        text.to_owned().try_into()
    }
}

impl FromStr for Uid {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service account, written `namespace:name` as SPIRE's allow-lists do.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl ServiceAccount {
    /// The service account that the API server knows as the user `username`:
    /// `system:serviceaccount:namespace:name`.
    ///
    /// # Errors
    ///
    /// [`MalformedName`] if that is another kind of user.
    pub fn of_user(username: &str) -> Result<Self, MalformedName> {
        username.strip_prefix("system:serviceaccount:").ok_or(MalformedName)?.parse()
    }
}

impl FromStr for ServiceAccount {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        let (namespace, name) = text.split_once(':').ok_or(MalformedName)?;
        Ok(Self { namespace: namespace.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.name)
    }
}

/// A string names nothing in Kubernetes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is no name of an object in Kubernetes")]
pub struct MalformedName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_a_path() {
        for good in ["a", "agent-x7k2p", "ip-10-0-0-1.eu.internal", &"n".repeat(253)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "-a", "a-", "a.", "A", "a b", "a%2fb", "é", "a\n"] {
            assert_eq!(bad.parse::<Name>(), Err(MalformedName), "{bad}");
        }
        assert_eq!("n".repeat(254).parse::<Name>(), Err(MalformedName));
    }

    #[test]
    fn a_uid_is_one_segment() {
        let uuid = "5dbb7b21-65fe-11e9-b1b0-0800277ac80f";
        assert_eq!(uuid.parse::<Uid>().unwrap().as_str(), uuid);
        for bad in ["", ".", "..", "a/b", "a.b", "a b", &"u".repeat(65)] {
            assert_eq!(bad.parse::<Uid>(), Err(MalformedName), "{bad}");
        }
    }

    #[test]
    fn a_service_account_is_a_user_of_four_parts() {
        let account = ServiceAccount::of_user("system:serviceaccount:prod:agent").unwrap();
        assert_eq!(account, "prod:agent".parse().unwrap());
        assert_eq!(account.to_string(), "prod:agent");
        for other in [
            "",
            "agent",
            "prod:agent",
            "system:serviceaccount:prod",
            "system:serviceaccount:prod:",
            "system:serviceaccount::agent",
            "system:serviceaccount:prod:agent:more",
            "x:system:serviceaccount:prod:agent",
            "system:node:prod:agent",
        ] {
            assert_eq!(ServiceAccount::of_user(other), Err(MalformedName), "{other}");
        }
    }
}
