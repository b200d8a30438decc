//! What an operator asks beyond SPIRE's API, on the admin socket.

mod appraisal;
mod explain;
mod prove;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::entry::EntryId;
use claviger_proto::claviger::admin::v1::{
    AuditRecord as WireRecord, ExplainRequest, ExplainResponse, GetAppraisalRequest,
    GetAppraisalResponse, GetCheckpointRequest, ProveRecordRequest, ProveRecordResponse,
    ReadAuditRequest, WaitForEntriesRequest, WaitForEntriesResponse, admin_server,
};
use claviger_proto::claviger::agent::v1::SignedCheckpoint;
use claviger_runtime::telemetry::Chain;
use futures_util::Stream;
use futures_util::future::join_all;
use futures_util::stream::try_unfold;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};
use tracing::error;

use super::sync::to_wire;
use super::{MAX_BATCH, Shared, caller, check_batch};
use crate::audit::{AuditRecord, Follow};
use crate::store::StoreError;

/// The longest wait for agents.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Serves `claviger.admin.v1.Admin`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
    /// Ends all streams when the server stops.
    pub stop: CancellationToken,
}

#[async_trait]
impl admin_server::Admin for Service {
    type ReadAuditStream = Pin<Box<dyn Stream<Item = Result<WireRecord, Status>> + Send>>;

    async fn read_audit(
        &self,
        request: Request<ReadAuditRequest>,
    ) -> Result<Response<Self::ReadAuditStream>, Status> {
        caller::operator(&request)?;
        let request = request.into_inner();
        let journal = &self.shared.storage.journal;
        let head = journal.head().borrow().size;
        let first = match request.last {
            0 => request.from_sequence.max(1),
            last => head.saturating_sub(last).saturating_add(1),
        };
        // Without `follow`, what is written from now on is not part of the answer.
        let end = if request.follow { u64::MAX } else { head };
        let limit = match request.limit {
            0 => u64::MAX,
            limit => first.saturating_add(limit).saturating_sub(1),
        };
        let reading = Reading {
            follow: Follow::new(Arc::clone(journal.store()), journal.head(), first),
            page: VecDeque::new(),
            next: first,
            end: end.min(limit),
            stop: self.stop.clone(),
        };
        let records = try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|record| (record, reading)))
        });
        Ok(Response::new(Box::pin(records)))
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<SignedCheckpoint>, Status> {
        caller::operator(&request)?;
        let checkpoints = &self.shared.storage.checkpoints;
        if !request.into_inner().witnessed {
            return Ok(Response::new(to_wire(&checkpoints.sign_now(), checkpoints.key())));
        }
        let none =
            || Status::not_found("no witness has signed a checkpoint since the server started");
        let signed = checkpoints.witnessed().ok_or_else(none)?;
        Ok(Response::new(to_wire(&signed, checkpoints.key())))
    }

    async fn prove_record(
        &self,
        request: Request<ProveRecordRequest>,
    ) -> Result<Response<ProveRecordResponse>, Status> {
        caller::operator(&request)?;
        prove::prove(&self.shared.storage, request.into_inner()).await.map(Response::new)
    }

    async fn wait_for_entries(
        &self,
        request: Request<WaitForEntriesRequest>,
    ) -> Result<Response<WaitForEntriesResponse>, Status> {
        caller::operator(&request)?;
        let request = request.into_inner();
        check_batch(request.entry_ids.len(), MAX_BATCH)?;
        let ids = request.entry_ids.iter().map(|id| id.parse::<EntryId>());
        let ids = ids.collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|error| Status::invalid_argument(format!("entry_ids: {error}")))?;
        let wait = Duration::from_millis(request.timeout_ms.into()).min(LONGEST_WAIT);

        let deadline = Instant::now() + wait;
        let waits = self.shared.registry.waiting(&ids).into_iter().map(|mut waiting| async move {
            let reached = timeout_at(deadline, waiting.reached()).await;
            (waiting.agent.to_string(), reached.unwrap_or(false))
        });
        let mut answer = WaitForEntriesResponse::default();
        for (agent, reached) in join_all(waits).await {
            let list = if reached { &mut answer.reached } else { &mut answer.pending };
            list.push(agent);
        }
        Ok(Response::new(answer))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        caller::operator(&request)?;
        explain::explain(&self.shared.registry, request.into_inner()).map(Response::new)
    }

    async fn get_appraisal(
        &self,
        request: Request<GetAppraisalRequest>,
    ) -> Result<Response<GetAppraisalResponse>, Status> {
        let operator = caller::operator(&request)?;
        let answer = appraisal::appraisal(&self.shared, operator, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}

/// Somebody who reads the log.
struct Reading {
    follow: Follow,
    page: VecDeque<AuditRecord>,
    next: u64,
    /// The last record wanted.
    end: u64,
    stop: CancellationToken,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<WireRecord>, Status> {
        if self.end < self.next {
            return Ok(None);
        }
        while self.page.is_empty() {
            let page = tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                page = self.follow.next_page() => page,
            };
            match page.map_err(|error| unreadable(&error))? {
                Some(page) => self.page = page.into(),
                None => return Ok(None),
            }
        }
        let Some(record) = self.page.pop_front() else { return Ok(None) };
        self.next = record.sequence.saturating_add(1);
        Ok(Some(WireRecord { sequence: record.sequence, body: record.body }))
    }
}

fn unreadable(error: &StoreError) -> Status {
    error!(error = %Chain(error), "cannot read the audit log");
    Status::data_loss("the audit log cannot be read; see the server's log")
}
