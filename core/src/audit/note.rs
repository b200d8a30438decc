//! Signed notes ([signed-note](https://c2sp.org/signed-note)): text for people and programs, under it
//! one line for each signature. Ed25519, and the cosignatures of witnesses
//! ([tlog-cosignature](https://c2sp.org/tlog-cosignature), `cosignature/v1`).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::UnixTime;

/// The longest note that is read, in bytes. The specification wants room for 16 signatures of nearly
/// 5 kB each.
pub const MAX_BYTES: usize = 256 << 10;

/// The most signatures of a note.
const MAX_SIGNATURES: usize = 32;

/// What begins a signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// What a key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The text, as who wrote it.
    Author,
    /// That a log's checkpoint continues all that were seen before, and when: as a witness.
    Witness,
}

impl Kind {
    /// The signature type of the specification.
    const fn byte(self) -> u8 {
        match self {
            Self::Author => 0x01,
            Self::Witness => 0x04,
        }
    }
}

/// A public key and the name of who has it: `example.org/audit+1a2b3c4d+AQ…`, what the specification
/// calls a verifier key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    kind: Kind,
    key: [u8; 32],
}

impl VerifierKey {
    /// Who has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What tells the keys of one name apart.
    fn id(&self) -> [u8; 4] {
        let kind = [b'\n', self.kind.byte()];
        let hash = digest(&SHA256, &[self.name.as_bytes(), &kind, &self.key].concat());
        hash.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// The time in a witness's signature on `text`, or none in an author's.
    fn verify(&self, text: &str, signature: &[u8]) -> Result<Option<UnixTime>, NoteError> {
        let forged = || NoteError::Forged { name: self.name.clone() };
        let (message, signature, time) = match self.kind {
            Kind::Author => (text.to_owned(), signature, None),
            Kind::Witness => {
                let (time, signature) = signature.split_first_chunk().ok_or_else(forged)?;
                let time = UnixTime::from_secs(u64::from_be_bytes(*time));
                (witnessed(text, time), signature, Some(time))
            }
        };
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        key.verify(message.as_bytes(), signature).map_err(|_unspecified| forged())?;
        Ok(time)
    }
}

/// What a witness signs of `text`.
fn witnessed(text: &str, time: UnixTime) -> String {
    format!("cosignature/v1\ntime {}\n{text}", time.as_secs())
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[self.kind.byte()][..], &self.key].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id()))
    }
}

/// Text that is no verifier key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a verifier key is NAME+ID+KEY, of Ed25519, as `claviger audit checkpoint` shows it")]
pub struct ParseKeyError;

impl FromStr for VerifierKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let (name, rest) = text.split_once('+').ok_or(ParseKeyError)?;
        let (id, key) = rest.split_once('+').ok_or(ParseKeyError)?;
        let key = STANDARD.decode(key).map_err(|_not_base64| ParseKeyError)?;
        let (kind, key) = key.split_first().ok_or(ParseKeyError)?;
        let kinds = [Kind::Author, Kind::Witness];
        let kind = kinds.into_iter().find(|known| known.byte() == *kind).ok_or(ParseKeyError)?;
        let key = key.try_into().map_err(|_length| ParseKeyError)?;
        let parsed = Self { name: name.to_owned(), kind, key };
        let is_right = is_name(name) && hex::encode(parsed.id()) == id;
        if is_right { Ok(parsed) } else { Err(ParseKeyError) }
    }
}

impl Serialize for VerifierKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifierKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Whether a key may have this name.
fn is_name(name: &str) -> bool {
    let wrong = |c: char| c == '+' || c.is_whitespace() || c.is_control();
    !name.is_empty() && !name.contains(wrong)
}

/// A key that signs notes.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifierKey,
}

/// A key that can't be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not an Ed25519 key in PKCS#8, or its name has a space or a plus sign in it")]
pub struct WrongKey;

