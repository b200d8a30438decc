//! How identities stand.

use claviger_core::id::SpiffeId;
use claviger_core::standing::{Risk, Standing};
use claviger_core::time::UnixTime;

use super::{FieldError, Problem};
use crate::claviger::agent::v1 as wire;

/// The most records in one message: of the longest names, it has two megabytes.
const PAGE: usize = 1_000;

/// Who stands how.
///
/// # Errors
///
/// [`FieldError`] if it is said of nobody, of no risk there is, or by no numbered change.
pub fn record(wire: wire::Standing) -> Result<(SpiffeId, Standing), FieldError> {
    let wire::Standing { spiffe_id, risk, quarantined, changed_at, version } = wire;
    let id = spiffe_id.parse().map_err(|error| FieldError::new("spiffe_id", Problem::Id(error)))?;
    let percent = u8::try_from(risk).unwrap_or(u8::MAX);
    let risk = Risk::try_from(percent).map_err(|error| FieldError::new("risk", error))?;
    if version == 0 {
        return Err(FieldError::new("version", Problem::Missing));
    }
    let changed_at = UnixTime::from_secs(changed_at);
    Ok((id, Standing { risk, quarantined, changed_at, version }))
}

/// The message that says how `id` stands.
#[must_use]
pub fn message(id: &SpiffeId, standing: &Standing) -> wire::Standing {
    wire::Standing {
        spiffe_id: id.to_string(),
        risk: standing.risk.percent().into(),
        quarantined: standing.quarantined,
        changed_at: standing.changed_at.as_secs(),
        version: standing.version,
    }
}

/// The messages that say `upserts`, which is all up to change number `version` if it is a `snapshot`;
/// at least one, because the number is news too.
#[must_use]
pub fn pages(upserts: Vec<wire::Standing>, version: u64, snapshot: bool) -> Vec<wire::Standings> {
    let mut rest = upserts.into_iter();
    let mut pages = Vec::new();
    loop {
        let upserts = rest.by_ref().take(PAGE).collect();
        let more = rest.len() != 0;
        pages.push(wire::Standings { snapshot, upserts, version, more });
        if !more {
            return pages;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn sound() -> wire::Standing {
        let spiffe_id = "spiffe://example.org/web".to_owned();
        wire::Standing { spiffe_id, risk: 40, quarantined: true, changed_at: 1_000, version: 7 }
    }

    #[test]
    fn how_somebody_stands_comes_back_as_it_went() {
        let (id, standing) = record(sound()).unwrap();
        assert_eq!(standing.risk.percent(), 40);
        assert_eq!(message(&id, &standing), sound());
    }

    #[test]
    fn what_says_nothing_of_anybody_is_refused() {
        let refuses = |wire: wire::Standing, message: &str| {
            assert_eq!(record(wire).unwrap_err().to_string(), message);
        };
        let risk = "risk: a risk is a whole number of percent, from 0 to 100";
        refuses(wire::Standing { risk: 101, ..sound() }, risk);
        refuses(wire::Standing { risk: 256, ..sound() }, risk);
        refuses(wire::Standing { version: 0, ..sound() }, "version: is missing");
        let error = record(wire::Standing { spiffe_id: String::new(), ..sound() }).unwrap_err();
        assert_eq!(error.field, "spiffe_id");
    }

    #[test]
    fn every_record_is_on_one_page_and_there_is_one_at_least() {
        let spiffe_id = format!("spiffe://example.org/{}", "x".repeat(2_000));
        let upsert = |version| wire::Standing { version, spiffe_id: spiffe_id.clone(), ..sound() };
        for (count, want) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (2_500, 3)] {
            let pages = pages((1..=count).map(upsert).collect(), count, true);
            assert_eq!(pages.len(), want, "{count}");
            assert!(pages.iter().all(|page| page.encoded_len() < 3 << 20));
            assert!(pages.iter().all(|page| page.snapshot && page.version == count));
            assert!(pages.iter().enumerate().all(|(at, page)| page.more == (at + 1 < want)));
            let versions = pages.iter().flat_map(|page| &page.upserts).map(|one| one.version);
            assert!(versions.eq(1..=count));
        }
    }
}
