//! The rules for new and changed bundles, applied to a batch before any of it is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::audit::Event;
use claviger_core::bundle::Bundle;
use claviger_core::grant::Requester;
use claviger_core::id::TrustDomain;
use claviger_proto::convert::{FieldError, ids};
use claviger_proto::spire::types;
use prost::Message as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Federated, put};
use crate::journal::Change as Commit;

/// The most trust domains.
pub const MAX_BUNDLES: usize = 1_000;

/// The largest bundle, encoded, in bytes: a hundred times what a large trust domain has, and several
/// of them fit one message.
pub const MAX_BUNDLE: usize = 512 << 10;

/// The most bytes of all of them together.
pub const MAX_BYTES: usize = 64 << 20;

/// Changes that were checked, on top of the bundles as they are. Later items of a batch see the
/// earlier ones.
#[derive(Debug)]
pub struct BundleDraft {
    own: TrustDomain,
    requester: Requester,
    federated: Federated,
    commit: Commit,
}

impl BundleDraft {
    pub(super) fn new(federated: &Federated, own: TrustDomain, requester: Requester) -> Self {
        Self { own, requester, federated: federated.clone(), commit: Commit::default() }
    }

    /// Adds the bundle of a trust domain that has none.
    ///
    /// # Errors
    ///
    /// [`BundleRefused`]; the draft is as it was.
    pub fn create(&mut self, wire: types::Bundle) -> Result<Arc<types::Bundle>, BundleRefused> {
        let trust_domain = self.foreign(&wire.trust_domain)?;
        if self.federated.get(&trust_domain).is_some() {
            return Err(BundleRefused::Exists(trust_domain));
        }
        self.set(wire)
    }

    /// Changes those parts of a bundle that `mask` selects, or all of them without a mask.
    ///
    /// # Errors
    ///
    /// [`BundleRefused`]; the draft is as it was.
    pub fn update(
        &mut self,
        wire: types::Bundle,
        mask: Option<types::BundleMask>,
    ) -> Result<Arc<types::Bundle>, BundleRefused> {
        let trust_domain = self.foreign(&wire.trust_domain)?;
        let current = self.federated.get(&trust_domain).cloned();
        let current = current.ok_or(BundleRefused::Unknown(trust_domain))?;
        let Some(mask) = mask else { return self.set(wire) };
        let mut merged = (*current).clone();
        if mask.x509_authorities {
            merged.x509_authorities = wire.x509_authorities;
        }
        if mask.jwt_authorities {
            merged.jwt_authorities = wire.jwt_authorities;
        }
        if mask.wit_authorities {
            merged.wit_authorities = wire.wit_authorities;
        }
        if mask.refresh_hint {
            merged.refresh_hint = wire.refresh_hint;
        }
        if mask.sequence_number {
            merged.sequence_number = wire.sequence_number;
        }
        self.set(merged)
    }

    /// Adds or replaces a bundle. One that is there already is left alone.
    ///
    /// # Errors
    ///
    /// [`BundleRefused`]; the draft is as it was.
    pub fn set(&mut self, wire: types::Bundle) -> Result<Arc<types::Bundle>, BundleRefused> {
        let trust_domain = self.foreign(&wire.trust_domain)?;
        let bundle = Bundle::try_from(wire)?;
        check_certificates(&bundle)?;
        let wire = types::Bundle::from(&bundle);
        if let Some(there) = self.federated.get(&trust_domain)
            && **there == wire
        {
            return Ok(Arc::clone(there));
        }
        self.check_room(&trust_domain, &wire)?;
        self.commit.writes.push(put(&trust_domain, &wire));
        self.commit.events.push(Event::BundleSet {
            trust_domain: trust_domain.clone(),
            sequence: bundle.sequence,
            x509_authorities: bundle.x509_authorities.len(),
            jwt_authorities: bundle.jwt_authorities.len(),
            wit_authorities: bundle.wit_authorities.len(),
            digest: hex::encode(digest(&SHA256, &wire.encode_to_vec())),
            requester: self.requester.clone(),
        });
        Ok(self.federated.put(trust_domain, wire))
    }

    /// The bundles as they will be, and what is to be written before.
    pub(super) fn finish(self) -> (Federated, Commit) {
        (self.federated, self.commit)
    }

    /// Our own bundle is made of our own authorities, and never set.
    fn foreign(&self, name: &str) -> Result<TrustDomain, BundleRefused> {
        foreign(name, &self.own)
    }

    fn check_room(
        &self,
        trust_domain: &TrustDomain,
        wire: &types::Bundle,
    ) -> Result<(), BundleRefused> {
        let size = wire.encoded_len();
        if MAX_BUNDLE < size {
            return Err(BundleRefused::TooLarge { trust_domain: trust_domain.clone(), size });
        }
        let before = self.federated.get(trust_domain);
        if before.is_none() && MAX_BUNDLES <= self.federated.len() {
            return Err(BundleRefused::Full);
        }
        let freed = before.map_or(0, |before| before.encoded_len());
        let bytes = self.federated.bytes.saturating_sub(freed).saturating_add(size);
        if MAX_BYTES < bytes { Err(BundleRefused::Full) } else { Ok(()) }
    }
}

/// The trust domain `name`, if it is not `own`.
pub(crate) fn foreign(name: &str, own: &TrustDomain) -> Result<TrustDomain, BundleRefused> {
    let trust_domain =
        ids::trust_domain(name).map_err(|problem| FieldError::new("trust_domain", problem))?;
    if trust_domain == *own {
        return Err(BundleRefused::Own(trust_domain));
    }
    Ok(trust_domain)
}

/// Framing was checked with the fields; an agent would hand out what is no certificate.
fn check_certificates(bundle: &Bundle) -> Result<(), BundleRefused> {
    let mut seen = BTreeSet::new();
    for (at, authority) in bundle.x509_authorities.iter().enumerate() {
        if X509Certificate::from_der(&authority.der).is_err() {
            return Err(BundleRefused::Certificate { at });
        }
        if !seen.insert(&authority.der) {
            return Err(BundleRefused::Repeated { at });
        }
    }
    Ok(())
}

/// Why one bundle of a batch was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BundleRefused {
    /// It is this server's.
    #[error(
        "trust_domain: `{0}` is the server's own trust domain, whose bundle is made of its own \
         authorities"
    )]
    Own(TrustDomain),
    /// There is one already.
    #[error("there is a bundle of `{0}` already; set or update it")]
    Exists(TrustDomain),
    /// There is none.
    #[error("there is no bundle of `{0}`")]
    Unknown(TrustDomain),
    /// A field is malformed.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// An authority is none.
    #[error("x509_authorities[{at}].asn1: is not an X.509 certificate")]
    Certificate {
        /// Which; the first is 0.
        at: usize,
    },
    /// An authority is there twice.
    #[error("x509_authorities[{at}].asn1: is listed twice")]
    Repeated {
        /// The second of them.
        at: usize,
    },
    /// It is too large.
    #[error("the bundle of `{trust_domain}` has {size} bytes; at most {MAX_BUNDLE} are allowed")]
    TooLarge {
        /// Whose it is.
        trust_domain: TrustDomain,
        /// How large it is.
        size: usize,
    },
    /// There is no room.
    #[error(
        "there are as many bundles as there may be: {MAX_BUNDLES}, or {MAX_BYTES} bytes; delete some"
    )]
    Full,
}
