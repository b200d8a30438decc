//! A record, and the proof that it is in a log, in one file that needs no server to be checked
//! ([tlog-proof](https://c2sp.org/tlog-proof)). The record itself is the `extra` data of the format.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{OpenError, SignedCheckpoint, decimal, hash};
use super::note::{MAX_BYTES, Note, NoteError, VerifierKey};
use super::proof::{MAX_HASHES, WrongProof, verify_inclusion};
use super::tree::{Sequence, TreeHash};

/// The first line.
const VERSION: &str = "c2sp.org/tlog-proof@v1";

/// The longest receipt that is read, in bytes: a long record, and a note with many signatures.
const MAX_RECEIPT: usize = MAX_BYTES + (2 << 20);

/// A record with its proof. Nothing of it is believed before [`Receipt::verify`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// What the record says: a [`super::Body`] as JSON, byte for byte.
    pub body: Vec<u8>,
    /// The record's number.
    pub sequence: Sequence,
    /// From the record's sibling up to the children of the root.
    pub path: Vec<TreeHash>,
    /// The checkpoint under whose root it is.
    pub checkpoint: Note,
}

/// A receipt is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReceiptError {
    /// It is none.
    #[error("it is no proof of a record: it should begin with `{VERSION}` and hold the record")]
    Malformed,
    /// Its checkpoint is not believed.
    #[error("its checkpoint is not believed")]
    Checkpoint(#[from] OpenError),
    /// A witness did not sign it.
    #[error("its checkpoint is not witnessed")]
    Witness(#[source] NoteError),
    /// The record is not where the proof says it is, or is another.
    #[error("the record is not in the log")]
    Proof(#[from] WrongProof),
}

impl Receipt {
    /// Checks that the record is in the log that `key` signs for, and that each of the `witnesses`
    /// has signed that it had seen the log go as far.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`].
    pub fn verify(
        &self,
        key: &VerifierKey,
        witnesses: &[VerifierKey],
    ) -> Result<SignedCheckpoint, ReceiptError> {
        let signed = SignedCheckpoint::open(&self.checkpoint.to_string(), key)?;
        for witness in witnesses {
            self.checkpoint.verify(witness).map_err(ReceiptError::Witness)?;
        }
        let index = self.sequence.checked_sub(1).ok_or(WrongProof)?;
        let leaf = TreeHash::of_leaf(&self.body);
        verify_inclusion(index, leaf, &self.path, &signed.checkpoint().head)?;
        Ok(signed)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{VERSION}\nextra {}", STANDARD.encode(&self.body))?;
        writeln!(f, "index {}", self.sequence.saturating_sub(1))?;
        for hash in &self.path {
            writeln!(f, "{}", STANDARD.encode(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        let parse = || {
            let (proof, note) = text.split_once("\n\n")?;
            let mut lines = proof.split('\n');
            if text.len() > MAX_RECEIPT || lines.next() != Some(VERSION) {
                return None;
            }
            let body = STANDARD.decode(lines.next()?.strip_prefix("extra ")?).ok()?;
            let index = decimal(lines.next()?.strip_prefix("index ")?)?;
            let path: Option<Vec<_>> = lines.take(MAX_HASHES.saturating_add(1)).map(hash).collect();
            let path = path.filter(|path| path.len() <= MAX_HASHES)?;
            let (sequence, checkpoint) = (index.checked_add(1)?, note.parse().ok()?);
            Some(Self { body, sequence, path, checkpoint })
        };
        parse().ok_or(ReceiptError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;

    use super::*;
    use crate::audit::note::{Kind, SigningKey};
    use crate::audit::{Checkpoint, Edge};
    use crate::time::UnixTime;

    fn key(name: &str, kind: Kind) -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
        SigningKey::from_pkcs8(name, kind, pkcs8.as_ref()).unwrap()
    }

    /// The second of three records.
    fn receipt(key: &SigningKey) -> Receipt {
        let leaves =
            ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"].map(|b| TreeHash::of_leaf(b.as_bytes()));
        let head = leaves.into_iter().collect::<Edge>().head();
        let (trust_domain, time) = ("example.org".parse().unwrap(), UnixTime::from_secs(7));
        let signed = SignedCheckpoint::sign(Checkpoint { trust_domain, epoch: 1, head, time }, key);
        Receipt {
            body: b"{\"b\":2}".to_vec(),
            sequence: 2,
            path: vec![leaves[0], leaves[2]],
            checkpoint: signed.note().clone(),
        }
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let key = key("example.org/audit", Kind::Author);
        let receipt = receipt(&key);
        let text = receipt.to_string();
        assert!(
            text.starts_with("c2sp.org/tlog-proof@v1\nextra eyJiIjoyfQ==\nindex 1\n"),
            "{text}"
        );
        let read: Receipt = text.parse().unwrap();
        assert_eq!(read, receipt);
        assert_eq!(read.verify(key.public(), &[]).unwrap().checkpoint().head.size, 3);
        for (from, to) in [("@v1", "@v2"), ("extra ", ""), ("index 1", "index 01"), ("\n\n", "\n")]
        {
            let wrong = text.replacen(from, to, 1).parse::<Receipt>();
            assert_eq!(wrong, Err(ReceiptError::Malformed), "{from}");
        }
    }

    #[test]
    fn what_the_log_does_not_hold_is_refused() {
        let key = key("example.org/audit", Kind::Author);
        let changes: [fn(&mut Receipt); 4] = [
            |receipt| receipt.body[1] ^= 1,
            |receipt| receipt.sequence = 3,
            |receipt| receipt.sequence = 0,
            |receipt| receipt.path.truncate(1),
        ];
        for change in changes {
            let mut receipt = receipt(&key);
            change(&mut receipt);
            let refused = receipt.verify(key.public(), &[]).unwrap_err();
            assert_eq!(refused, ReceiptError::Proof(WrongProof));
        }
    }

    #[test]
    fn witnesses_that_are_asked_for_must_have_signed() {
        let key_of_log = key("example.org/audit", Kind::Author);
        let (one, other) = (key("w.example/1", Kind::Witness), key("w.example/2", Kind::Witness));
        let mut receipt = receipt(&key_of_log);
        receipt.checkpoint.add(one.sign(receipt.checkpoint.text(), UnixTime::from_secs(8)));
        let verify = |keys: &[VerifierKey]| receipt.verify(key_of_log.public(), keys).map(drop);
        assert_eq!(verify(&[one.public().clone()]), Ok(()));
        let refused = verify(&[one.public().clone(), other.public().clone()]).unwrap_err();
        assert!(matches!(refused, ReceiptError::Witness(_)), "{refused}");
    }
}
