//! SPIRE's entry API: the operator registers, agents read what concerns them.

mod filter;
mod sync;

use claviger_core::entry::EntryId;
use claviger_proto::convert::entries;
use claviger_proto::spire::server::entry::v1::{
    BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest,
    BatchDeleteEntryResponse, BatchUpdateEntryRequest, BatchUpdateEntryResponse,
    CountEntriesRequest, CountEntriesResponse, GetAuthorizedEntriesRequest,
    GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest, ListEntriesResponse,
    SyncAuthorizedEntriesRequest, batch_create_entry_response, batch_delete_entry_response,
    batch_update_entry_response, entry_server,
};
use claviger_proto::spire::types;
use tonic::{Request, Response, Status, Streaming, async_trait};
use uuid::Uuid;

use super::svid::to_status;
use super::{MAX_BATCH, Shared, caller, check_batch, count, malformed, not_committed, page_size};
use crate::registry::Packed;
use crate::registry::draft::Refused;
use filter::Filter;

/// Serves `spire.api.server.entry.v1.Entry`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
}

#[async_trait]
impl entry_server::Entry for Service {
    type SyncAuthorizedEntriesStream = sync::Responses;

    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        caller::administrator(&self.shared, &request)?;
        let registry = &self.shared.registry;
        let number = match request.into_inner().filter {
            None => registry.entry_count(),
            Some(wire) => {
                let filter = Filter::try_from(wire).map_err(|error| malformed(&error))?;
                registry.entries(None, usize::MAX, |entry| filter.holds(entry)).len()
            }
        };
        Ok(Response::new(CountEntriesResponse { count: count(number) }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        caller::administrator(&self.shared, &request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let after = optional_id(&request.page_token, "page_token")?;
        let filter =
            request.filter.map(Filter::try_from).transpose().map_err(|error| malformed(&error))?;
        let wanted = |entry: &types::Entry| filter.as_ref().is_none_or(|f| f.holds(entry));

        let more = size.saturating_add(1);
        let mut page = self.shared.registry.entries(after.as_ref(), more, wanted);
        let is_last = page.len() <= size;
        page.truncate(size);
        let last = page.last().map(|entry| entry.id.clone()).unwrap_or_default();
        let next_page_token = if is_last { String::new() } else { last };
        let mask = request.output_mask.as_ref();
        let entries = page.into_iter().map(|entry| entries::select(entry, mask)).collect();
        Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        caller::administrator(&self.shared, &request)?;
        let request = request.into_inner();
        let id = entry_id(&request.id, "id")?;
        let entry = self.shared.registry.entry(&id);
        let entry =
            entry.ok_or_else(|| Status::not_found(format!("no entry has the id `{id}`")))?;
        Ok(Response::new(entries::select(entry.to_wire(), request.output_mask.as_ref())))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let BatchCreateEntryRequest { entries: wire, output_mask } = request.into_inner();
        check_batch(wire.len(), MAX_BATCH)?;

        let now = self.shared.now();
        let parsed: Vec<_> =
            wire.into_iter().map(|entry| entries::create(entry, fresh_id, now)).collect();
        let good = parsed.iter().filter_map(|entry| entry.as_ref().ok().cloned()).collect();
        let created = self.shared.registry.create(good, &requester).await;
        let mut created = created.map_err(|error| not_committed(&error))?.into_iter();

        let results = parsed.into_iter().map(|entry| match entry {
            Ok(_) => created.next().unwrap_or(Err(Refused::Full(0))),
            Err(field) => Err(Refused::Field(field)),
        });
        let mask = output_mask.as_ref();
        let results = results
            .map(|outcome| outcome_to_wire(outcome, mask))
            .map(|(status, entry)| batch_create_entry_response::Result { status, entry })
            .collect();
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let BatchUpdateEntryRequest { entries: wire, input_mask, output_mask } =
            request.into_inner();
        check_batch(wire.len(), MAX_BATCH)?;
        let updated = self.shared.registry.update(wire, input_mask, &requester).await;
        let results = updated
            .map_err(|error| not_committed(&error))?
            .into_iter()
            .map(|outcome| outcome_to_wire(outcome, output_mask.as_ref()))
            .map(|(status, entry)| batch_update_entry_response::Result { status, entry })
            .collect();
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let wire = request.into_inner().ids;
        check_batch(wire.len(), MAX_BATCH)?;

        let parsed: Vec<_> = wire.iter().map(|id| entry_id(id, "id")).collect();
        let good = parsed.iter().filter_map(|id| id.as_ref().ok().cloned()).collect();
        let deleted = self.shared.registry.delete(good, &requester).await;
        let mut deleted = deleted.map_err(|error| not_committed(&error))?.into_iter();

        let results = wire.into_iter().zip(parsed).map(|(id, parsed)| {
            let outcome = parsed.and_then(|_| match deleted.next() {
                Some(Err(refused)) => Err(refusal(&refused)),
                Some(Ok(())) | None => Ok(()),
            });
            let status = outcome.map_or_else(|error| to_status(&error), |()| ok());
            batch_delete_entry_response::Result { status: Some(status), id }
        });
        Ok(Response::new(BatchDeleteEntryResponse { results: results.collect() }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let agent = caller::agent(&self.shared, &request).await?;
        let mask = request.into_inner().output_mask;
        let authorized = self.shared.registry.authorized(&agent.id);
        let entries = authorized.iter().map(|e| entries::select(e.to_wire(), mask.as_ref()));
        Ok(Response::new(GetAuthorizedEntriesResponse { entries: entries.collect() }))
    }

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<sync::Responses>, Status> {
        let agent = caller::agent(&self.shared, &request).await?;
        let authorized = self.shared.registry.authorized(&agent.id);
        Ok(Response::new(sync::answer(request.into_inner(), authorized)))
    }
}

pub(super) fn fresh_id() -> EntryId {
    #[expect(clippy::expect_used, reason = "a UUID is made of hexadecimal digits and hyphens")]
    Uuid::new_v4().to_string().parse().expect("a UUID is an entry id")
}

fn entry_id(text: &str, field: &str) -> Result<EntryId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn optional_id(text: &str, field: &str) -> Result<Option<EntryId>, Status> {
    if text.is_empty() { Ok(None) } else { entry_id(text, field).map(Some) }
}

/// The status and the entry that answer one item of a batch.
fn outcome_to_wire(
    outcome: Result<Packed, Refused>,
    mask: Option<&types::EntryMask>,
) -> (Option<types::Status>, Option<types::Entry>) {
    let show = |packed: &Packed| Some(entries::select(packed.to_wire(), mask));
    match outcome {
        Ok(entry) => (Some(ok()), show(&entry)),
        Err(refused) => {
            let existing = match &refused {
                Refused::Exists(existing) | Refused::IdTaken(existing) => show(existing),
                Refused::Unknown(_)
                | Refused::Hint { .. }
                | Refused::Field(_)
                | Refused::Rule(_)
                | Refused::Full(_) => None,
            };
            (Some(to_status(&refusal(&refused))), existing)
        }
    }
}

/// The status of an item that succeeded.
pub(super) fn ok() -> types::Status {
    types::Status { code: tonic::Code::Ok.into(), message: "OK".to_owned() }
}

/// What the operator is told.
pub(super) fn refusal(refused: &Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::Exists(_) | Refused::IdTaken(_) => Status::already_exists(text),
        Refused::Unknown(_) => Status::not_found(text),
        Refused::Hint { .. } | Refused::Field(_) | Refused::Rule(_) => {
            Status::invalid_argument(text)
        }
        Refused::Full(_) => Status::resource_exhausted(text),
    }
}
