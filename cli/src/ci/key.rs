//! A one-time key for a job.

use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::{Psk, PskBase};
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskBinding, PskHash, PskTtl, Purpose, Run};
use claviger_core::secret::Secret;
use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::call::call;
use super::server::Server;
use super::token::Tokens;
use crate::failure::Failure;

/// What a job asks for.
#[derive(Debug, Serialize)]
pub(crate) struct Wanted<'a> {
    /// Who is to answer.
    pub(crate) peer: &'a SpiffeId,
    /// What for.
    pub(crate) purpose: &'a Purpose,
    /// How long the key waits to be used.
    pub(crate) ttl_seconds: PskTtl,
    /// Which of the job's identities dials; the one it has if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spiffe_id: Option<&'a SpiffeId>,
}

/// A key, and what it is bound to.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) identity: WireIdentity,
    pub(crate) psk: Psk,
    pub(crate) binding: PskBinding,
}

/// The server's answer. The key in it is not looked at: it is derived here.
#[derive(Deserialize)]
struct Answer {
    identity: String,
    base: Hexadecimal,
    client_id: SpiffeId,
    server_id: SpiffeId,
    purpose: Purpose,
    run: Option<Run>,
    expires_at: UnixTime,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Hexadecimal(String);

impl Wanted<'_> {
    /// Asks `server` for the key with a token of the job's, again and again while it is away, until
    /// `patience` is over.
    pub(crate) async fn get(
        &self,
        server: &Server,
        tokens: &Tokens,
        patience: Duration,
    ) -> Result<Key, Failure> {
        let body = serde_json::to_string(self).map_err(|error| Failure::because(&error))?;
        let answer = call(server, tokens, None, ("/v1/psk", &body), patience).await?;
        let answer = serde_json::from_slice(&answer).map_err(|_may_be_secret| no_answer())?;
        self.derive(answer)
    }

    /// The key, bound to what was asked for and not to what the server may say.
    fn derive(&self, answer: Answer) -> Result<Key, Failure> {
        let Answer { identity, base, client_id, server_id, purpose, run, expires_at } = answer;
        let ours = server_id == *self.peer
            && purpose == *self.purpose
            && self.spiffe_id.is_none_or(|id| *id == client_id);
        if !ours {
            return Err(Failure::failed("the server's answer is for something else"));
        }
        let identity: WireIdentity = identity.parse().map_err(|_no_identity| no_answer())?;
        let base = hex::decode(&base.0).map(Zeroizing::new).map_err(|_no_hex| no_answer())?;
        let base = Secret::copy_from(&base).map(PskBase).ok_or_else(no_answer)?;
        let binding = PskBinding {
            client: client_id,
            server: self.peer.clone(),
            purpose: self.purpose.clone(),
            not_after: expires_at,
            hash: PskHash::Sha256,
            run,
            series: None,
            bits: None,
        };
        Ok(Key { identity, psk: base.psk(&binding), binding })
    }
}

fn no_answer() -> Failure {
    Failure::failed("what the server answers is not a key")
        .try_this("is this a Claviger server, and of this version?")
}
