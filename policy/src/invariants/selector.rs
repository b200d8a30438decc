//! Whom an invariant means.

use std::collections::BTreeSet;
use std::fmt;

use claviger_core::decision::ToolName;
use serde::Deserialize;

use crate::reach::Subject;
use crate::set::PolicySet;

/// Whom an invariant means, as it is written: one of these, or a list of them.
///
/// | written | means |
/// |---|---|
/// | `"spiffe://example.org/web"` | the identity |
/// | `"spiffe://example.org/web/*"` | every identity below |
/// | `"tool:execute_trade"`, `"tool:*"` | the tool; every tool |
/// | `'Group::"trainers"'` | everyone in the group |
/// | `'stage = "build"'` | everyone with this registered attribute: `owner`, `tenant`, `stage`, `ring`, `purposes`, `data_scopes` |
/// | `"*"` | everyone |
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Term {
    Everyone,
    Identity(String),
    Below(String),
    Tool(ToolName),
    Tools,
    Group(String),
    Attribute(String, String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl TryFrom<Written> for Selector {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let terms = match written {
            Written::One(term) => vec![term],
            Written::Several(terms) => terms,
        };
        terms.iter().map(|term| term_of(term)).collect::<Result<_, _>>().map(Self)
    }
}

fn term_of(text: &str) -> Result<Term, String> {
    if text == "*" {
        return Ok(Term::Everyone);
    }
    if text == "tool:*" {
        return Ok(Term::Tools);
    }
    if let Some(tool) = text.strip_prefix("tool:") {
        return tool.parse().map(Term::Tool).map_err(|error| format!("`{text}`: {error}"));
    }
    if text.starts_with("spiffe://") {
        return Ok(match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => Term::Below(prefix.to_owned()),
            _ => Term::Identity(text.to_owned()),
        });
    }
    let quoted = |text: &str| Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    if let Some(name) = text.strip_prefix("Group::").and_then(quoted) {
        return Ok(Term::Group(name));
    }
    if let Some((name, value)) = text.split_once('=')
        && let Some(value) = quoted(value.trim())
        && ATTRIBUTES.contains(&name.trim())
    {
        return Ok(Term::Attribute(name.trim().to_owned(), value));
    }
    Err(format!(
        "`{text}` means nobody; write a SPIFFE ID, one that ends in `/*`, `tool:NAME`, \
         `Group::\"NAME\"`, `stage = \"build\"` (or {}), or `*`",
        ATTRIBUTES.join(", ")
    ))
}

const ATTRIBUTES: [&str; 6] = ["owner", "tenant", "stage", "ring", "purposes", "data_scopes"];

impl Selector {
    /// Whether `subject` is meant.
    #[must_use]
    pub fn chooses(&self, set: &PolicySet, subject: &Subject) -> bool {
        self.0.iter().any(|term| match term {
            Term::Everyone => true,
            Term::Identity(uri) => subject.name == *uri,
            Term::Below(prefix) => subject.id.to_string().starts_with(prefix),
            Term::Tool(_) | Term::Tools => false,
            Term::Group(name) => subject.is_in(set, name),
            Term::Attribute(name, value) => subject.has(set, name, value),
        })
    }

    /// The tools that are meant.
    #[must_use]
    pub fn tools(&self, set: &PolicySet) -> BTreeSet<ToolName> {
        let known = crate::reach::tools(set);
        let meant = |tool: &ToolName| {
            self.0.iter().any(|term| match term {
                Term::Everyone | Term::Tools => true,
                Term::Tool(name) => name == tool,
                Term::Group(name) => crate::reach::tool_is_in(set, tool, name),
                Term::Identity(_) | Term::Below(_) | Term::Attribute(..) => false,
            })
        };
        known.into_iter().filter(meant).collect()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, term) in self.0.iter().enumerate() {
            if 0 < number {
                f.write_str(", ")?;
            }
            match term {
                Term::Everyone => f.write_str("`*`"),
                Term::Identity(uri) => write!(f, "`{uri}`"),
                Term::Below(prefix) => write!(f, "`{prefix}*`"),
                Term::Tool(tool) => write!(f, "`tool:{tool}`"),
                Term::Tools => f.write_str("`tool:*`"),
                Term::Group(name) => write!(f, "`Group::\"{name}\"`"),
                Term::Attribute(name, value) => write!(f, "`{name} = \"{value}\"`"),
            }?;
        }
        Ok(())
    }
}
