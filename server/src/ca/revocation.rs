//! X.509-SVIDs that are not to be believed although their time has not come: lists that the
//! authorities sign (RFC 5280 §5), for the `crl` fields of the Workload API.
//!
//! An SVID is on the list of the authority that signed it until it ends by itself. What is revoked is
//! written down before a list says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use bytes::Bytes;
use claviger_core::audit::Event;
use claviger_core::bundle::Bundle;
use claviger_core::evidence::KeyDigest;
use claviger_core::grant::Requester;
use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::svid::Profile;
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::telemetry::Chain;
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::keys::{KeyFileError, KeyFolder};
use super::x509::{SignError, date};
use crate::journal::{Change, CommitError, Journal};
use crate::store::{Space, StoreError, Write};

/// Where it is written down.
const KEY: &[u8] = b"revoked";

/// How long a list may be believed. It is signed anew at half of that.
const LIFE: Duration = Duration::from_secs(86_400);

/// The most SVIDs that are revoked at a time.
const MAX_REVOKED: usize = 10_000;

/// The largest certificate that is looked at, in bytes.
const MAX_CERTIFICATE: usize = 16 << 10;

/// Lists in DER, one for each authority that has revoked something.
pub type Lists = Arc<Vec<Bytes>>;

/// What is revoked. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Revocations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: KeyFolder,
    journal: Journal,
    clock: Arc<dyn Clock>,
    bundle: watch::Receiver<Arc<Bundle>>,
    /// Held from the check to the change.
    stored: Mutex<Stored>,
    lists: watch::Sender<Lists>,
}

/// As it is written down.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// The number of the lists; rises whenever they are signed (RFC 5280 §5.2.3).
    version: u64,
    revoked: Vec<Revoked>,
}

/// One revoked SVID.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Whose it was.
    pub subject: SpiffeId,
    /// The key of the authority that signed it.
    pub authority: KeyDigest,
    /// When it was revoked.
    pub revoked_at: UnixTime,
    /// When it ends by itself.
    pub expires_at: UnixTime,
}

impl Revocations {
    /// Takes up what is stored, and signs the lists. `keys` is the folder of the authorities' keys.
    ///
    /// # Errors
    ///
    /// [`RevokeError`] if the store or a key stands in the way.
    pub async fn open(
        keys: PathBuf,
        journal: Journal,
        clock: Arc<dyn Clock>,
        bundle: watch::Receiver<Arc<Bundle>>,
    ) -> Result<Self, RevokeError> {
        let stored = match journal.store().get(Space::Authorities, KEY).await? {
            Some(json) => serde_json::from_slice(&json).map_err(RevokeError::Damaged)?,
            None => Stored::default(),
        };
        let inner = Inner {
            keys: KeyFolder::new(keys, Profile::X509),
            journal,
            clock,
            bundle,
            stored: Mutex::new(stored),
            lists: watch::Sender::default(),
        };
        let revocations = Self(Arc::new(inner));
        revocations.renew().await?;
        Ok(revocations)
    }

    /// The lists, now and later.
    #[must_use]
    pub fn lists(&self) -> watch::Receiver<Lists> {
        self.0.lists.subscribe()
    }

    /// Revokes the X.509-SVID `certificate` (DER), which one of our authorities signed. To revoke it
    /// again changes nothing.
    ///
    /// # Errors
    ///
    /// [`RevokeError`] says why it is not revoked.
    pub async fn revoke(
        &self,
        certificate: &[u8],
        requester: Requester,
    ) -> Result<Revoked, RevokeError> {
        let now = self.0.clock.now();
        let revoked = self.parse(certificate, now)?;
        let mut stored = self.0.stored.lock().await;
        let same =
            |one: &&Revoked| (&one.serial, one.authority) == (&revoked.serial, revoked.authority);
        if let Some(already) = stored.revoked.iter().find(same) {
            return Ok(already.clone());
        }
        let mut next = stored.clone();
        next.revoked.retain(|one| now < one.expires_at);
        if MAX_REVOKED <= next.revoked.len() {
            return Err(RevokeError::Full);
        }
        next.revoked.push(revoked.clone());
        let event = Event::X509SvidRevoked {
            serial: revoked.serial.clone(),
            subject: revoked.subject.clone(),
            authority: revoked.authority,
            expires_at: revoked.expires_at,
            requester,
        };
        *stored = self.write(next, vec![event]).await?;
        info!(serial = revoked.serial, id = %revoked.subject, "SVID revoked");
        self.0.lists.send_replace(self.sign(&stored, now)?);
        Ok(revoked)
    }

