//! What one message of the agent comes to.

use std::sync::Arc;

use bytes::Bytes;
use claviger_core::der::{self, DerError};
use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::workload::{X509svid, X509svidResponse};
use claviger_runtime::tls::{
    BundleError, Identity, Mutual, Svid, SvidKeyError, Trust, TrustBundle, TrustError,
};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use zeroize::Zeroize;

use super::NoSvid;
use crate::route::Profile;

/// The most trust domains: our own, and those federated with it.
const MAX_DOMAINS: usize = 1_000;

/// Who we are, and what follows for handshakes.
#[derive(Debug)]
pub(crate) struct Own {
    id: SpiffeId,
    not_after: UnixTime,
    mutual: Mutual,
    server: Arc<ServerConfig>,
}

impl Own {
    /// What `message` says of `identity`, or else of the first that it names.
    pub(super) fn read(
        message: X509svidResponse,
        identity: Option<&SpiffeId>,
        profile: Profile,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Unreadable> {
        let X509svidResponse { svids, crl, federated_bundles } = message;
        let wanted = identity.map(SpiffeId::to_string);
        let ours = |svid: &X509svid| wanted.as_ref().is_none_or(|id| *id == svid.spiffe_id);
        let X509svid { spiffe_id, x509_svid, x509_svid_key, bundle, hint: _ } =
            svids.into_iter().find(ours).ok_or_else(|| match identity {
                Some(id) => NoSvid::NotThis(id.clone()),
                None => NoSvid::Nobody,
            })?;

        let svid = read_svid(&x509_svid, x509_svid_key)?;
        let (id, not_after) = (svid.leaf().id().clone(), svid.leaf().not_after());
        if id.to_string() != spiffe_id {
            return Err(Unreadable::OtherName { leaf: id, named: spiffe_id });
        }
        if !svid.signs_by(&profile.schemes()) {
            return Err(NoSvid::Profile(id).into());
        }
        if MAX_DOMAINS <= federated_bundles.len() {
            return Err(Unreadable::TooMany);
        }
        let mut bundles = vec![read_bundle(&id.trust_domain().id(), &bundle)?];
        for (domain, bundle) in federated_bundles {
            bundles.push(read_bundle(&domain.parse()?, &bundle)?);
        }
        let trust = Trust::new(bundles, &crl)?;
        let (identity, provider) = (Identity::new(svid), profile.provider());
        let mutual = Mutual { identity, trust, provider, clock };
        let server = mutual.server_config()?;
        Ok(Self { id, not_after, mutual, server })
    }

    /// Who we are.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The last second at which the SVID is valid.
    pub(super) fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// How to answer.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// How to dial `peer`.
    pub(crate) fn client_config(&self, peer: SpiffeId) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.mutual.client_config(peer)
    }
}

fn read_svid(chain: &Bytes, key: Bytes) -> Result<Svid, Unreadable> {
    let svid = Svid::new(certificates(chain)?, &key);
    // Wiped, unless some other part of the message is still somewhere.
    if let Ok(mut key) = key.try_into_mut() {
        key.as_mut().zeroize();
    }
    Ok(svid?)
}

fn read_bundle(domain: &SpiffeId, bundle: &Bytes) -> Result<TrustBundle, Unreadable> {
    let unusable = |source| Unreadable::Bundle { domain: domain.clone(), source };
    // An empty one vouches for nobody (SPIFFE bundle §4.1.3).
    let authorities = if bundle.is_empty() { Vec::new() } else { certificates(bundle)? };
    TrustBundle::new(domain.trust_domain().clone(), &authorities).map_err(unusable)
}

fn certificates(concatenated: &Bytes) -> Result<Vec<CertificateDer<'static>>, DerError> {
    let split = der::split(concatenated)?;
    Ok(split.into_iter().map(|one| CertificateDer::from(one.to_vec())).collect())
}

/// Why what the agent says cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It is understood, and means that there can be no handshakes.
    #[error(transparent)]
    NoSvid(#[from] NoSvid),
    /// It holds no certificates.
    #[error("the agent's message is malformed: it {0}")]
    Der(#[from] DerError),
    /// The SVID is none, or has another key.
    #[error("the agent's X.509-SVID is unusable")]
    Svid(#[from] SvidKeyError),
    /// The SVID is another's.
    #[error("the agent's X.509-SVID names `{leaf}`, and the agent says that it is of `{named}`")]
    OtherName {
        /// Whom it names.
        leaf: SpiffeId,
        /// Of whom the agent says that it is.
        named: String,
    },
    /// A bundle's name is none.
    #[error("the agent's bundles have a malformed name")]
    Domain(#[from] ParseIdError),
    /// A bundle is none.
    #[error("the agent's bundle of `{domain}` is unusable")]
    Bundle {
        /// Whose it was to be.
        domain: SpiffeId,
        /// Why.
        source: BundleError,
    },
    /// A revocation list is none.
    #[error("the agent's revocation lists are unusable")]
    Revoked(#[from] TrustError),
    /// There is no end of bundles.
    #[error("the agent has bundles of more than {MAX_DOMAINS} trust domains")]
    TooMany,
    /// rustls does not take it.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}
