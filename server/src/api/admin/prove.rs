//! That a record is in the audit log.

use claviger_core::audit::proof::Wanted;
use claviger_proto::claviger::admin::v1::{ProveRecordRequest, ProveRecordResponse};
use tonic::Status;

use super::{to_wire, unreadable};
use crate::audit::{read, tiles};
use crate::storage::Storage;

/// The record that is asked for, its proof, and the checkpoint that the proof leads to.
pub(super) async fn prove(
    storage: &Storage,
    request: ProveRecordRequest,
) -> Result<ProveRecordResponse, Status> {
    let ProveRecordRequest { sequence } = request;
    let checkpoints = &storage.checkpoints;
    let covers = |size: u64| sequence <= size;
    let witnessed = checkpoints.witnessed().filter(|signed| covers(signed.checkpoint().head.size));
    let signed = witnessed.map_or_else(|| checkpoints.sign_now(), |signed| (*signed).clone());
    let size = signed.checkpoint().head.size;
    let index = sequence.checked_sub(1);
    let wanted = index.and_then(|index| Wanted::inclusion(index, size));
    let wanted = wanted.ok_or_else(|| {
        Status::not_found(format!("there is no record {sequence}: the log has {size}"))
    })?;
    let store = &**storage.journal.store();
    let path = tiles::resolve(store, &wanted, size).await.map_err(|error| unreadable(&error))?;
    let record = read(store, sequence, 1).await.map_err(|error| unreadable(&error))?;
    let record = record.into_iter().next().filter(|record| record.sequence == sequence);
    let record =
        record.ok_or_else(|| Status::data_loss(format!("record {sequence} is missing")))?;
    Ok(ProveRecordResponse {
        body: record.body,
        path: path.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        checkpoint: Some(to_wire(&signed, checkpoints.key())),
    })
}
