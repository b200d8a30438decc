//! What outlives a restart, for an agent that finds no server: entries, bundles, and X.509-SVIDs with
//! their keys. It is looked at only when the server does not answer, and never after it has.
//!
//! | to find | look in |
//! |---|---|
//! | how it is closed to whoever has the disk, but not the agent's key | [`sealed`] |
//!
//! WIT-SVIDs and JWT-SVIDs are not kept: they are made for whoever asks.

mod sealed;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::entry::Entry;
use claviger_core::svid::Validity;
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::convert::FieldError;
use claviger_proto::spire::types;
use claviger_runtime::telemetry::Chain;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::{FederatedUpdate, Snapshot, Update, WorkloadSvid};
use crate::files::{DataDir, DataDirError};
use crate::identity::{StoredError, load_key};
use crate::keys::{Key, KeyError};
use crate::server::Link;
use sealed::SealError;

const FILE: &str = "credentials.sealed";

/// The shortest time between two writes: what changes at the same time is written at once.
const PAUSE: Duration = Duration::from_secs(1);

/// What is in the file, before it is sealed.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// Our own trust domain's, as SPIRE's API has it, in Base64.
    bundle: String,
    /// The others'.
    federated: Vec<String>,
    /// What is revoked: lists in DER, in Base64.
    revoked: Vec<String>,
    identities: Vec<Kept>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    entry: Entry,
    svid: Option<KeptSvid>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptSvid {
    /// In Base64, as the key is.
    chain: String,
    key: KeyText,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// A private key, PKCS#8 in Base64.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct KeyText(String);

impl Drop for KeyText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// What was kept, as if the server said so; `None` if nothing was, or nothing that can be used: then
/// the agent waits for its server.
///
/// # Errors
///
/// [`StoredError`] if the directory can't be used.
pub(crate) async fn load(dir: &DataDir) -> Result<Option<Update>, StoredError> {
    let (Some(sealed), Some(key)) = (dir.read(FILE).await?, load_key(dir).await?) else {
        return Ok(None);
    };
    match open(&sealed, &key) {
        Ok(update) => Ok(Some(update)),
        Err(error) => {
            warn!(error = %Chain(&error), "what was kept for a time without a server is of no use");
            Ok(None)
        }
    }
}

/// Keeps what can be given out, whenever that changes, or the agent's own key, until `stop` fires.
pub(crate) async fn keep(
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    mut links: watch::Receiver<Option<Link>>,
    (dir, clock): (DataDir, Arc<dyn Clock>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let changes = async {
        loop {
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                changed = links.changed() => if changed.is_err() { return },
            }
            let snapshot = snapshots.borrow_and_update().clone();
            if let Some(snapshot) = snapshot
                && let Err(error) = save(&dir, &snapshot, clock.now()).await
            {
                error!(error = %Chain(&error), "cannot keep SVIDs for a time without a server");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(changes).await;
    Ok(())
}

async fn save(dir: &DataDir, snapshot: &Snapshot, now: UnixTime) -> Result<(), CacheError> {
    let Some(key) = load_key(dir).await? else { return Ok(()) };
    let sealed = sealed::seal(&text_of(snapshot, now)?, &key)?;
    Ok(dir.write(FILE, sealed.into()).await?)
}

/// Base64 takes a third more, and the rest is a few hundred bytes for each identity.
fn text_of(snapshot: &Snapshot, now: UnixTime) -> Result<Zeroizing<Vec<u8>>, CacheError> {
    let message = |bundle: &Bundle| STANDARD.encode(types::Bundle::from(bundle).encode_to_vec());
    let mut bundles = snapshot.bundles();
    let own = bundles.next().ok_or(CacheError::NoBundle)?;
    let identities = snapshot.identities().iter().map(|identity| Kept {
        entry: Entry::clone(&identity.entry),
        svid: identity.x509.peek(now).map(|svid| KeptSvid {
            chain: STANDARD.encode(&svid.chain),
            key: KeyText(STANDARD.encode(&svid.key)),
            not_before: svid.validity.not_before,
            not_after: svid.validity.not_after,
        }),
    });
    let contents = Contents {
        bundle: message(&own.bundle),
        federated: bundles.map(|served| message(&served.bundle)).collect(),
        revoked: own.crl.iter().map(|list| STANDARD.encode(list)).collect(),
        identities: identities.collect(),
    };
    let mut size = Counted(0);
    serde_json::to_writer(&mut size, &contents)?;
    // Room for all of it, so that no copy of a key is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *text, &contents)?;
    Ok(text)
}

/// Counts bytes.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn open(sealed: &[u8], key: &[u8]) -> Result<Update, CacheError> {
    let text = sealed::open(sealed, key)?;
    let contents: Contents = serde_json::from_slice(&text)?;
    let bundle = |text: &String| -> Result<Bundle, CacheError> {
        Ok(types::Bundle::decode(STANDARD.decode(text)?.as_slice())?.try_into()?)
    };
    let own = bundle(&contents.bundle)?;
    let federated = contents.federated.iter().map(bundle).collect::<Result<_, _>>()?;
    let list = |text: &String| Ok(Bytes::from(STANDARD.decode(text)?));
    let revoked = contents.revoked.iter().map(list).collect::<Result<_, CacheError>>()?;
    let (mut upserts, mut svids) = (Vec::new(), Vec::new());
    for Kept { entry, svid } in contents.identities {
        if let Some(svid) = svid {
            svids.push((entry.id.clone(), svid.open()?));
        }
        upserts.push(entry);
    }
    info!(entries = upserts.len(), svids = svids.len(), "known from before");
    Ok(Update {
        cursor: None,
        snapshot: true,
        upserts,
        deletes: Vec::new(),
        bundle: Some(own),
        federated: Some(FederatedUpdate {
            snapshot: true,
            upserts: federated,
            deletes: Vec::new(),
        }),
        revoked: Some(revoked),
        svids,
    })
}

impl KeptSvid {
    fn open(self) -> Result<WorkloadSvid, CacheError> {
        let key = Zeroizing::new(STANDARD.decode(&self.key.0)?);
        Ok(WorkloadSvid {
            chain: STANDARD.decode(&self.chain)?.into(),
            key: Key::from_pkcs8(&key)?.into_shared_pkcs8(),
            validity: Validity { not_before: self.not_before, not_after: self.not_after },
        })
    }
}

/// Nothing can be kept, or what was kept is of no use.
#[derive(Debug, thiserror::Error)]
enum CacheError {
    #[error(transparent)]
    Dir(#[from] DataDirError),
    #[error(transparent)]
    Stored(#[from] StoredError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("it is not what we write")]
    Json(#[from] serde_json::Error),
    #[error("it is not Base64")]
    Base64(#[from] base64::DecodeError),
    #[error("it holds something else than a bundle")]
    Message(#[from] prost::DecodeError),
    #[error("it holds a bundle that is none")]
    Bundle(#[from] FieldError),
    #[error("it holds a key that is none")]
    Key(#[from] KeyError),
    #[error("there is no bundle")]
    NoBundle,
}
