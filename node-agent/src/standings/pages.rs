//! From the server's messages to records, and from records to messages for others.

use claviger_core::id::SpiffeId;
use claviger_core::standing::{Risk, Standing};
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1 as wire;
use tracing::error;

use super::{Changes, MAX};

/// The most records in one message: of the longest names, it has two megabytes.
const PAGE: usize = 1_000;

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
    let wire::Standing { spiffe_id, risk, quarantined, changed_at, version } = wire;
    let id: SpiffeId = match spiffe_id.parse() {
        Ok(id) => id,
        Err(error) => {
            error!(version, %error, "the server says how somebody stands, and not who");
            return None;
        }
    };
    let changed_at = UnixTime::from_secs(changed_at);
    let risk = u8::try_from(risk).ok().and_then(|percent| Risk::try_from(percent).ok());
    let understood = risk.is_some() && version != 0;
    if !understood {
        error!(%id, version, "how an identity stands is not understood; it counts as quarantined");
    }
    let (risk, quarantined) = (risk.unwrap_or(Risk::MAX), quarantined || !understood);
    Some((id, Standing { risk, quarantined, changed_at, version }))
}

impl Changes {
    /// The same as messages; at least one.
    pub(crate) fn into_pages(self) -> Vec<wire::Standings> {
        let Self { edition, all, records } = self;
        let one = |records: &[(SpiffeId, Standing)]| wire::Standings {
            snapshot: all,
            upserts: records.iter().map(to_wire).collect(),
            version: edition.version,
            more: true,
        };
        let mut pages: Vec<_> = records.chunks(PAGE).map(one).collect();
        if pages.is_empty() {
            pages.push(one(&[]));
        }
        if let Some(last) = pages.last_mut() {
            last.more = false;
        }
        pages
    }
}

fn to_wire((id, standing): &(SpiffeId, Standing)) -> wire::Standing {
    wire::Standing {
        spiffe_id: id.to_string(),
        risk: standing.risk.percent().into(),
        quarantined: standing.quarantined,
        changed_at: standing.changed_at.as_secs(),
        version: standing.version,
    }
}

/// The server speaks of more identities than anybody can keep in mind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the server says how more than {MAX} identities stand")]
pub(crate) struct TooManyStandings;
