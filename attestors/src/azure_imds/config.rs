//! What an operator sets on the server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use uuid::Uuid;

use super::attested::parse_uuid;
use crate::ConfigProblem;

/// `[attestors.azure_imds]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The tenants whose machines are admitted, by their ids, and the ids of the subscriptions of
    /// each.
    #[serde(default)]
    pub tenants: BTreeMap<String, Vec<String>>,
    /// The domains below which metadata services have their names. Those of Azure's clouds, unless
    /// this says otherwise.
    #[serde(default = "azure_clouds")]
    pub allowed_metadata_domains: Vec<String>,
    /// The authorities (PEM) that vouch for metadata services, instead of those that this program was
    /// built with.
    pub trust_bundle_path: Option<PathBuf>,
    /// The certificates (PEM) of authorities between those and the metadata services.
    pub intermediates_path: Option<PathBuf>,
}

/// The public cloud and the sovereign ones
/// (<https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#signature-validation-guidance>).
fn azure_clouds() -> Vec<String> {
    ["metadata.azure.com", "metadata.azure.us", "metadata.azure.cn"].map(str::to_owned).to_vec()
}

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: Option<&str>, advice: &str| {
            problems.push(ConfigProblem::new(key, value, advice));
        };
        if self.tenants.is_empty() {
            let advice = "name the tenants whose machines may join, and their subscriptions; every \
                          Azure customer's documents are signed alike";
            problem("tenants", None, advice);
        }
        let mut seen = Vec::new();
        for (tenant, subscriptions) in &self.tenants {
            if parse_uuid(tenant).is_none() {
                problem("tenants", Some(tenant), "write the tenant's id, a UUID");
            }
            if subscriptions.is_empty() {
                let advice = "list the tenant's subscriptions; a document does not name the tenant";
                problem("tenants", Some(tenant), advice);
            }
            for subscription in subscriptions {
                match parse_uuid(subscription) {
                    None => {
                        problem("tenants", Some(subscription), "a subscription's id is a UUID");
                    }
                    Some(uuid) if seen.contains(&uuid) => {
                        let advice = "a subscription belongs to one tenant; list it once";
                        problem("tenants", Some(subscription), advice);
                    }
                    Some(uuid) => seen.push(uuid),
                }
            }
        }
        if self.allowed_metadata_domains.is_empty() {
            let advice = "name a domain, such as `metadata.azure.com`, or leave the setting out";
            problem("allowed-metadata-domains", None, advice);
        }
        for domain in self.allowed_metadata_domains.iter().filter(|domain| !is_domain(domain)) {
            let advice = "write a domain in lower case, such as `metadata.azure.com`";
            problem("allowed-metadata-domains", Some(domain), advice);
        }
        problems
    }

    /// The tenant of each subscription. What is no UUID is a [`problem`](Self::problems).
    pub(super) fn tenant_of_subscriptions(&self) -> BTreeMap<Uuid, Uuid> {
        let pairs = self.tenants.iter().flat_map(|(tenant, subscriptions)| {
            let tenant = parse_uuid(tenant);
            let subscriptions = subscriptions.iter().filter_map(|text| parse_uuid(text));
            subscriptions.filter_map(move |subscription| Some((subscription, tenant?)))
        });
        pairs.collect()
    }
}

/// Whether this is a domain of at least two labels, as names in certificates are compared.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}
