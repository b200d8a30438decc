//! To which workload a request refers.

use std::collections::BTreeSet;

use claviger_attestors::workload::AttestError;
use claviger_core::selector::Selectors;
use claviger_proto::broker::{WorkloadPidReference, WorkloadReference};
use claviger_runtime::unix::Peer;
use prost::Message;
use tonic::{Code, Status};

use super::refusal;
use crate::attestation::{Attestation, process};
use crate::credentials::Snapshot;
use crate::streams::{Desk, Subject};

/// A process of this machine.
const BY_PID: &str = "spiffe.broker.WorkloadPIDReference";

/// A workload that a broker acts for: a process, and the same one whoever gets its number next.
#[derive(Debug)]
pub(super) struct Workload(Peer);

impl Workload {
    /// The workload behind `reference`, for a broker who may use the kinds of references `allowed`.
    pub(super) fn referred_to(
        reference: Option<WorkloadReference>,
        allowed: &BTreeSet<String>,
    ) -> Result<Self, Status> {
        let missing = || refusal::invalid("reference: is missing");
        let any = reference.and_then(|outer| outer.reference).ok_or_else(missing)?;
        let kind = any.type_url.rsplit('/').next().unwrap_or_default();
        if kind != BY_PID {
            return Err(refusal::invalid(format!("reference: only {BY_PID} is understood")));
        }
        if !allowed.contains(kind) {
            return Err(Status::permission_denied("this broker may not refer to workloads so"));
        }
        let by_pid = WorkloadPidReference::decode(any.value.as_slice());
        let by_pid = by_pid.map_err(|_malformed| refusal::invalid("reference: is malformed"))?;
        process(by_pid.pid).map(Self).map_err(|status| {
            if status.code() == Code::InvalidArgument {
                refusal::invalid(format!("reference.{}", status.message()))
            } else if status.code() == Code::NotFound {
                refusal::not_found(status.message())
            } else {
                status
            }
        })
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.0.has_exited()
    }
}

impl Subject for Workload {
    type Facts = Selectors;

    async fn facts(&self, attestation: &Attestation) -> Result<Selectors, AttestError> {
        attestation.facts(&self.0).await
    }

    async fn changed(&self, attestation: &Attestation, facts: &Selectors) {
        attestation.changed(&self.0, facts).await;
    }

    async fn ended(&self) {
        self.0.exited().await;
    }

    fn nobody(&self, _desk: &Desk, _snapshot: &Snapshot, _facts: &Selectors) -> Status {
        refusal::not_entitled()
    }

    fn gone(&self) -> Status {
        refusal::not_found("the workload has ended")
    }
}