impl SigningKey {
    /// The key in `pkcs8`, which belongs to `name`.
    ///
    /// # Errors
    ///
    /// [`WrongKey`].
    pub fn from_pkcs8(name: &str, kind: Kind, pkcs8: &[u8]) -> Result<Self, WrongKey> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_rejected| WrongKey)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_length| WrongKey)?;
        let public = VerifierKey { name: name.to_owned(), kind, key };
        if is_name(name) { Ok(Self { pair, public }) } else { Err(WrongKey) }
    }

    /// What others verify its signatures with.
    #[must_use]
    pub const fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// A signature on `text`, made at `time`; which only a witness's signature says.
    #[must_use]
    pub fn sign(&self, text: &str, time: UnixTime) -> Signature {
        let bytes = match self.public.kind {
            Kind::Author => self.pair.sign(text.as_bytes()).as_ref().to_vec(),
            Kind::Witness => {
                let signature = self.pair.sign(witnessed(text, time).as_bytes());
                [&time.as_secs().to_be_bytes()[..], signature.as_ref()].concat()
            }
        };
        Signature { name: self.public.name.clone(), id: self.public.id(), bytes }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// One line under a note. What it says is unknown until it is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Signature {
    /// The signature that `line`, without its end, says.
    fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        let is_some = is_name(name) && !bytes.is_empty();
        is_some.then(|| Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }

    /// The signatures that `lines` say, as a witness answers; lines are few and end with a newline.
    ///
    /// # Errors
    ///
    /// [`NoteError::Malformed`].
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, NoteError> {
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        let signatures: Option<Vec<_>> =
            lines.split('\n').take(MAX_SIGNATURES.saturating_add(1)).map(Self::parse).collect();
        let few = |signatures: &Vec<Self>| signatures.len() <= MAX_SIGNATURES;
        signatures.filter(few).ok_or(NoteError::Malformed)
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

/// The line, without its end.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = STANDARD.encode([&self.id[..], &self.bytes].concat());
        write!(f, "{DASH}{} {bytes}", self.name)
    }
}

/// Text with signatures, which are believed only by [`Note::verify`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// A note is not what it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// It is no note.
    #[error("it is no signed note")]
    Malformed,
    /// It has no signature by the key.
    #[error("it is not signed with the key of `{name}`")]
    NotSigned {
        /// Whose key.
        name: String,
    },
    /// It has a signature that names the key and is not by it.
    #[error("its signature in the name of `{name}` is wrong")]
    Forged {
        /// Whose key.
        name: String,
    },
}

impl Note {
    /// `text`, which ends with a newline, signed by `signature`.
    #[must_use]
    pub fn new(text: String, signature: Signature) -> Self {
        Self { text, signatures: vec![signature] }
    }

    /// The text, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds the signature of somebody else, in the place of one by the same key. More than a note
    /// may have are left out.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|old| (&old.name, old.id) != (&signature.name, signature.id));
        if self.signatures.len() < MAX_SIGNATURES {
            self.signatures.push(signature);
        }
    }

    /// The signatures by `key`, verified or not.
    pub fn by<'a>(&'a self, key: &'a VerifierKey) -> impl Iterator<Item = &'a Signature> {
        self.signatures.iter().filter(|signature| signature.is_by(key))
    }

    /// Checks that `key` signed the text; when, if it is a witness's.
    ///
    /// # Errors
    ///
    /// [`NoteError::NotSigned`] and [`NoteError::Forged`].
    pub fn verify(&self, key: &VerifierKey) -> Result<Option<UnixTime>, NoteError> {
        let mut verified = Err(NoteError::NotSigned { name: key.name.clone() });
        for signature in self.by(key) {
            verified = Ok(key.verify(&self.text, &signature.bytes)?);
        }
        verified
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        let unprintable = |c: char| c < ' ' && c != '\n';
        if note.len() > MAX_BYTES || note.contains(unprintable) {
            return Err(NoteError::Malformed);
        }
        let (before, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
        let signatures = Signature::parse_lines(lines)?;
        Ok(Self { text: format!("{before}\n"), signatures })
    }
}

#[cfg(test)]
mod tests;
