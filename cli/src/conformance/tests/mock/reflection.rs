//! What the mock says about itself.

use claviger_proto::workload::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use tonic_reflection::pb::v1::server_reflection_server::{
    ServerReflection, ServerReflectionServer,
};
use tonic_reflection::server::Builder;

use super::{Fault, Mock};

impl Mock {
    pub(super) fn reflection(&self) -> Option<ServerReflectionServer<impl ServerReflection>> {
        if self.has(Fault::NoReflection) {
            return None;
        }
        let mut files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let api = files.file.iter_mut().find(|file| !file.service.is_empty()).unwrap();
        match self.fault {
            Some(Fault::ExtraRpc) => {
                let mut method = api.service[0].method[0].clone();
                method.name = Some("FetchX509SVIDAndMore".to_owned());
                api.service[0].method.push(method);
            }
            Some(Fault::ExtraField) => api.message_type[1].field.push(FieldDescriptorProto {
                name: Some("more".to_owned()),
                number: Some(100),
                label: Some(Label::Optional.into()),
                r#type: Some(Type::Bool.into()),
                ..FieldDescriptorProto::default()
            }),
            _ => {}
        }
        Some(Builder::configure().register_file_descriptor_set(files).build_v1().unwrap())
    }
}
