//! What is in the file, before it is sealed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::svid::Validity;
use claviger_core::svid::jwt::{Audience, AudienceError};
use claviger_core::time::UnixTime;
use claviger_proto::convert::FieldError;
use claviger_proto::spire::types;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::Known;
use crate::credentials::{FederatedUpdate, Identity, Snapshot, Update, WorkloadSvid, WorkloadWit};
use crate::keys::{Key, KeyError};
use crate::tokens::{Remembered, Token};

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
    wit: Option<KeptWit>,
    jwts: Vec<KeptJwt>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptSvid {
    /// In Base64; the key is PKCS#8.
    chain: String,
    key: SecretText,
    not_before: UnixTime,
    not_after: UnixTime,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptWit {
    token: SecretText,
    /// A JWK.
    key: SecretText,
    not_before: UnixTime,
    not_after: UnixTime,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptJwt {
    audience: Vec<String>,
    token: SecretText,
    /// Which key signed it.
    key_id: String,
    issued_at: UnixTime,
    expires_at: UnixTime,
}

/// A text that is worth stealing.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct SecretText(String);

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What is known at `now`, as text.
pub(super) fn write(
    snapshot: &Snapshot,
    tokens: Vec<Remembered>,
    now: UnixTime,
) -> Result<Zeroizing<Vec<u8>>, ContentsError> {
    let mut jwts: BTreeMap<EntryId, Vec<Remembered>> = BTreeMap::new();
    for token in tokens.into_iter().filter(|one| now < one.token.expires_at) {
        jwts.entry(token.entry.id.clone()).or_default().push(token);
    }
    let message = |bundle: &Bundle| STANDARD.encode(types::Bundle::from(bundle).encode_to_vec());
    let mut bundles = snapshot.bundles();
    let own = bundles.next().ok_or(ContentsError::NoBundle)?;
    let identities = snapshot.identities().iter().map(|identity| {
        let jwts = jwts.remove(&identity.entry.id).unwrap_or_default();
        Kept::new(identity, &jwts, now)
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

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    /// What was made for an entry before it became another is not for this one.
    fn new(identity: &Identity, jwts: &[Remembered], now: UnixTime) -> Self {
        let of_this = jwts.iter().filter(|one| *one.entry == *identity.entry);
        Self {
            entry: Entry::clone(&identity.entry),
            svid: identity.x509.peek(now).map(|svid| KeptSvid {
                chain: STANDARD.encode(&svid.chain),
                key: SecretText(STANDARD.encode(&svid.key)),
                not_before: svid.validity.not_before,
                not_after: svid.validity.not_after,
            }),
            wit: identity.wit.peek(now).map(|wit| KeptWit {
                token: SecretText(wit.token.to_string()),
                key: SecretText(wit.key.to_string()),
                not_before: wit.validity.not_before,
                not_after: wit.validity.not_after,
            }),
            jwts: of_this.map(KeptJwt::new).collect(),
        }
    }
}

impl KeptJwt {
    fn new(Remembered { entry: _, audience, token }: &Remembered) -> Self {
        Self {
            audience: audience.names().to_vec(),
            token: SecretText(token.jwt.to_string()),
            key_id: token.key_id.clone(),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
        }
    }

    fn open(mut self, entry: &Arc<Entry>) -> Result<Remembered, ContentsError> {
        let token = Token {
            jwt: Zeroizing::new(std::mem::take(&mut self.token.0)),
            key_id: std::mem::take(&mut self.key_id),
            expires_at: self.expires_at,
            issued_at: self.issued_at,
        };
        let audience = Audience::new(self.audience)?;
        Ok(Remembered { entry: Arc::clone(entry), audience, token: Arc::new(token) })
    }
}

/// What `text` says, as if the server said so.
pub(super) fn read(text: &[u8]) -> Result<Known, ContentsError> {
    let contents: Contents = serde_json::from_slice(text)?;
    let bundle = |text: &String| -> Result<Bundle, ContentsError> {
        Ok(types::Bundle::decode(STANDARD.decode(text)?.as_slice())?.try_into()?)
    };
    let own = bundle(&contents.bundle)?;
    let federated = contents.federated.iter().map(bundle).collect::<Result<_, _>>()?;
    let list = |text: &String| Ok(Bytes::from(STANDARD.decode(text)?));
    let revoked = contents.revoked.iter().map(list).collect::<Result<_, ContentsError>>()?;
    let mut update = Update {
        cursor: None,
        snapshot: true,
        upserts: Vec::new(),
        deletes: Vec::new(),
        bundle: Some(own),
        federated: Some(FederatedUpdate {
            snapshot: true,
            upserts: federated,
            deletes: Vec::new(),
        }),
        revoked: Some(revoked),
        svids: Vec::new(),
        wits: Vec::new(),
    };
    let mut tokens = Vec::new();
    for Kept { entry, svid, wit, jwts } in contents.identities {
        let shared = Arc::new(entry.clone());
        for jwt in jwts {
            tokens.push(jwt.open(&shared)?);
        }
        if let Some(svid) = svid {
            update.svids.push((entry.id.clone(), svid.open()?));
        }
        update.wits.extend(wit.map(|wit| (entry.id.clone(), wit.open())));
        update.upserts.push(entry);
    }
    Ok(Known { update, tokens })
}

impl KeptSvid {
    fn open(self) -> Result<WorkloadSvid, ContentsError> {
        let key = Zeroizing::new(STANDARD.decode(&self.key.0)?);
        Ok(WorkloadSvid {
            chain: STANDARD.decode(&self.chain)?.into(),
            key: Key::from_pkcs8(&key)?.into_shared_pkcs8(),
            validity: Validity { not_before: self.not_before, not_after: self.not_after },
        })
    }
}

impl KeptWit {
    fn open(mut self) -> WorkloadWit {
        WorkloadWit {
            token: Zeroizing::new(std::mem::take(&mut self.token.0)),
            key: Zeroizing::new(std::mem::take(&mut self.key.0)),
            validity: Validity { not_before: self.not_before, not_after: self.not_after },
        }
    }
}

/// It can't be written, or is not what we write.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentsError {
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
    #[error("it holds a token for nobody")]
    Audience(#[from] AudienceError),
    #[error("there is no bundle")]
    NoBundle,
}
