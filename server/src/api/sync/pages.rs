//! Updates in pages, each well below gRPC's 4 MiB, that are applied together.

use std::collections::VecDeque;
use std::sync::Arc;

use claviger_proto::claviger::agent::v1::{FederatedBundles, Standing, SubscribeResponse};
use claviger_proto::convert::standings;
use prost::Message as _;

use crate::api::PAGE_BYTES;
use crate::registry::federation::Difference;
use crate::registry::subscribers::Update;
use crate::standings::Record;

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
    let upserts = records.iter().map(|record| standing(record)).collect();
    let pages = standings::pages(upserts, version, snapshot).into_iter();
    let page = |page| SubscribeResponse { standings: Some(page), ..empty.clone() };
    pages.map(page).collect()
}

/// How one identity stands.
pub(super) fn standing(record: &Record) -> Standing {
    standings::message(&record.id, &record.standing)
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
