//! What gRPC reflection says about the service.

use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::Status;
use tonic_reflection::pb::{v1, v1alpha};

use super::{Client, HEADER, Rpc, request};
use crate::conformance::answer::Answer;

/// The service's name.
const SERVICE: &str = "SpiffeWorkloadAPI";

impl Client {
    /// The files that describe the Workload API, by either version of the protocol.
    pub(in crate::conformance) async fn reflect(&self) -> Answer<Vec<FileDescriptorProto>> {
        let current = self.ask(Rpc::Other, || self.reflect_v1()).await;
        if !current.is_unimplemented() {
            return current;
        }
        self.ask(Rpc::Other, || self.reflect_v1alpha()).await
    }

    async fn reflect_v1(&self) -> Result<Vec<FileDescriptorProto>, Status> {
        use v1::server_reflection_client::ServerReflectionClient;
        use v1::server_reflection_request::MessageRequest;
        use v1::server_reflection_response::MessageResponse;

        let ask = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(SERVICE.to_owned())),
        };
        let mut client = ServerReflectionClient::new(self.channel.clone());
        let stream = request(tokio_stream::once(ask), HEADER);
        let answer = super::ask::first(client.server_reflection_info(stream).await?).await?;
        match answer.message_response {
            Some(MessageResponse::FileDescriptorResponse(files)) => {
                read(&files.file_descriptor_proto)
            }
            Some(MessageResponse::ErrorResponse(error)) => Err(refused(&error.error_message)),
            Some(
                MessageResponse::AllExtensionNumbersResponse(_)
                | MessageResponse::ListServicesResponse(_),
            )
            | None => Err(astray()),
        }
    }

    async fn reflect_v1alpha(&self) -> Result<Vec<FileDescriptorProto>, Status> {
        use v1alpha::server_reflection_client::ServerReflectionClient;
        use v1alpha::server_reflection_request::MessageRequest;
        use v1alpha::server_reflection_response::MessageResponse;

        let ask = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(SERVICE.to_owned())),
        };
        let mut client = ServerReflectionClient::new(self.channel.clone());
        let stream = request(tokio_stream::once(ask), HEADER);
        let answer = super::ask::first(client.server_reflection_info(stream).await?).await?;
        match answer.message_response {
            Some(MessageResponse::FileDescriptorResponse(files)) => {
                read(&files.file_descriptor_proto)
            }
            Some(MessageResponse::ErrorResponse(error)) => Err(refused(&error.error_message)),
            Some(
                MessageResponse::AllExtensionNumbersResponse(_)
                | MessageResponse::ListServicesResponse(_),
            )
            | None => Err(astray()),
        }
    }
}

fn read(files: &[Vec<u8>]) -> Result<Vec<FileDescriptorProto>, Status> {
    let file = |bytes: &Vec<u8>| {
        FileDescriptorProto::decode(bytes.as_slice())
            .map_err(|error| Status::data_loss(format!("a descriptor is none: {error}")))
    };
    files.iter().map(file).collect()
}

fn refused(message: &str) -> Status {
    Status::not_found(format!("the service is not described: {message}"))
}

fn astray() -> Status {
    Status::unknown("another question was answered")
}
