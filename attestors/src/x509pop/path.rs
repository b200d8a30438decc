//! How agents are named after their certificates.

use std::borrow::Cow;
use std::fmt;

use claviger_core::id::{SpiffeId, TrustDomain};

use super::certificate::Leaf;
use super::{KIND, Mode};
use crate::agent_path::{Field, ParseTemplateError, RenderError, Template};

/// The template for the names of agents.
#[derive(Debug)]
pub(super) struct AgentPath(Template<Value>);

impl AgentPath {
    /// The template that is written `text`.
    pub(super) fn parse(text: &str, mode: Mode) -> Result<Self, ParseTemplateError> {
        let template = Template::parse(text)?;
        let asks_for_svid = template.fields().any(|field| *field == Value::SvidPathTrimmed);
        if asks_for_svid && mode != Mode::Spiffe {
            return Err(ParseTemplateError::Unknown {
                expression: Value::SvidPathTrimmed.to_string(),
                known: "it with `mode = \"spiffe\"` only",
            });
        }
        Ok(Self(template))
    }

    /// The template that an operator need not write.
    pub(super) const fn default_text(mode: Mode) -> &'static str {
        match mode {
            Mode::ExternalPki => "/{{ .PluginName }}/{{ .Fingerprint }}",
            Mode::Spiffe => "/{{ .PluginName }}/{{ .SVIDPathTrimmed }}",
        }
    }

    /// The name of the node with this certificate, which was exchanged if there is a `trimmed` path.
    pub(super) fn name(
        &self,
        leaf: &Leaf,
        trimmed: Option<&str>,
        trust_domain: &TrustDomain,
    ) -> Result<SpiffeId, RenderError> {
        self.0.render(trust_domain, |value| match value {
            Value::PluginName => Some(KIND.into()),
            Value::TrustDomain => Some(trust_domain.as_str().to_owned().into()),
            Value::Fingerprint => Some(leaf.fingerprint.as_str().into()),
            Value::CommonName => leaf.common_name.as_deref().map(Cow::from),
            Value::SerialNumberHex => Some(leaf.serial.as_str().into()),
            Value::SvidPathTrimmed => trimmed.map(Cow::from),
            Value::UriSan(key) => {
                let mut values = leaf.san_selectors(trust_domain).filter(|(k, _)| k == key);
                let first = values.next().map(|(_, value)| value);
                // Of two values, nobody can tell which one was meant.
                first.filter(|_| values.next().is_none()).map(|value| value.to_owned().into())
            }
        })
    }
}

/// What a template can ask for, as SPIRE documents it.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    PluginName,
    TrustDomain,
    Fingerprint,
    CommonName,
    SerialNumberHex,
    SvidPathTrimmed,
    UriSan(String),
}

impl Field for Value {
    const KNOWN: &'static str = "`.PluginName`, `.TrustDomain`, `.Fingerprint`, \
        `.Subject.CommonName`, `.SerialNumberHex`, `.SVIDPathTrimmed` or `.URISanSelectors.KEY`";

    fn parse(expression: &str) -> Option<Self> {
        Some(match expression {
            ".PluginName" => Self::PluginName,
            ".TrustDomain" => Self::TrustDomain,
            ".Fingerprint" => Self::Fingerprint,
            ".Subject.CommonName" => Self::CommonName,
            ".SerialNumberHex" => Self::SerialNumberHex,
            ".SVIDPathTrimmed" => Self::SvidPathTrimmed,
            other => {
                let key = other.strip_prefix(".URISanSelectors.")?;
                let is_name = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                return (is_name && !key.is_empty()).then(|| Self::UriSan(key.to_owned()));
            }
        })
    }

    fn is_fixed(&self) -> bool {
        matches!(self, Self::PluginName | Self::TrustDomain)
    }

    fn may_be_path(&self) -> bool {
        matches!(self, Self::SvidPathTrimmed | Self::UriSan(_))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PluginName => ".PluginName",
            Self::TrustDomain => ".TrustDomain",
            Self::Fingerprint => ".Fingerprint",
            Self::CommonName => ".Subject.CommonName",
            Self::SerialNumberHex => ".SerialNumberHex",
            Self::SvidPathTrimmed => ".SVIDPathTrimmed",
            Self::UriSan(key) => return write!(f, ".URISanSelectors.{key}"),
        })
    }
}
