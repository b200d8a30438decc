//! How agents are named after their certificates.

use std::fmt;

use claviger_core::id::{SpiffeId, TrustDomain};

use super::KIND;
use super::certificate::HostCertificate;
use crate::agent_path::{Field, ParseTemplateError, RenderError, Template};

/// The template for the names of agents.
#[derive(Debug)]
pub(super) struct AgentPath(Template<Value>);

impl AgentPath {
    /// The template that an operator need not write.
    pub(super) const DEFAULT: &str = "/{{ .PluginName }}/{{ .Fingerprint }}";

    /// The template that is written `text`.
    pub(super) fn parse(text: &str) -> Result<Self, ParseTemplateError> {
        Template::parse(text).map(Self)
    }

    /// The name of the node with this certificate, whose host is called `hostname`.
    pub(super) fn name(
        &self,
        certificate: &HostCertificate,
        hostname: &str,
        trust_domain: &TrustDomain,
    ) -> Result<SpiffeId, RenderError> {
        self.0.render(trust_domain, |value| match value {
            Value::PluginName => Some(KIND.into()),
            Value::Fingerprint => Some(certificate.fingerprint.clone().into()),
            Value::Hostname => Some(hostname.to_owned().into()),
            Value::KeyId => Some(certificate.key_id.clone().into()),
            Value::Serial => Some(certificate.serial.to_string().into()),
            Value::FirstPrincipal => certificate.principals.first().cloned().map(Into::into),
        })
    }
}

/// What a template can ask for: what SPIRE documents, and the certificate's own number and name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Value {
    PluginName,
    Fingerprint,
    Hostname,
    KeyId,
    Serial,
    FirstPrincipal,
}

impl Field for Value {
    const KNOWN: &'static str = "`.PluginName`, `.Fingerprint`, `.Hostname`, `.KeyId`, `.Serial` or \
        `index .ValidPrincipals 0`";

    fn parse(expression: &str) -> Option<Self> {
        let all = [
            Self::PluginName,
            Self::Fingerprint,
            Self::Hostname,
            Self::KeyId,
            Self::Serial,
            Self::FirstPrincipal,
        ];
        all.into_iter().find(|value| value.to_string() == expression)
    }

    fn is_fixed(&self) -> bool {
        *self == Self::PluginName
    }

    fn may_be_path(&self) -> bool {
        false
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PluginName => ".PluginName",
            Self::Fingerprint => ".Fingerprint",
            Self::Hostname => ".Hostname",
            Self::KeyId => ".KeyId",
            Self::Serial => ".Serial",
            Self::FirstPrincipal => "index .ValidPrincipals 0",
        })
    }
}
