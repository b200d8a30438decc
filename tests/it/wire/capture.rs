//! Bytes that went by, and how they are read without any key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::secret::Secret;
use claviger_core::time::UnixTime;
use claviger_shim::Issued;
use claviger_shim::redeem::{Offer, Redeem, RedeemError, Redeemed};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A broker that has one key.
#[derive(Clone, Debug)]
pub(crate) struct OneKey {
    identity: WireIdentity,
    key: [u8; 32],
    spent: Arc<AtomicBool>,
}

impl OneKey {
    pub(crate) fn new() -> Self {
        let (mut identity, mut key) = ([0; 16], [0; 32]);
        rand::fill(&mut identity).unwrap();
        rand::fill(&mut key).unwrap();
        Self { identity: WireIdentity::from_bytes(identity), key, spent: Arc::default() }
    }

    pub(crate) fn identity(&self) -> WireIdentity {
        self.identity
    }

    pub(crate) fn issued(&self) -> Issued {
        Issued {
            identity: self.identity,
            psk: self.psk(),
            client: "spiffe://example.org/ledger-client".parse().unwrap(),
            server: "spiffe://example.org/ledger-server".parse().unwrap(),
            purpose: "settle".parse().unwrap(),
            not_after: UnixTime::from_secs(9),
            run: None,
        }
    }

    fn psk(&self) -> Psk {
        Psk(Secret::copy_from(&self.key).unwrap())
    }
}

#[async_trait]
impl Redeem for OneKey {
    async fn redeem(&self, offer: &Offer) -> Result<Redeemed, RedeemError> {
        let good = offer.identity == self.identity
            && binder::verify(&self.psk(), &offer.transcript, &offer.binder);
        if !good || self.spent.swap(true, Ordering::SeqCst) {
            return Err(RedeemError::Refused);
        }
        let Issued { psk, client, server, purpose, not_after, run, .. } = self.issued();
        Ok(Redeemed { psk, client, server, purpose, not_after, run })
    }
}

/// Hands on what comes `from` one end `to` the other, to the end; all of it.
pub(crate) async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Vec<u8> {
    let mut seen = Vec::new();
    loop {
        let mut some = [0; 4096];
        let length = from.read(&mut some).await.unwrap();
        if length == 0 {
            // The other end may be gone already.
            let _gone = to.shutdown().await;
            return seen;
        }
        seen.extend_from_slice(&some[..length]);
        let _gone = to.write_all(&some[..length]).await;
    }
}

/// A record of TLS (RFC 8446 §5.1).
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) kind: u8,
    pub(crate) body: &'a [u8],
}

/// All records of one direction.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let [kind, 3, 1 | 3, rest @ ..] = bytes {
        let (body, rest) = list16(rest);
        records.push(Record { kind: *kind, body });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "something that is no record");
    records
}

/// Extensions in their order: number and body.
pub(crate) type Extensions<'a> = Vec<(u16, &'a [u8])>;

/// A ClientHello or a ServerHello (§4.1.2, §4.1.3).
#[derive(Debug)]
pub(crate) struct Hello<'a> {
    pub(crate) random: &'a [u8],
    pub(crate) session_id: &'a [u8],
    pub(crate) extensions: Extensions<'a>,
}

impl<'a> Hello<'a> {
    pub(crate) fn client(message: &'a [u8]) -> Self {
        Self::read(message, 1, |rest| {
            let (_suites, rest) = list16(rest);
            let (_compression, rest) = list8(rest);
            rest
        })
    }

    pub(crate) fn server(message: &'a [u8]) -> Self {
        Self::read(message, 2, |rest| &rest[3..]) // suite and compression
    }

    /// `skip` leaves out what is between the session and the extensions.
    fn read(message: &'a [u8], kind: u8, skip: impl Fn(&'a [u8]) -> &'a [u8]) -> Self {
        assert_eq!(message[..2], [kind, 0]);
        let (body, rest) = list16(&message[2..]);
        assert!(rest.is_empty(), "the hello is alone in its record");
        assert_eq!(body[..2], [3, 3]);
        let (random, rest) = body[2..].split_at(32);
        let (session_id, rest) = list8(rest);
        let (mut list, rest) = list16(skip(rest));
        assert!(rest.is_empty());
        let mut extensions = Vec::new();
        while let [high, low, rest @ ..] = list {
            let (body, rest) = list16(rest);
            extensions.push((u16::from_be_bytes([*high, *low]), body));
            list = rest;
        }
        Self { random, session_id, extensions }
    }
}

/// A vector with a length of one byte, and what is behind it.
pub(crate) fn list8(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes[1..].split_at(bytes[0].into())
}

/// A vector with a length of two bytes, and what is behind it.
pub(crate) fn list16(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes[2..].split_at(u16::from_be_bytes([bytes[0], bytes[1]]).into())
}
