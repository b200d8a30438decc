//! How Envoys are served.

use claviger_runtime::settings::Section;

/// Settings of the secret discovery service. They mean what SPIRE's mean.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sds {
    /// Whether there is one.
    pub enabled: bool,
    /// The resource that is the caller's first identity, whatever its SPIFFE ID.
    pub default_svid_name: String,
    /// The resource that is the bundle of the agent's trust domain.
    pub default_bundle_name: String,
    /// The resource that is that bundle and those of the trust domains the caller federates with.
    pub default_all_bundles_name: String,
    /// Give every Envoy plain authorities, without its SPIFFE validator.
    pub disable_spiffe_cert_validation: bool,
}

impl Default for Sds {
    fn default() -> Self {
        Self {
            enabled: true,
            default_svid_name: "default".to_owned(),
            default_bundle_name: "ROOTCA".to_owned(),
            default_all_bundles_name: "ALL".to_owned(),
            disable_spiffe_cert_validation: false,
        }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Sds {
    let default = Sds::default();
    let names = [
        ("default-svid-name", default.default_svid_name),
        ("default-bundle-name", default.default_bundle_name),
        ("default-all-bundles-name", default.default_all_bundles_name),
    ];
    let mut read = Vec::new();
    let names = names.map(|(key, default)| {
        let name = section.value(key).unwrap_or(default);
        if !(1..=MAX_NAME).contains(&name.len()) || name.starts_with("spiffe://") {
            let advice = format!("choose 1 to {MAX_NAME} characters that are no SPIFFE ID");
            section.problem(key, &name, advice);
        } else if read.contains(&name) {
            section.problem(key, &name, "is the name of another resource already; choose another");
        }
        read.push(name.clone());
        name
    });
    let [default_svid_name, default_bundle_name, default_all_bundles_name] = names;
    Sds {
        enabled: section.value("enabled").unwrap_or(default.enabled),
        default_svid_name,
        default_bundle_name,
        default_all_bundles_name,
        disable_spiffe_cert_validation: section
            .value("disable-spiffe-cert-validation")
            .unwrap_or(default.disable_spiffe_cert_validation),
    }
}

/// The longest name, in bytes.
const MAX_NAME: usize = 255;
