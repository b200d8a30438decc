//! Permission to act, and proof that it was written down first.
//!
//! `Attested → Grant → Recorded → signature`: each is a value that the next step consumes, so that
//! there is no path to a signature or a key that skips a step.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::decision::Decided;
use crate::entry::EntryId;
use crate::evidence::ear::EarContents;
use crate::evidence::{Bond, Tier};
use crate::id::SpiffeId;
use crate::psk::PskBinding;
use crate::psk::binder::{Binder, TranscriptHash};
use crate::svid::jwt::JwtSvidContents;
use crate::svid::wit::WitSvidContents;
use crate::svid::{SerialNumber, SvidTtl, X509SvidContents};

/// Which set of policies decided: the SHA-256 of its files.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct PolicyDigest(#[serde(with = "hex::serde")] [u8; 32]);

impl PolicyDigest {
    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of a policy set's canonical bytes.
    #[must_use]
    pub fn of(policies: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, policies).as_ref());
        Self(bytes)
    }
}

impl FromStr for PolicyDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyDigest({self})")
    }
}

/// Permission to do `T` once. Only the policy makes one, and using it consumes it: one decision,
/// one credential.
///
/// ```compile_fail,E0382
/// fn twice(grant: claviger_core::grant::Grant<u8>) {
///     drop(grant);
///     drop(grant);
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Grant<T> {
    act: T,
    decided: Box<Decided>,
}

impl<T> Grant<T> {
    /// Asserts that policies permit `act`, as was `decided`. Called by the server's policy engine
    /// only; the `tidy` test checks that nobody else does.
    pub const fn assertion(act: T, decided: Box<Decided>) -> Self {
        Self { act, decided }
    }

    /// What is permitted.
    pub const fn act(&self) -> &T {
        &self.act
    }

    /// Which policies permitted it.
    #[must_use]
    pub const fn policy(&self) -> PolicyDigest {
        self.decided.decision.policy
    }

    /// What was asked, and what the policies said.
    #[must_use]
    pub const fn decided(&self) -> &Decided {
        &self.decided
    }

    /// What is permitted, to act upon. Only a [`Recorded`] grant can be reached this way by the
    /// signer.
    pub fn into_act(self) -> T {
        self.act
    }
}

/// A decision that has been written to durable storage.
///
/// The signer and the PSK issuer take a `Recorded<Grant<…>>` and nothing else, so no credential
/// exists without a record that says it might.
#[derive(Debug)]
#[must_use]
pub struct Recorded<T>(T);

impl<T> Recorded<T> {
    /// Asserts that `decision` is durable. Called by the server's journal after it has synced; the
    /// `tidy` test checks that nobody else does.
    pub const fn assertion(decision: T) -> Self {
        Self(decision)
    }

    /// The decision, to act upon.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The decision, to look at.
    pub const fn as_inner(&self) -> &T {
        &self.0
    }
}

/// The act of signing one X.509-SVID.
#[derive(Clone, Debug)]
pub struct IssueX509 {
    /// What the certificate will say.
    pub contents: X509SvidContents,
    /// Its serial number. It is chosen before it is signed, so that the record has it, too.
    pub serial: SerialNumber,
    /// The key it is for, as DER SubjectPublicKeyInfo; possession was proved by a CSR.
    pub public_key: Vec<u8>,
    /// Who asked: an agent, or the operator.
    pub requester: Requester,
    /// The entry that entitles the subject; none for an agent's own SVID.
    pub entry: Option<EntryId>,
}

/// The act of signing one JWT-SVID.
#[derive(Clone, Debug)]
pub struct IssueJwt {
    /// What the token will say.
    pub contents: JwtSvidContents,
    /// Who asked: an agent, or the operator.
    pub requester: Requester,
    /// The entry that entitles the subject; none for what the operator mints.
    pub entry: Option<EntryId>,
}

/// The act of signing one WIT-SVID.
#[derive(Clone, Debug)]
pub struct IssueWit {
    /// What the token will say.
    pub contents: WitSvidContents,
    /// Who asked: an agent, or the operator.
    pub requester: Requester,
    /// The entry that entitles the subject; none for what the operator mints.
    pub entry: Option<EntryId>,
}

/// The act of signing one attestation result, for whoever wants to rely on it.
#[derive(Clone, Debug)]
pub struct IssueEar {
    /// What the token will say.
    pub contents: EarContents,
    /// Who asked.
    pub requester: Requester,
}

/// The act of signing the authority of a downstream server, which signs for our trust domain.
#[derive(Clone, Debug)]
pub struct IssueX509Ca {
    /// The identity of the downstream server.
    pub server: SpiffeId,
    /// The authority's key, as DER SubjectPublicKeyInfo; possession was proved by a CSR.
    pub public_key: Vec<u8>,
    /// How long it lasts at most.
    pub ttl: SvidTtl,
    /// The entry that makes the server a downstream one.
    pub entry: EntryId,
}

/// The act of minting one one-time PSK.
#[derive(Clone, Debug)]
pub struct IssuePsk {
    /// What the key is bound to.
    pub binding: PskBinding,
    /// The agent that asked on behalf of the client.
    pub requester: Requester,
}

/// On whose word something was done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requester {
    /// An agent, by its SVID.
    Agent(SpiffeId),
    /// The operator, over the admin socket, with this user id.
    Operator {
        /// The user id of the peer process.
        uid: u32,
    },
    /// An identity that an entry or the configuration lets administrate, by its SVID.
    Admin(SpiffeId),
    /// An identity that policies let speak of others, by its SVID.
    Peer(SpiffeId),
    /// The server itself.
    Server,
    /// Whoever presented this evidence to the server: a node that becomes an agent, or a program
    /// without an agent beside it.
    Evidence {
        /// The identity that the evidence earned.
        id: SpiffeId,
        /// The kind of evidence.
        kind: String,
        /// What keeps others from presenting it.
        bond: Bond,
        /// How far it is to be trusted; records of the first versions leave it out.
        #[serde(default)]
        tier: Tier,
    },
}

/// The act of spending one PSK, decided anew when it is redeemed: what was permitted at issue may
/// have been withdrawn since.
#[derive(Clone, Debug)]
pub struct RedeemPsk {
    /// What the key is bound to.
    pub binding: PskBinding,
    /// The agent that asked on behalf of the acceptor.
    pub requester: Requester,
    /// How the ClientHello proves possession of the key.
    pub proof: PskProof,
}

/// How whoever presents a PSK identity proves that the client holds the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PskProof {
    /// The binder over the ClientHello. The server checks it before it spends the key.
    Binder {
        /// The hash of the ClientHello up to its binders.
        transcript: TranscriptHash,
        /// What the ClientHello shows.
        binder: Binder,
    },
    /// Nothing but the name; for TLS stacks that only offer a callback by identity. A policy has to
    /// permit it for the pair.
    IdentityOnly,
}
