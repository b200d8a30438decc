//! What outlives a restart, for an agent that finds no server.

use std::sync::Arc;

use claviger_core::entry::Entry;
use claviger_core::svid::jwt::Audience;
use tokio::sync::watch;

use super::{Key, Token, Tokens};

/// A JWT-SVID that may be given out again.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The entry it was made for, as that was then.
    pub(crate) entry: Arc<Entry>,
    /// For whom it is.
    pub(crate) audience: Audience,
    /// The token.
    pub(crate) token: Arc<Token>,
}

impl Tokens {
    /// All that may be given out again.
    pub(crate) fn remembered(&self) -> Vec<Remembered> {
        let all = self.cache.all().into_iter();
        all.map(|(Key { entry, audience }, token)| Remembered { entry, audience, token }).collect()
    }

    /// Rings when that changes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.cache.changes()
    }

    /// Takes in what was remembered before a restart. Each token is given out while there is an entry
    /// like the one it was made for; the server is asked for another first.
    pub(crate) fn restore(&self, tokens: Vec<Remembered>) {
        for Remembered { entry, audience, token } in tokens {
            self.cache.restore(&Key { entry, audience }, token);
        }
    }
}
