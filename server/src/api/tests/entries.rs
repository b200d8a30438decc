//! Registration, as the operator does it and as SPIRE's agents read it.

use claviger_proto::spire::server::entry::v1::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest,
    GetEntryRequest, ListEntriesRequest, SyncAuthorizedEntriesRequest, batch_create_entry_response,
    count_entries_request, list_entries_request,
};
use claviger_proto::spire::types::{self, EntryMask, selector_match::MatchBehavior};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::world::{World, entries, entry, refused, world};

fn parent() -> claviger_core::id::SpiffeId {
    World::domain().join("/spire/agent/x").unwrap()
}

fn numbered(count: usize) -> Vec<types::Entry> {
    let one = |n| entry(&format!("e{n:04}"), &parent(), "/web", &format!("unix:uid:{n}"));
    (0..count).map(one).collect()
}

async fn create(world: &World, entry: types::Entry) -> batch_create_entry_response::Result {
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let mut client = entries(&world.operator());
    client.batch_create_entry(request).await.unwrap().into_inner().results.remove(0)
}

fn code(status: Option<types::Status>) -> Code {
    status.unwrap().code.into()
}

#[tokio::test]
async fn an_entry_is_created_once() {
    let world = world().await;
    let wanted = types::Entry { id: String::new(), ..entry("e", &parent(), "/web", "unix:uid:1") };
    let created = create(&world, wanted.clone()).await;
    assert_eq!(code(created.status), Code::Ok);
    let made = created.entry.unwrap();
    assert_eq!(made.id.len(), 36, "a UUID");
    assert_eq!(made.created_at, 1_800_000_000);
    let again = create(&world, wanted).await;
    assert_eq!(code(again.status), Code::AlreadyExists);
    assert_eq!(again.entry, Some(made));
}

#[tokio::test]
async fn each_item_of_a_batch_stands_for_itself() {
    let world = world().await;
    let good = entry("good", &parent(), "/web", "unix:uid:1");
    let bad = types::Entry { x509_svid_ttl: 1, ..entry("bad", &parent(), "/db", "unix:uid:1") };
    let foreign = types::Entry {
        spiffe_id: Some(types::Spiffeid { trust_domain: "other".into(), path: "/a".into() }),
        ..entry("foreign", &parent(), "/db", "unix:uid:1")
    };
    let last = entry("last", &parent(), "/last", "unix:uid:1");
    let mask = EntryMask { spiffe_id: true, ..EntryMask::default() };
    let request = BatchCreateEntryRequest {
        entries: vec![bad, good.clone(), foreign, last],
        output_mask: Some(mask),
    };
    let mut client = entries(&world.operator());
    let results = client.batch_create_entry(request).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| code(result.status.clone())).collect();
    assert_eq!(codes, [Code::InvalidArgument, Code::Ok, Code::InvalidArgument, Code::Ok]);
    assert!(results[0].status.clone().unwrap().message.starts_with("x509_svid_ttl: "));
    let masked =
        types::Entry { id: "good".into(), spiffe_id: good.spiffe_id, ..types::Entry::default() };
    assert_eq!(results[1].entry, Some(masked));
    assert_eq!(results[2].entry, None);

    let request = BatchDeleteEntryRequest { ids: vec!["none".into(), "".into(), "good".into()] };
    let results = client.batch_delete_entry(request).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| code(result.status.clone())).collect();
    assert_eq!(codes, [Code::NotFound, Code::InvalidArgument, Code::Ok]);
    assert_eq!(results[2].id, "good");
    let many = BatchDeleteEntryRequest { ids: vec!["x".into(); 1_001] };
    refused(client.batch_delete_entry(many).await, Code::InvalidArgument, "at most 1000");
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names() {
    let world = world().await;
    world.create(numbered(2)).await;
    let mut client = entries(&world.operator());
    let wanted = types::Entry {
        id: "e0000".into(),
        hint: "new".into(),
        dns_names: vec!["ignored.example.org".into()],
        ..types::Entry::default()
    };
    let request = BatchUpdateEntryRequest {
        entries: vec![wanted],
        input_mask: Some(EntryMask { hint: true, ..EntryMask::default() }),
        output_mask: None,
    };
    let updated = client.batch_update_entry(request).await.unwrap().into_inner().results.remove(0);
    let updated = updated.entry.unwrap();
    assert_eq!((updated.hint.as_str(), updated.revision_number), ("new", 1));
    assert!(updated.dns_names.is_empty());
    let request = GetEntryRequest { id: "e0000".into(), output_mask: None };
    assert_eq!(client.get_entry(request).await.unwrap().into_inner(), updated);

    let like_the_other = types::Entry { id: "e0001".into(), ..numbered(1).remove(0) };
    let request = BatchUpdateEntryRequest {
        entries: vec![like_the_other],
        ..BatchUpdateEntryRequest::default()
    };
    let refused = client.batch_update_entry(request).await.unwrap().into_inner().results.remove(0);
    assert_eq!(code(refused.status), Code::AlreadyExists);
}

