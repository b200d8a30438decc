//! X.509-SVIDs that are not to be believed although their time has not come: lists that the
//! authorities sign (RFC 5280 §5), for the `crl` fields of the Workload API.
//!
//! An SVID is on the list of the authority that signed it until it ends by itself. What is revoked is
//! written down before a list says so.

use std::collections::HashSet;
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

use super::issued::{self, Issued};
use super::keys::{KeyFileError, KeyFolder};
use super::x509::{SignError, date};
use crate::journal::{Change, CommitError, Journal, Require};
use crate::standings::Standings;
use crate::store::{Space, StoreError, Write};

/// Where it is written down.
const KEY: &[u8] = b"revoked";

/// Where lists are that servers sign for each other to show: then the key that signed.
const LISTS: &str = "crl/";

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
    stored: Mutex<Known>,
    lists: watch::Sender<Lists>,
    /// Those that this server has signed, by the key that did.
    own: watch::Sender<Arc<Vec<(KeyDigest, Bytes)>>>,
}

/// What is written down, as it was read and as it lies there.
#[derive(Clone, Debug, Default)]
struct Known {
    stored: Stored,
    json: Option<Vec<u8>>,
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
    /// The key of the authority that signed it; none if any of them may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<KeyDigest>,
    /// When it was revoked.
    pub revoked_at: UnixTime,
    /// When it ends by itself.
    pub expires_at: UnixTime,
}

impl Revoked {
    /// What was issued is revoked at `now`. Which authority signed it is not known; the number is that of
    /// no other certificate.
    fn now(issued: Issued, now: UnixTime) -> Self {
        let Issued { serial, expires_at, subject } = issued;
        let serial = serial.to_string();
        Self { serial, subject, authority: None, revoked_at: now, expires_at }
    }
}

/// What became of the SVIDs that identities had.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Withdrawn {
    /// How many are on the lists.
    pub listed: usize,
    /// For how many there was no room on the lists.
    pub left_out: usize,
}

/// What is written down.
async fn load(journal: &Journal) -> Result<Known, RevokeError> {
    let Some(json) = journal.store().get(Space::Authorities, KEY).await? else {
        return Ok(Known::default());
    };
    let stored = serde_json::from_slice(&json).map_err(RevokeError::Damaged)?;
    Ok(Known { stored, json: Some(json) })
}

/// The key of the authority whose certificate is `der`.
fn key_of(der: &[u8]) -> Result<KeyDigest, RevokeError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_detail| RevokeError::Malformed)?;
    Ok(KeyDigest::of_spki(certificate.public_key().raw))
}

