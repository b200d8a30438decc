//! ClientHellos made by hand, right and wrong.

use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;

pub(crate) const SUPPORTED_GROUPS: u16 = 10;
pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
pub(crate) const CERT_WITH_EXTERN_PSK: u16 = 33;
pub(crate) const PRE_SHARED_KEY: u16 = 41;
pub(crate) const EARLY_DATA: u16 = 42;
pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
pub(crate) const PSK_KEY_EXCHANGE_MODES: u16 = 45;
pub(crate) const KEY_SHARE: u16 = 51;

/// The parts of a ClientHello; change them and [`build`](Self::build).
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) version: [u8; 2],
    pub(crate) session_id: Vec<u8>,
    pub(crate) suites: Vec<u8>,
    pub(crate) compression: Vec<u8>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
    pub(crate) identities: Vec<Vec<u8>>,
    pub(crate) binders: Vec<Vec<u8>>,
    pub(crate) after_psk: Vec<(u16, Vec<u8>)>,
}

impl Sample {
    /// A hello that the parser accepts, without a key share.
    pub(crate) fn new(identity: WireIdentity) -> Self {
        Self {
            version: [3, 3],
            session_id: vec![7; 32],
            suites: vec![0x13, 0x02, 0x13, 0x01],
            compression: vec![0],
            extensions: vec![
                (SUPPORTED_VERSIONS, vec![2, 3, 4]),
                (PSK_KEY_EXCHANGE_MODES, vec![1, 1]),
            ],
            identities: vec![identity.to_string().into_bytes()],
            binders: vec![vec![0; 32]],
            after_psk: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, kind: u16, body: Vec<u8>) -> Self {
        self.extensions.push((kind, body));
        self
    }

    pub(crate) fn without(mut self, kind: u16) -> Self {
        self.extensions.retain(|(each, _)| *each != kind);
        self
    }

    /// The handshake message.
    pub(crate) fn build(&self) -> Vec<u8> {
        let identities = self
            .identities
            .iter()
            .flat_map(|identity| [vector(2, identity), vec![0; 4]].concat())
            .collect::<Vec<_>>();
        let binders = self.binders.iter().flat_map(|each| vector(1, each)).collect::<Vec<_>>();
        let psk = [vector(2, &identities), vector(2, &binders)].concat();
        let mut list = self.extensions.clone();
        if !self.identities.is_empty() {
            list.push((PRE_SHARED_KEY, psk));
        }
        list.extend(self.after_psk.clone());
        let list = list
            .iter()
            .flat_map(|(kind, body)| [kind.to_be_bytes().to_vec(), vector(2, body)].concat())
            .collect::<Vec<_>>();
        let body = [
            self.version.to_vec(),
            vec![9; 32],
            vector(1, &self.session_id),
            vector(2, &self.suites),
            vector(1, &self.compression),
            vector(2, &list),
        ]
        .concat();
        [vec![1], vector(3, &body)].concat()
    }

    /// The handshake message with the binder of `psk`, after the messages in `before`.
    pub(crate) fn bind(&self, psk: &Psk, before: &[u8]) -> Vec<u8> {
        let mut message = self.build();
        let at = message.len() - 32;
        let covered = [before, &message[..at - 3]].concat();
        message[at..].copy_from_slice(&binder::compute(psk, &sha256(&covered)));
        message
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// `body` after its length in `width` bytes.
pub(crate) fn vector(width: usize, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[4 - width..], body].concat()
}

/// `message` in handshake records of at most `size` bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|each| [vec![22, 3, 1], vector(2, each)].concat()).collect()
}
