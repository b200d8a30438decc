//! An SVID that can be given out, or could be made.

use std::sync::Arc;

use claviger_core::time::UnixTime;

use super::interest::Interest;
use super::kept::{Kept, Lasting};

/// An SVID of an identity, as it is at one moment.
#[derive(Debug)]
pub(crate) struct Offer<S> {
    svid: Option<Arc<S>>,
    interest: Option<Arc<Interest>>,
}

impl<S: Lasting> Offer<S> {
    pub(super) fn of(kept: &Kept<S>) -> Self {
        Self { svid: kept.svid().cloned(), interest: kept.interest().cloned() }
    }

    /// One that is there, and wanted by nobody.
    #[cfg(test)]
    pub(super) fn given(svid: S) -> Self {
        Self { svid: Some(Arc::new(svid)), interest: None }
    }

    /// It, if it is there and valid at `now`. Whoever asks wants it: if it is made on demand only,
    /// it will be made, and renewed.
    pub(crate) fn want(&self, now: UnixTime) -> Option<&Arc<S>> {
        if let Some(interest) = &self.interest {
            interest.show();
        }
        self.peek(now)
    }

    /// The same, out of mere curiosity.
    pub(crate) fn peek(&self, now: UnixTime) -> Option<&Arc<S>> {
        self.svid.as_ref().filter(|svid| svid.validity().contains(now))
    }
}

impl<S> Clone for Offer<S> {
    fn clone(&self) -> Self {
        Self { svid: self.svid.clone(), interest: self.interest.clone() }
    }
}

impl<S> Default for Offer<S> {
    fn default() -> Self {
        Self { svid: None, interest: None }
    }
}
