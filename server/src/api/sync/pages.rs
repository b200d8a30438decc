//! Updates in pages, each well below gRPC's 4 MiB, that are applied together.

use std::collections::VecDeque;
use std::sync::Arc;

use claviger_proto::claviger::agent::v1::{
    FederatedBundles, Standing, Standings, SubscribeResponse,
};
use prost::Message as _;

use crate::api::PAGE_BYTES;
use crate::registry::federation::Difference;
use crate::registry::subscribers::Update;
use crate::standings::Record;

/// The most identities in one response of which it says how they stand: of the longest names, two
/// megabytes.
const STANDINGS: usize = 1_000;

/// The most entries in one response: with the largest entries well below 4 MiB.
const PAGE: usize = 500;

pub(super) type Pages = VecDeque<SubscribeResponse>;

/// What an agent is told about bundles of other trust domains.
pub(super) struct Others {
    /// The agent forgets what it has.
    pub(super) snapshot: bool,
    pub(super) difference: Difference,
}

/// The entries of an update, on top of `empty`.
pub(super) fn of_entries(update: Update, empty: &SubscribeResponse) -> Pages {
    let items: Vec<_> = update.entries.into_iter().collect();
    let page = |items: &[_]| {
        let mut page = empty.clone();
        for (id, entry) in items {
            match entry {
                Some(entry) => page.upserts.push(crate::registry::Packed::to_wire(entry)),
                None => page.deletes.push(ToString::to_string(id)),
            }
        }
        page
    };
    items.chunks(PAGE).map(page).collect()
}

