//! Whom we believe, of whichever trust domain, and what their authorities have revoked.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_core::id::{SpiffeId, TrustDomain};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::bundle::TrustBundle;
use super::svid::SvidError;

/// Revocation lists at a time: one for each authority that has revoked something.
const MAX_LISTS: usize = 256;

/// The longest revocation list, in bytes: some 25,000 SVIDs of one authority.
const MAX_LIST: usize = 1 << 20;

/// The bundles of our own trust domain and of those that are federated with it, and the lists of
/// X.509-SVIDs that count no more. Clones share both; a bundle that is replaced takes effect here, too.
#[derive(Clone, Debug)]
pub struct Trust {
    bundles: Arc<BTreeMap<TrustDomain, TrustBundle>>,
    revoked: Arc<[CertRevocationList<'static>]>,
}

impl Trust {
    /// Believes `bundles`, each for its own trust domain, but no certificate on one of the `revoked`
    /// lists, in DER. A list counts for SVIDs of the authority that signed it, however old it is: it
    /// only ever grows, and whoever hands it to us says so when there is a newer one.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if a list is none.
    pub fn new(
        bundles: impl IntoIterator<Item = TrustBundle>,
        revoked: &[impl AsRef<[u8]>],
    ) -> Result<Self, TrustError> {
        let bundles = bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle));
        let mut lists = Vec::new();
        for der in revoked.iter().map(AsRef::as_ref) {
            if lists.len() == MAX_LISTS || MAX_LIST < der.len() {
                return Err(TrustError::TooLarge);
            }
            let list = OwnedCertRevocationList::from_der(der)
                .map_err(|source| TrustError::Malformed { at: lists.len(), source })?;
            lists.push(list.into());
        }
        Ok(Self { bundles: Arc::new(bundles.collect()), revoked: lists.into() })
    }

    /// The bundle that has to vouch for `id`.
    pub(super) fn bundle_for(&self, id: &SpiffeId) -> Result<&TrustBundle, SvidError> {
        let foreign = || match self.bundles.first_key_value() {
            Some((own, _)) if self.bundles.len() == 1 => {
                SvidError::Foreign { id: id.clone(), trust_domain: own.clone() }
            }
            Some(_) | None => SvidError::Unknown(id.clone()),
        };
        self.bundles.get(id.trust_domain()).ok_or_else(foreign)
    }

    /// What is revoked, as path validation takes it.
    pub(super) fn revoked(&self) -> Vec<&CertRevocationList<'static>> {
        self.revoked.iter().collect()
    }
}

impl From<TrustBundle> for Trust {
    /// Nobody but those of one trust domain, of whom nothing is revoked.
    fn from(bundle: TrustBundle) -> Self {
        let bundles = BTreeMap::from([(bundle.trust_domain().clone(), bundle)]);
        Self { bundles: Arc::new(bundles), revoked: Arc::default() }
    }
}

/// Why it cannot be said whom to believe.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is more than any trust domain needs.
    #[error(
        "there are more than {MAX_LISTS} revocation lists, or one has more than {MAX_LIST} bytes"
    )]
    TooLarge,
    /// It is no revocation list, or one of a form that path validation does not know.
    #[error("revocation list {at} is unusable")]
    Malformed {
        /// Its position, from 0.
        at: usize,
        /// Why.
        source: webpki::Error,
    },
}
