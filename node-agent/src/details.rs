//! What a gRPC status says to programs, beyond its code (google.rpc.Status, `grpc-status-details-bin`).

use std::collections::HashMap;

use claviger_proto::rpc;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// A status that says why, by one of the reasons that `domain` defines.
pub(crate) fn status(
    code: Code,
    message: impl Into<String>,
    domain: &str,
    reason: &str,
    metadata: HashMap<String, String>,
) -> Status {
    let message = message.into();
    let info = rpc::ErrorInfo { reason: reason.to_owned(), domain: domain.to_owned(), metadata };
    let info = Any { type_url: ERROR_INFO.to_owned(), value: info.encode_to_vec() };
    let details = rpc::Status { code: code.into(), message: message.clone(), details: vec![info] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// Why, if a status says so.
#[cfg(test)]
pub(crate) fn info(status: &Status) -> Option<rpc::ErrorInfo> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let info = details.into_iter().find(|any| any.type_url == ERROR_INFO)?;
    rpc::ErrorInfo::decode(info.value.as_slice()).ok()
}
