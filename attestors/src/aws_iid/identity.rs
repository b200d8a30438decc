//! What an instance identity document says
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html>).

use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};
use claviger_core::selector::{Selector, Selectors};
use serde::Deserialize;

use super::KIND;
use crate::{VerifyError, json};

/// The instance that a verified document describes.
///
/// Invariant: each field has the form that AWS gives it, and is one segment of a path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    account_id: String,
    region: String,
    instance_id: String,
    availability_zone: Option<String>,
    image_id: Option<String>,
}

impl Identity {
    /// Reads the verified bytes of a document.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if they say something else, or something twice.
    pub fn parse(document: &[u8]) -> Result<Self, VerifyError> {
        let identity: Self = json::read(document)?;
        let zone = identity.availability_zone.as_deref().is_none_or(is_region);
        let image = identity.image_id.as_deref().is_none_or(|id| is_resource(id, "ami-"));
        let sound = is_account(&identity.account_id)
            && is_region(&identity.region)
            && is_resource(&identity.instance_id, "i-")
            && zone
            && image;
        if sound { Ok(identity) } else { Err(VerifyError::Malformed) }
    }

    /// The account that the instance belongs to.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account_id
    }

    /// The region that it runs in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The identity that it earns.
    pub(super) fn agent_id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, ParseIdError> {
        let Self { account_id, region, instance_id, .. } = self;
        trust_domain.join(&format!("/spire/agent/{KIND}/{account_id}/{region}/{instance_id}"))
    }

    /// What the document says of it, in SPIRE's words.
    pub(super) fn selectors(&self) -> Result<Selectors, VerifyError> {
        let mut facts = vec![
            format!("account_id:{}", self.account_id),
            format!("region:{}", self.region),
            format!("instance:id:{}", self.instance_id),
        ];
        facts.extend(self.availability_zone.iter().map(|zone| format!("az:{zone}")));
        facts.extend(self.image_id.iter().map(|image| format!("image:id:{image}")));
        let selectors = facts.iter().map(|fact| Selector::new(KIND, fact));
        selectors.collect::<Result<_, _>>().map_err(|_invalid| VerifyError::Malformed)
    }
}

/// Whether this is an account's id.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether this can be the name of a region or of a zone, such as `us-east-1` or
/// `us-west-2-lax-1a`.
pub(super) fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(is_lower)
}

fn is_resource(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|id| {
        (1..=32).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    })
}

const fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
}