    /// Signs the lists anew from time to time, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None so far: what fails is tried again later, and said in the log.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let pause = LIFE.checked_div(2).unwrap_or(LIFE);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            if let Err(error) = self.renew().await {
                error!(error = %Chain(&error), "cannot sign revocation lists");
            }
        }
        Ok(())
    }

    /// Leaves out what has ended, and signs what is left.
    async fn renew(&self) -> Result<(), RevokeError> {
        let now = self.0.clock.now();
        let mut stored = self.0.stored.lock().await;
        if stored.revoked.is_empty() {
            return Ok(());
        }
        let mut next = stored.clone();
        next.revoked.retain(|one| now < one.expires_at);
        *stored = self.write(next, Vec::new()).await?;
        self.0.lists.send_replace(self.sign(&stored, now)?);
        Ok(())
    }

    async fn write(&self, next: Stored, events: Vec<Event>) -> Result<Stored, RevokeError> {
        let next = Stored { version: next.version.saturating_add(1), ..next };
        let value = serde_json::to_vec(&next).map_err(RevokeError::Damaged)?;
        let writes = vec![Write::put(Space::Authorities, KEY, value)];
        self.0.journal.commit(Change { writes, events, ..Change::default() }).await?;
        Ok(next)
    }

    /// One list for each authority that has something on it, and is still believed.
    fn sign(&self, stored: &Stored, now: UnixTime) -> Result<Lists, RevokeError> {
        let bundle = self.0.bundle.borrow().clone();
        let mut lists = Vec::new();
        for authority in &bundle.x509_authorities {
            let (_, certificate) = X509Certificate::from_der(&authority.der)
                .map_err(|_detail| RevokeError::Malformed)?;
            let digest = KeyDigest::of_spki(certificate.public_key().raw);
            let its: Vec<_> = stored.revoked.iter().filter(|one| one.authority == digest).collect();
            if its.is_empty() {
                continue;
            }
            let key = self.0.keys.read(&digest.to_string())?;
            let der = CertificateDer::from(authority.der.to_vec());
            let issuer = rcgen::Issuer::from_ca_cert_der(&der, key).map_err(SignError::from)?;
            let params = CertificateRevocationListParams {
                this_update: date(now)?,
                next_update: date(now.after(LIFE))?,
                crl_number: SerialNumber::from(stored.version),
                issuing_distribution_point: None,
                revoked_certs: its.into_iter().map(entry).collect::<Result<_, _>>()?,
                key_identifier_method: KeyIdMethod::Sha256,
            };
            let list = params.signed_by(&issuer).map_err(SignError::from)?;
            lists.push(Bytes::copy_from_slice(list.der()));
        }
        Ok(Arc::new(lists))
    }

    /// Reads the certificate, and makes sure that one of our authorities signed it.
    fn parse(&self, der: &[u8], now: UnixTime) -> Result<Revoked, RevokeError> {
        if MAX_CERTIFICATE < der.len() {
            return Err(RevokeError::Malformed);
        }
        let Ok(([], leaf)) = X509Certificate::from_der(der) else {
            return Err(RevokeError::Malformed);
        };
        let authority = self.signer_of(&leaf).ok_or(RevokeError::NotOurs)?;
        if leaf.is_ca() {
            return Err(RevokeError::Authority);
        }
        let names = leaf.subject_alternative_name().ok().flatten().ok_or(RevokeError::Malformed)?;
        let uri = names
            .value
            .general_names
            .iter()
            .find_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
        let expires_at = u64::try_from(leaf.validity().not_after.timestamp())
            .map_err(|_negative| RevokeError::Malformed)?;
        let expires_at = UnixTime::from_secs(expires_at);
        if expires_at <= now {
            return Err(RevokeError::Ended);
        }
        Ok(Revoked {
            serial: hex::encode(leaf.raw_serial()),
            subject: uri.ok_or(RevokeError::Malformed)?.parse()?,
            authority,
            revoked_at: now,
            expires_at,
        })
    }

    /// The key of the authority that signed `leaf`; all of ours sign alike.
    fn signer_of(&self, leaf: &X509Certificate<'_>) -> Option<KeyDigest> {
        let bundle = self.0.bundle.borrow().clone();
        bundle.x509_authorities.iter().find_map(|authority| {
            let (_, certificate) = X509Certificate::from_der(&authority.der).ok()?;
            let spki = certificate.public_key().raw;
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki)
                .verify(leaf.tbs_certificate.as_ref(), &leaf.signature_value.data)
                .ok()?;
            Some(KeyDigest::of_spki(spki))
        })
    }
}

fn entry(revoked: &Revoked) -> Result<RevokedCertParams, RevokeError> {
    let serial = hex::decode(&revoked.serial).map_err(|_detail| RevokeError::Malformed)?;
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date(revoked.revoked_at)?,
        reason_code: Some(RevocationReason::Unspecified),
        invalidity_date: None,
    })
}

/// Why an SVID is not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// It is no certificate.
    #[error("this is not an X.509-SVID in DER")]
    Malformed,
    /// It is nobody's.
    #[error("the certificate names no SPIFFE ID")]
    Subject(#[from] ParseIdError),
    /// It is none of ours, or so old that its authority has ended.
    #[error("no signing authority of this trust domain signed the certificate")]
    NotOurs,
    /// It signs itself.
    #[error("the certificate is a signing authority's; authorities are tainted, not revoked here")]
    Authority,
    /// There is nothing to revoke any more.
    #[error("the certificate has ended by itself")]
    Ended,
    /// There is no room.
    #[error("{MAX_REVOKED} SVIDs are revoked already; wait until some of them end")]
    Full,
    /// A list cannot be signed.
    #[error("cannot sign the revocation list")]
    Sign(#[from] SignError),
    /// The authority's key cannot be had.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// What is stored cannot be read.
    #[error("the stored revocations are damaged")]
    Damaged(#[source] serde_json::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

#[cfg(test)]
mod tests;