#[tokio::test]
async fn entries_are_listed_page_by_page_and_by_what_they_are() {
    let world = world().await;
    world.create(numbered(501)).await;
    world.create(vec![entry("other", &parent(), "/other", "unix:gid:1")]).await;
    let mut client = entries(&world.operator());
    let first = client.list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), first.next_page_token.as_str()), (500, "e0499"));
    let request = ListEntriesRequest {
        page_token: first.next_page_token,
        page_size: i32::MAX,
        ..ListEntriesRequest::default()
    };
    let second = client.list_entries(request).await.unwrap().into_inner();
    let ids: Vec<_> = second.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!((ids, second.next_page_token.as_str()), (vec!["e0500", "other"], ""));

    let selector = types::Selector { r#type: "unix".into(), value: "gid:1".into() };
    let by = types::SelectorMatch {
        selectors: vec![selector],
        r#match: MatchBehavior::MatchSuperset.into(),
    };
    let filter =
        list_entries_request::Filter { by_selectors: Some(by.clone()), ..Default::default() };
    let request = ListEntriesRequest { filter: Some(filter), ..ListEntriesRequest::default() };
    let found = client.list_entries(request).await.unwrap().into_inner().entries;
    assert_eq!(found.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["other"]);

    let mut count = async |filter| {
        let counted = client.count_entries(CountEntriesRequest { filter }).await.unwrap();
        counted.into_inner().count
    };
    assert_eq!(count(None).await, 502);
    let filter = count_entries_request::Filter { by_selectors: Some(by), ..Default::default() };
    assert_eq!(count(Some(filter)).await, 1);
    let request = ListEntriesRequest { page_size: -1, ..ListEntriesRequest::default() };
    refused(client.list_entries(request).await, Code::InvalidArgument, "page_size");
}

#[tokio::test]
async fn spires_agents_compare_revisions_and_ask_for_what_they_lack() {
    let world = world().await;
    let agent = world.admitted().await;
    let all: Vec<_> = numbered(600)
        .into_iter()
        .map(|entry| types::Entry { parent_id: Some((&agent.id).into()), ..entry })
        .collect();
    world.create(all).await;
    world.create(vec![entry("others", &parent(), "/others", "unix:gid:1")]).await;

    let (ask, asked) = mpsc::channel(4);
    let mask = EntryMask { spiffe_id: true, ..EntryMask::default() };
    let first = SyncAuthorizedEntriesRequest { output_mask: Some(mask), ids: Vec::new() };
    ask.send(first).await.unwrap();
    let answers = entries(&agent.channel).sync_authorized_entries(ReceiverStream::new(asked)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut next = async || answers.message().await.unwrap().unwrap();
    let (page, rest) = (next().await, next().await);
    assert_eq!((page.entry_revisions.len(), page.more), (500, true));
    assert_eq!((rest.entry_revisions.len(), rest.more), (100, false));
    assert!(page.entry_revisions.iter().all(|revision| revision.id != "others"));

    let ids = ["e0599", "others", "none"].map(str::to_owned).to_vec();
    ask.send(SyncAuthorizedEntriesRequest { output_mask: None, ids }).await.unwrap();
    let named = next().await;
    let ids: Vec<_> = named.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!((ids, named.more), (vec!["e0599"], false));
    assert!(named.entries[0].selectors.is_empty(), "the mask of the first request holds");
}
