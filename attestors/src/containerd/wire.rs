//! The messages of containerd's API that are used: names and numbers are its.

use std::collections::BTreeMap;

/// Asks `containerd.services.containers.v1.Containers/Get`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetContainer {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) labels: BTreeMap<String, String>,
    /// The name of its image; empty if it has none.
    #[prost(string, tag = "3")]
    pub(super) image: String,
}

/// Asks `containerd.services.tasks.v1.Tasks/Get`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetTask {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) process: Option<Process>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Process {
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    #[prost(int32, tag = "4")]
    pub(super) status: i32,
}

impl Process {
    /// The status of a process that runs.
    pub(super) const RUNNING: i32 = 2;
}

/// Asks `containerd.services.images.v1.Images/Get`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetImage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ImageAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Image {
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "2")]
    pub(super) digest: String,
}
