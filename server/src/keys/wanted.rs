//! Which path is which, and what stands behind it: in the query, and in the body. Every byte of it is
//! somebody else's.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{etsi, skip};

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// ETSI GS QKD 014 §5.1, of a slave SAE.
    Status(String),
    /// §5.2, with a slave SAE.
    EncKeys(String),
    /// §5.3, of a master SAE.
    DecKeys(String),
    /// draft-cisco-skip-02 §4.1.
    Capabilities,
    /// §4.2: a new key.
    Key,
    /// The same: the key that is called so.
    KeyOf(String),
    /// §4.3.
    Entropy,
}

/// What is asked, read whole.
#[derive(Debug)]
pub(crate) enum Asked {
    Etsi(etsi::Asked),
    Skip(skip::Asked),
}

/// It cannot be asked so. The caller reads it: it may quote the request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl Wanted {
    /// What is at `path`, as it stands in the request line.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        match segments.as_slice() {
            ["api", "v1", "keys", sae, "status"] => decoded(sae).map(Self::Status),
            ["api", "v1", "keys", sae, "enc_keys"] => decoded(sae).map(Self::EncKeys),
            ["api", "v1", "keys", sae, "dec_keys"] => decoded(sae).map(Self::DecKeys),
            ["capabilities"] => Some(Self::Capabilities),
            ["key"] => Some(Self::Key),
            ["key", id] => decoded(id).map(Self::KeyOf),
            ["entropy"] => Some(Self::Entropy),
            _other => None,
        }
    }

    /// How it may be asked for.
    pub(crate) const fn methods(&self) -> &'static [Method] {
        match self {
            Self::EncKeys(_) | Self::DecKeys(_) => &[Method::GET, Method::POST],
            Self::Status(_) | Self::Capabilities | Self::Key | Self::KeyOf(_) | Self::Entropy => {
                &[Method::GET]
            }
        }
    }

    pub(crate) const fn is_skip(&self) -> bool {
        matches!(self, Self::Capabilities | Self::Key | Self::KeyOf(_) | Self::Entropy)
    }

    /// The value of a metric's label.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::EncKeys(_) => "enc_keys",
            Self::DecKeys(_) => "dec_keys",
            Self::Capabilities => "capabilities",
            Self::Key => "key",
            Self::KeyOf(_) => "key_of",
            Self::Entropy => "entropy",
        }
    }

    /// All that is asked, by one of [`Self::methods`].
    pub(crate) fn with(
        self,
        method: &Method,
        query: Option<&str>,
        body: &[u8],
    ) -> Result<Asked, Malformed> {
        let mut query = Query::parse(query.unwrap_or_default())?;
        if *method == Method::GET && !body.is_empty() {
            return Err(Malformed::new("a GET has no body"));
        }
        let asked = match self {
            Self::Status(slave) => Asked::Etsi(etsi::Asked::Status { slave }),
            Self::EncKeys(slave) if *method == Method::GET => Asked::Etsi(etsi::Asked::Encrypt {
                slave,
                request: etsi::KeyRequest::of(&mut query)?,
            }),
            Self::EncKeys(slave) => {
                let request = etsi::KeyRequest::parse(body)?;
                Asked::Etsi(etsi::Asked::Encrypt { slave, request })
            }
            Self::DecKeys(master) if *method == Method::GET => {
                Asked::Etsi(etsi::Asked::Decrypt { master, ids: etsi::one_id(&mut query)? })
            }
            Self::DecKeys(master) => {
                Asked::Etsi(etsi::Asked::Decrypt { master, ids: etsi::ids(body)? })
            }
            Self::Capabilities => Asked::Skip(skip::Asked::Capabilities),
            Self::Key => Asked::Skip(skip::Asked::new_key(&mut query)?),
            Self::KeyOf(id) => Asked::Skip(skip::Asked::key_of(&id, &mut query)?),
            Self::Entropy => Asked::Skip(skip::Asked::entropy(&mut query)?),
        };
        query.end()?;
        Ok(asked)
    }
}

/// A segment of a path, or a part of a query; none if it is empty or no text.
fn decoded(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

/// The parameters of a query, each there once.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(text: &str) -> Result<Self, Malformed> {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Malformed::new("the query has a parameter without a name or a value"));
            };
            if let Some(_before) = parameters.insert(name, value) {
                return Err(Malformed::new("the query has a parameter twice"));
            }
        }
        Ok(Self(parameters))
    }

    /// The parameter `name`, if it is there.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The number `name`, if it is there.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>, Malformed> {
        let number = |text: String| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.ok_or_else(|| Malformed::new(format!("{name} is no number")))
        };
        self.take(name).map(number).transpose()
    }

    fn end(self) -> Result<(), Malformed> {
        match self.0.into_keys().next() {
            Some(name) => Err(Malformed::new(format!(
                "the query has a parameter `{name}`, which is not known"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_two_standards() {
        let alice = || "spiffe://example.org/alice".to_owned();
        let at = |path: &str| Wanted::at(path);
        let sae = "/api/v1/keys/spiffe%3A%2F%2Fexample.org%2Falice";
        assert_eq!(at(&format!("{sae}/status")), Some(Wanted::Status(alice())));
        assert_eq!(at(&format!("{sae}/enc_keys")), Some(Wanted::EncKeys(alice())));
        assert_eq!(at("/api/v1/keys/bob/dec_keys"), Some(Wanted::DecKeys("bob".to_owned())));
        assert_eq!(at("/key"), Some(Wanted::Key));
        assert_eq!(at("/key/00ff"), Some(Wanted::KeyOf("00ff".to_owned())));
        assert_eq!(at("/capabilities"), Some(Wanted::Capabilities));
        assert_eq!(at("/entropy"), Some(Wanted::Entropy));
        for nothing in [
            "",
            "/",
            "/api/v1/keys//status",
            "/api/v1/keys/bob/enc_keys/",
            "/key/",
            "/key/a/b",
            "/Key",
            "/api/v2/keys/bob/status",
            "/api/v1/keys/%ff/status",
            "/api/v1/keys/spiffe://a.org/b/status",
        ] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_query_says_each_thing_once_and_nothing_else() {
        let mut query = Query::parse("a=1&b=%2Fx&&c=007").unwrap();
        assert_eq!(query.take("b").as_deref(), Some("/x"));
        assert_eq!((query.number("a").unwrap(), query.number("d").unwrap()), (Some(1), None));
        Query::parse("a=+1").unwrap().number("a").unwrap_err();
        assert!(query.end().unwrap_err().0.contains("`c`"));
        for bad in ["a=1&a=2", "a", "a=", "=1", "a=%ff"] {
            Query::parse(bad).unwrap_err();
        }
    }
}