/// What is written down when all that are `held` are revoked at `now`, as far as there is room.
fn plan(
    stored: &Stored,
    held: Vec<Issued>,
    requester: &Requester,
    now: UnixTime,
) -> (Withdrawn, Stored, Vec<Event>) {
    let mut next = stored.clone();
    next.revoked.retain(|one| now < one.expires_at);
    let known: HashSet<_> = next.revoked.iter().map(|one| one.serial.clone()).collect();
    let all = held.len();
    let held = held.into_iter().rev().map(|issued| Revoked::now(issued, now));
    let mut fresh: Vec<_> = held.filter(|one| !known.contains(&one.serial)).collect();
    let room = MAX_REVOKED.saturating_sub(next.revoked.len());
    let left_out = fresh.len().saturating_sub(room);
    fresh.truncate(room);
    let events = fresh.iter().map(|one| event(one, requester.clone())).collect();
    next.revoked.append(&mut fresh);
    (Withdrawn { listed: all.saturating_sub(left_out), left_out }, next, events)
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
        let stored = load(&journal).await?;
        let inner = Inner {
            keys: KeyFolder::new(keys, Profile::X509),
            journal,
            clock,
            bundle,
            stored: Mutex::new(stored),
            lists: watch::Sender::default(),
            own: watch::Sender::default(),
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

    /// Whether the X.509-SVID of `subject` with this serial number, big-endian, is revoked.
    pub(crate) async fn is_revoked(&self, subject: &SpiffeId, serial: &[u8]) -> bool {
        let serial = hex::encode(serial);
        let stored = self.0.stored.lock().await;
        stored.stored.revoked.iter().any(|one| one.serial == serial && one.subject == *subject)
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
        let same = |one: &&Revoked| {
            one.serial == revoked.serial
                && (one.authority.is_none() || one.authority == revoked.authority)
        };
        loop {
            if let Some(already) = stored.stored.revoked.iter().find(same) {
                return Ok(already.clone());
            }
            let mut next = stored.stored.clone();
            next.revoked.retain(|one| now < one.expires_at);
            if MAX_REVOKED <= next.revoked.len() {
                return Err(RevokeError::Full);
            }
            next.revoked.push(revoked.clone());
            let events = vec![event(&revoked, requester.clone())];
            if self.write(&mut stored, next, events).await? {
                break;
            }
        }
        info!(serial = revoked.serial, id = %revoked.subject, "SVID revoked");
        self.publish(&stored.stored, now).await?;
        Ok(revoked)
    }

    /// Revokes every X.509-SVID that any of `ids` still has, and those that were given to an agent that is
    /// among them. To revoke them again changes nothing. If there is not room for all, those go first that
    /// would last longest.
    ///
    /// # Errors
    ///
    /// [`RevokeError`] if nothing was revoked.
    pub async fn withdraw(
        &self,
        ids: &HashSet<SpiffeId>,
        requester: Requester,
    ) -> Result<Withdrawn, RevokeError> {
        let now = self.0.clock.now();
        let held = issued::held_by(&**self.0.journal.store(), ids, now).await?;
        let mut stored = self.0.stored.lock().await;
        loop {
            let (withdrawn, next, events) = plan(&stored.stored, held.clone(), &requester, now);
            if withdrawn.left_out > 0 {
                let left_out = withdrawn.left_out;
                error!(
                    left_out,
                    "the revocation lists are full; SVIDs of quarantined identities lack"
                );
            }
            if events.is_empty() {
                return Ok(withdrawn);
            }
            if self.write(&mut stored, next, events).await? {
                info!(listed = withdrawn.listed, "SVIDs of quarantined identities revoked");
                self.publish(&stored.stored, now).await?;
                return Ok(withdrawn);
            }
        }
    }

    /// Withdraws what all those have that are in quarantine, such as what a server left that stopped before
    /// it came to that. Gives back up to which change it knows how they stand.
    ///
    /// # Errors
    ///
    /// [`RevokeError`] if nothing was revoked.
    pub async fn catch_up(&self, standings: &Standings, seen: u64) -> Result<u64, RevokeError> {
        let (records, number) = standings.since(seen);
        let quarantined = records.iter().filter(|record| record.standing.quarantined);
        let ids: HashSet<_> = quarantined.map(|record| record.id.clone()).collect();
        if !ids.is_empty() {
            self.withdraw(&ids, Requester::Server).await?;
        }
        Ok(number)
    }

    /// Withdraws what identities have as they are put in quarantine, after change number `seen` and for as
    /// long as the server runs.
    ///
    /// # Errors
    ///
    /// None: what fails is said in the log, and tried again with the next change.
    pub async fn follow(
        self,
        standings: Standings,
        mut seen: u64,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut version = standings.version();
        loop {
            match self.catch_up(&standings, seen).await {
                Ok(number) => seen = number,
                Err(error) => {
                    error!(error = %Chain(&error), "cannot revoke SVIDs of quarantined identities");
                }
            }
            // `standings` holds the sender.
            if stop.run_until_cancelled(version.changed()).await.is_none() {
                return Ok(());
            }
        }
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
        if !stored.stored.revoked.is_empty() {
            let mut next = stored.stored.clone();
            next.revoked.retain(|one| now < one.expires_at);
            // If another server was faster, it has left out the same.
            self.write(&mut stored, next, Vec::new()).await?;
        }
        self.publish(&stored.stored, now).await
    }

    /// Takes in what another server has revoked, and the lists that it has signed.
    pub(crate) async fn look_around(&self) -> Result<(), RevokeError> {
        let mut stored = self.0.stored.lock().await;
        let newest = load(&self.0.journal).await?;
        if stored.json == newest.json {
            let own = Arc::clone(&self.0.own.borrow());
            let lists = self.with_lists_of_others(own).await?;
            self.0.lists.send_replace(lists);
            return Ok(());
        }
        *stored = newest;
        self.publish(&stored.stored, self.0.clock.now()).await
    }

    /// Writes down what is revoked next. If another server was faster, it is taken in instead.
    async fn write(
        &self,
        stored: &mut Known,
        next: Stored,
        events: Vec<Event>,
    ) -> Result<bool, RevokeError> {
        let next = Stored { version: next.version.saturating_add(1), ..next };
        let json = serde_json::to_vec(&next).map_err(RevokeError::Damaged)?;
        let before = stored.json.clone();
        let change = Change {
            require: vec![Require { space: Space::Authorities, key: KEY.to_vec(), value: before }],
            writes: vec![Write::put(Space::Authorities, KEY, json.clone())],
            events,
        };
        match self.0.journal.commit(change).await {
            Ok(_head) => {
                *stored = Known { stored: next, json: Some(json) };
                Ok(true)
            }
            Err(CommitError::Conflict { .. }) => {
                *stored = load(&self.0.journal).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Signs the lists of this server's authorities, and shows them with those of other servers.
    async fn publish(&self, stored: &Stored, now: UnixTime) -> Result<(), RevokeError> {
        let own = self.sign(stored, now)?;
        if self.0.journal.store().is_shared() && !own.is_empty() {
            let write = |(digest, list): &(KeyDigest, Bytes)| {
                Write::put(Space::Authorities, format!("{LISTS}{digest}"), list.to_vec())
            };
            let writes = own.iter().map(write).collect();
            self.0.journal.commit(Change { writes, ..Change::default() }).await?;
        }
        let lists = self.with_lists_of_others(Arc::new(own.clone())).await?;
        self.0.own.send_replace(Arc::new(own));
        self.0.lists.send_replace(lists);
        Ok(())
    }

    /// `own`, and what other servers have signed for those of their authorities that are still believed.
    async fn with_lists_of_others(
        &self,
        own: Arc<Vec<(KeyDigest, Bytes)>>,
    ) -> Result<Lists, RevokeError> {
        let mut lists: Vec<_> = own.iter().map(|(_, list)| list.clone()).collect();
        let store = self.0.journal.store();
        if store.is_shared() {
            let bundle = Arc::clone(&self.0.bundle.borrow());
            for authority in &bundle.x509_authorities {
                let digest = key_of(&authority.der)?;
                if own.iter().any(|(signed, _)| *signed == digest) {
                    continue;
                }
                let key = format!("{LISTS}{digest}");
                lists.extend(store.get(Space::Authorities, key.as_bytes()).await?.map(Bytes::from));
            }
        }
        Ok(Arc::new(lists))
    }

    /// One list for each authority that has something on it, and is still believed.
    fn sign(&self, stored: &Stored, now: UnixTime) -> Result<Vec<(KeyDigest, Bytes)>, RevokeError> {
        let bundle = self.0.bundle.borrow().clone();
        let mut lists = Vec::new();
        for authority in &bundle.x509_authorities {
            let digest = key_of(&authority.der)?;
            let its = |one: &&Revoked| one.authority.is_none_or(|authority| authority == digest);
            let its: Vec<_> = stored.revoked.iter().filter(its).collect();
            if its.is_empty() {
                continue;
            }
            let key = match self.0.keys.read(&digest.to_string()) {
                // It is another server's.
                Err(error) if error.is_absent() && self.0.journal.store().is_shared() => continue,
                key => key?,
            };
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
            lists.push((digest, Bytes::copy_from_slice(list.der())));
        }
        Ok(lists)
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
            authority: Some(authority),
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

fn event(revoked: &Revoked, requester: Requester) -> Event {
    Event::X509SvidRevoked {
        serial: revoked.serial.clone(),
        subject: revoked.subject.clone(),
        authority: revoked.authority,
        expires_at: revoked.expires_at,
        requester,
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
