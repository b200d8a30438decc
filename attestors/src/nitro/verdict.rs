//! What an accepted document earns: an identity, selectors, and what goes on record.

use std::collections::BTreeMap;

use claviger_core::evidence::{AttestedNode, Bond, TrustClaim, TrustVector};
use claviger_core::id::TrustDomain;
use claviger_core::selector::{Selector, Selectors};

use super::document::Document;
use super::judge::Judged;
use super::{Flavour, REGISTER};
use crate::VerifyError;

/// The node whose document was `judged`, with every rule kept. `is_aws` says whether the root is AWS',
/// and not one for tests.
pub(super) fn attested(
    judged: &Judged<'_>,
    flavour: &Flavour,
    is_aws: bool,
    trust_domain: &TrustDomain,
) -> Result<AttestedNode, VerifyError> {
    let (kind, module) = (flavour.kind, judged.document.module_id);
    let below = if judged.is_debug { "debug/" } else { "" };
    let unnamed = || VerifyError::not_genuine("its module id can't be one segment of a SPIFFE ID");
    if module.contains('/') {
        return Err(unnamed());
    }
    let id = trust_domain.join(&format!("/spire/agent/{kind}/{below}{module}"));
    let id = id.map_err(|_no_segment| unnamed())?;
    let selectors = selectors(judged, kind)?;
    let source = if is_aws { "the root of AWS Nitro" } else { "a root for tests, not AWS'" };
    let node = AttestedNode::assertion(kind, id, selectors, true, Bond::Key);
    Ok(node.by(source).trusted(trust(judged.is_debug, is_aws)).measured(measured(&judged.document)))
}

fn selectors(judged: &Judged<'_>, kind: &str) -> Result<Selectors, VerifyError> {
    let document = &judged.document;
    let mut values = vec![format!("module_id:{}", document.module_id)];
    values.extend(document.instance().map(|instance| format!("instance:{instance}")));
    values.extend(extended(document).map(|(register, value)| format!("{register}:{value}")));
    if let Some(image) = &judged.image {
        values.push(format!("image:{}", image.name));
        values.extend(image.version.iter().map(|version| format!("version:{version}")));
    }
    if judged.is_debug {
        values.push("debug:true".to_owned());
    }
    let selectors = values.iter().map(|value| Selector::new(kind, value)).collect::<Result<_, _>>();
    selectors.map_err(|error| VerifyError::not_genuine(format!("no selector: {error}")))
}

/// The registers that something was measured into, by name, in hexadecimal digits. Registers 17 to 22 of
/// a TPM begin with ones.
pub(super) fn extended(document: &Document<'_>) -> impl Iterator<Item = (String, String)> {
    let registers = document.registers.iter();
    let extended =
        registers.filter(|(_, value)| **value != [0; REGISTER] && **value != [0xff; REGISTER]);
    extended.map(|(index, value)| (format!("pcr{index}"), hex::encode(value)))
}

fn measured(document: &Document<'_>) -> BTreeMap<String, String> {
    let module = ("module_id".to_owned(), document.module_id.to_owned());
    let timestamp = ("timestamp".to_owned(), document.timestamp.to_string());
    extended(document).chain([module, timestamp]).collect()
}

/// Nothing is said of encrypted memory: the document does not show it.
const fn trust(is_debug: bool, is_aws: bool) -> TrustVector {
    let genuine = if is_aws { TrustClaim::AFFIRMING } else { TrustClaim::NONE };
    TrustVector {
        instance_identity: genuine,
        configuration: TrustClaim::NONE,
        executables: if is_debug { TrustClaim::UNRECOGNISED } else { TrustClaim::APPROVED_BOOT },
        file_system: TrustClaim::NONE,
        hardware: genuine,
        runtime_opaque: if is_debug { TrustClaim::CONTRAINDICATED } else { TrustClaim::NONE },
        storage_opaque: TrustClaim::NONE,
        sourced_data: TrustClaim::NONE,
    }
}
