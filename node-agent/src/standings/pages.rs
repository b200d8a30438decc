//! From the server's messages to records, and from records to messages for others.

use claviger_core::id::SpiffeId;
use claviger_core::standing::{Risk, Standing};
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_proto::convert::standings;
use tracing::error;

use super::{Changes, MAX};

/// What the server says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Update {
    /// Whether the records are all there is.
    pub(crate) all: bool,
    /// How identities stand from now on.
    pub(crate) records: Vec<(SpiffeId, Standing)>,
    /// The number of the newest change.
    pub(crate) version: u64,
}

/// Collects the pages of what is applied together.
#[derive(Debug, Default)]
pub(crate) struct Pages(Option<Update>);

impl Pages {
    /// Takes in one page; the update, if it is complete.
    ///
    /// # Errors
    ///
    /// [`TooManyStandings`] if there is no end of it.
    pub(crate) fn push(
        &mut self,
        page: wire::Standings,
    ) -> Result<Option<Update>, TooManyStandings> {
        let wire::Standings { snapshot, upserts, version, more } = page;
        let mut update = self.0.take().unwrap_or_default();
        if MAX < update.records.len().saturating_add(upserts.len()) {
            return Err(TooManyStandings);
        }
        update.all |= snapshot;
        update.version = update.version.max(version);
        update.records.extend(upserts.into_iter().filter_map(record));
        if more {
            self.0 = Some(update);
            return Ok(None);
        }
        Ok(Some(update))
    }
}

/// A record that is not understood puts its identity in quarantine: whatever it says, the server found
/// it worth telling.
fn record(wire: wire::Standing) -> Option<(SpiffeId, Standing)> {
    let (id, version) = (wire.spiffe_id.parse(), wire.version);
    let changed_at = UnixTime::from_secs(wire.changed_at);
    match (standings::record(wire), id) {
        (Ok(record), _) => Some(record),
        (Err(error), Ok(id)) => {
            error!(%id, version, %error, "not understood how an identity stands: as in quarantine");
            Some((id, Standing { risk: Risk::MAX, quarantined: true, changed_at, version }))
        }
        (Err(error), Err(_nobody)) => {
            error!(version, %error, "the server says how somebody stands, and not who");
            None
        }
    }
}

impl Changes {
    /// The same as messages; at least one.
    pub(crate) fn into_pages(self) -> Vec<wire::Standings> {
        let Self { edition, all, records } = self;
        let upserts = records.iter().map(|(id, standing)| standings::message(id, standing));
        standings::pages(upserts.collect(), edition.version, all)
    }
}

/// The server speaks of more identities than anybody can keep in mind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the server says how more than {MAX} identities stand")]
pub(crate) struct TooManyStandings;