/// Bundles, on top of `empty`; a page at least for a snapshot, because no bundle is news too.
pub(super) fn of_bundles(others: Others, empty: &SubscribeResponse) -> Pages {
    let Others { snapshot, difference } = others;
    let deletes = difference.deletes.iter().map(ToString::to_string).collect();
    let mut pages = vec![FederatedBundles { snapshot, deletes, upserts: Vec::new() }];
    let mut bytes: usize = 0;
    for bundle in difference.upserts {
        let size = bundle.encoded_len();
        if PAGE_BYTES < bytes.saturating_add(size) {
            pages.push(FederatedBundles::default());
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        if let Some(page) = pages.last_mut() {
            page.upserts.push((*bundle).clone());
        }
    }
    pages.retain(|page| page.snapshot || !page.upserts.is_empty() || !page.deletes.is_empty());
    let response = |federated| SubscribeResponse { federated: Some(federated), ..empty.clone() };
    pages.into_iter().map(response).collect()
}

/// How identities stand up to change number `version`, on top of `empty`; a page at least, because the
/// number is news too.
pub(super) fn of_standings(
    records: &[Arc<Record>],
    version: u64,
    snapshot: bool,
    empty: &SubscribeResponse,
) -> Pages {
    let count = records.len().div_ceil(STANDINGS).max(1);
    let page = |at: usize| {
        let records = records.iter().skip(at.saturating_mul(STANDINGS)).take(STANDINGS);
        let standings = Standings {
            snapshot,
            upserts: records.map(|record| standing(record)).collect(),
            version,
            more: at.saturating_add(1) < count,
        };
        SubscribeResponse { standings: Some(standings), ..empty.clone() }
    };
    (0..count).map(page).collect()
}

/// How one identity stands.
pub(super) fn standing(record: &Record) -> Standing {
    Standing {
        spiffe_id: record.id.to_string(),
        risk: record.standing.risk.percent().into(),
        quarantined: record.standing.quarantined,
        changed_at: record.standing.changed_at.as_secs(),
        version: record.standing.version,
    }
}

/// Puts `more` behind `pages`; the two that meet become one if there is room.
pub(super) fn append(pages: &mut Pages, mut more: Pages) {
    if let (Some(last), Some(next)) = (pages.back_mut(), more.front_mut())
        && last.encoded_len().saturating_add(next.encoded_len()) <= PAGE_BYTES
    {
        last.federated = last.federated.take().or(next.federated.take());
        last.standings = last.standings.take().or(next.standings.take());
        more.pop_front();
    }
    pages.append(&mut more);
}

/// Says on each page but the last that more follow.
pub(super) fn close(pages: &mut Pages) {
    let last = pages.len().saturating_sub(1);
    for (at, page) in pages.iter_mut().enumerate() {
        page.more = at < last;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use claviger_proto::spire::types;
    use proptest::prelude::*;

    use super::*;

    fn bundle(name: usize, size: usize) -> Arc<types::Bundle> {
        let certificate = types::X509Certificate { asn1: vec![0; size].into(), tainted: false };
        Arc::new(types::Bundle {
            trust_domain: format!("t{name}"),
            x509_authorities: vec![certificate],
            ..types::Bundle::default()
        })
    }

    #[test]
    fn every_standing_arrives_once_and_one_page_at_least_comes() {
        use claviger_core::grant::Requester;
        use claviger_core::standing;

        let record = |version: u64| {
            let id = format!("spiffe://example.org/{version}/{}", "x".repeat(1_900));
            let standing = standing::Standing { version, ..standing::Standing::default() };
            Arc::new(Record {
                id: id.parse().unwrap(),
                standing,
                voided: 0,
                reason: "test".parse().unwrap(),
                requester: Requester::Server,
            })
        };
        for (count, want) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (2_500, 3)] {
            let records: Vec<_> = (1..=count).map(record).collect();
            let pages = of_standings(&records, count, true, &SubscribeResponse::default());
            assert_eq!(pages.len(), want, "{count}");
            assert!(pages.iter().all(|page| page.encoded_len() < 3 << 20));
            let pages: Vec<_> = pages.into_iter().filter_map(|page| page.standings).collect();
            let more: Vec<_> = pages.iter().map(|page| page.more).collect();
            assert!(more.iter().enumerate().all(|(at, more)| *more == (at + 1 < want)), "{more:?}");
            assert!(pages.iter().all(|page| page.snapshot && page.version == count));
            let versions = pages.iter().flat_map(|page| &page.upserts).map(|one| one.version);
            assert!(versions.eq(1..=count));
        }
    }

    proptest! {
        #[test]
        fn every_bundle_arrives_once_and_no_page_is_too_large(
            sizes in prop::collection::vec(1_usize..400_000, 0..30),
            gone in 0_usize..3,
            snapshot: bool,
            entries in 0_usize..PAGE_BYTES + (PAGE_BYTES >> 2),
        ) {
            let upserts = sizes.iter().enumerate().map(|(name, size)| bundle(name, *size));
            let deletes = (0..gone).map(|name| format!("gone{name}").parse().unwrap());
            let difference =
                Difference { upserts: upserts.collect(), deletes: deletes.collect() };
            let entries = types::Entry { hint: "x".repeat(entries), ..types::Entry::default() };
            let entries = SubscribeResponse { upserts: vec![entries], ..Default::default() };
            let mut pages = Pages::from([entries]);
            let others = Others { snapshot, difference };
            append(&mut pages, of_bundles(others, &SubscribeResponse::default()));
            close(&mut pages);

            let all: Vec<_> = pages.iter().filter_map(|page| page.federated.clone()).collect();
            let snapshots = all.iter().filter(|page| page.snapshot);
            prop_assert_eq!(snapshots.count(), usize::from(snapshot));
            prop_assert!(pages.iter().all(|page| page.encoded_len() < 3 << 20));
            let more: Vec<_> = pages.iter().map(|page| page.more).collect();
            let last = more.len().saturating_sub(1);
            prop_assert!(more.iter().enumerate().all(|(at, more)| *more == (at < last)));
            let (mut came, mut went) = (Vec::new(), 0);
            for page in all {
                came.extend(page.upserts.into_iter().map(|bundle| bundle.trust_domain));
                went += page.deletes.len();
            }
            let want: Vec<_> = (0..sizes.len()).map(|name| format!("t{name}")).collect();
            prop_assert_eq!((came, went), (want, gone));
        }
    }
}
