//! The standard's reasons (SPIFFE Broker API §4).

use std::collections::HashMap;

use tonic::{Code, Status};

use crate::attestation::NO_IDENTITY;
use crate::details;

const DOMAIN: &str = "spiffe.io";

/// The reference is malformed, or of a kind that is not understood.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    because(Code::InvalidArgument, message, "WORKLOAD_REFERENCE_INVALID")
}

/// There is no such workload, or not any more.
pub(super) fn not_found(message: impl Into<String>) -> Status {
    because(Code::NotFound, message, "WORKLOAD_NOT_FOUND")
}

/// The workload has no identity, or not the one asked for.
pub(super) fn not_entitled() -> Status {
    because(Code::PermissionDenied, NO_IDENTITY, "WORKLOAD_NOT_ENTITLED")
}

fn because(code: Code, message: impl Into<String>, reason: &str) -> Status {
    details::status(code, message, DOMAIN, reason, HashMap::new())
}
