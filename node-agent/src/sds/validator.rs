//! Which kind of validator an Envoy understands.

use claviger_proto::envoy::config::core::v3::Node;
use claviger_proto::envoy::config::core::v3::node::UserAgentVersionType;
use prost_types::value::Kind;

/// How an Envoy is to verify its peers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Validator {
    /// By the SPIFFE ID and the bundle of its trust domain. In Envoy since version 1.18.
    Spiffe,
    /// By a list of authorities alone. It does not keep trust domains apart, so it is given one at
    /// a time.
    #[default]
    Plain,
}

/// What an operator sets in an Envoy's `node.metadata` to have the plain validator.
const DISABLE: &str = "disable_spiffe_cert_validation";

impl Validator {
    /// The best one that `node` understands. Who does not say which Envoy it is gets what every
    /// client of the protocol understands.
    pub(super) fn of(node: &Node) -> Self {
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build.version,
            None => None,
        };
        let version = version.unwrap_or_default();
        let knows_spiffe = (1, 18) <= (version.major_number, version.minor_number);
        if knows_spiffe && !is_disabled(node) { Self::Spiffe } else { Self::Plain }
    }
}

fn is_disabled(node: &Node) -> bool {
    let value = node.metadata.as_ref().and_then(|metadata| metadata.fields.get(DISABLE));
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::BoolValue(disabled)) => *disabled,
        Some(Kind::StringValue(text)) => text == "true",
        Some(Kind::NullValue(_) | Kind::NumberValue(_) | Kind::StructValue(_))
        | Some(Kind::ListValue(_))
        | None => false,
    }
}

#[cfg(test)]
mod tests {
    use claviger_proto::envoy::config::core::v3::BuildVersion;
    use claviger_proto::envoy::r#type::v3::SemanticVersion;
    use prost_types::{Struct, Value};

    use super::*;

    fn envoy(major_number: u32, minor_number: u32, disable: Option<Kind>) -> Validator {
        let version = Some(SemanticVersion { major_number, minor_number, patch: 0 });
        let build = BuildVersion { version };
        let fields = disable.map(|kind| (DISABLE.to_owned(), Value { kind: Some(kind) }));
        Validator::of(&Node {
            id: "an envoy".to_owned(),
            metadata: Some(Struct { fields: fields.into_iter().collect() }),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
        })
    }

    #[test]
    fn an_envoy_that_knows_spiffe_gets_it_unless_its_operator_objects() {
        assert_eq!(envoy(1, 17, None), Validator::Plain);
        assert_eq!(envoy(1, 18, None), Validator::Spiffe);
        assert_eq!(envoy(2, 0, None), Validator::Spiffe);
        assert_eq!(envoy(1, 40, Some(Kind::BoolValue(false))), Validator::Spiffe);
        assert_eq!(envoy(1, 40, Some(Kind::BoolValue(true))), Validator::Plain);
        assert_eq!(envoy(1, 40, Some(Kind::StringValue("true".to_owned()))), Validator::Plain);
        assert_eq!(envoy(1, 40, Some(Kind::NumberValue(1.0))), Validator::Spiffe);
        assert_eq!(Validator::of(&Node::default()), Validator::Plain);
    }
}
