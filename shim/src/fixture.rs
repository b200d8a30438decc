//! A broker in memory, and connections to try it on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use claviger_core::id::SpiffeId;
use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskTtl, Purpose};
use claviger_core::secret::Secret;
use claviger_core::time::UnixTime;

use crate::broker::IssueError;
use crate::connector::Issued;
use crate::keys::Keys;
use crate::redeem::{Offer, Redeem, RedeemError, Redeemed};

pub(crate) const CLIENT: &str = "spiffe://example.org/client";
pub(crate) const SERVER: &str = "spiffe://example.org/server";

/// Verifies binders and lets each key be redeemed once, as the real one does.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeBroker {
    /// Whether each key is spent.
    keys: Arc<Mutex<HashMap<WireIdentity, bool>>>,
    /// Every offer that came.
    offers: Arc<Mutex<Vec<Offer>>>,
}

pub(crate) fn identity(number: u8) -> WireIdentity {
    WireIdentity::from_bytes([number; 16])
}

pub(crate) fn psk(number: u8) -> Psk {
    Psk(Secret::copy_from(&[number; 32]).unwrap())
}

/// What a client would get, known to the broker or not.
pub(crate) fn forged(number: u8) -> Issued {
    Issued {
        identity: identity(number),
        psk: psk(number),
        client: CLIENT.parse().unwrap(),
        server: SERVER.parse().unwrap(),
        purpose: "test".parse().unwrap(),
        not_after: UnixTime::from_secs(2_000_000_000),
        run: None,
    }
}

impl FakeBroker {
    pub(crate) fn issue(&self, number: u8) -> Issued {
        assert_eq!(self.keys.lock().unwrap().insert(identity(number), false), None);
        forged(number)
    }

    /// How many keys there ever were.
    pub(crate) fn issued(&self) -> usize {
        self.keys.lock().unwrap().len()
    }

    pub(crate) fn is_spent(&self, number: u8) -> bool {
        self.keys.lock().unwrap()[&identity(number)]
    }

    pub(crate) fn offers(&self) -> Vec<Offer> {
        self.offers.lock().unwrap().clone()
    }
}

#[async_trait]
impl Redeem for FakeBroker {
    async fn redeem(&self, offer: &Offer) -> Result<Redeemed, RedeemError> {
        self.offers.lock().unwrap().push(offer.clone());
        let mut keys = self.keys.lock().unwrap();
        let spent = keys.get_mut(&offer.identity).ok_or(RedeemError::Refused)?;
        let number = offer.identity.as_bytes()[0];
        if *spent || !binder::verify(&psk(number), &offer.transcript, &offer.binder) {
            return Err(RedeemError::Refused);
        }
        *spent = true;
        let Issued { psk, client, server, purpose, not_after, run, .. } = forged(number);
        Ok(Redeemed { psk, client, server, purpose, not_after, run })
    }
}

#[async_trait]
impl Keys for FakeBroker {
    async fn issue(&self, _: &SpiffeId, _: &Purpose, _: PskTtl) -> Result<Issued, IssueError> {
        // A key of zeros is none.
        let number = u8::try_from(self.issued() + 1).unwrap();
        Ok(self.issue(number))
    }
}
