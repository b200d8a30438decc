//! What containerd says of a container: its gRPC API, one question after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::wire::{
    Container, ContainerAnswer, GetContainer, GetImage, GetTask, ImageAnswer, Process, TaskAnswer,
};
use crate::cgroup::ContainerId;
use crate::workload::FactsError;

/// The most bytes of an answer; one has some kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);

const CONTAINER: &str = "/containerd.services.containers.v1.Containers/Get";
const TASK: &str = "/containerd.services.tasks.v1.Tasks/Get";
const IMAGE: &str = "/containerd.services.images.v1.Images/Get";

/// A container, as far as anybody is told.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Told {
    /// The process that it began with, by its number.
    pub(super) main_pid: u32,
    pub(super) namespace: String,
    /// The image, as whoever made the container called it; empty if it has none.
    pub(super) image: String,
    /// The image's digest, if it is still there.
    pub(super) image_digest: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// What the containerd that listens at `socket` says of the container `id`, in the first of
/// `namespaces` that has it; nothing if none has.
pub(super) async fn ask(
    socket: &Path,
    namespaces: &[String],
    id: &ContainerId,
) -> Result<Option<Told>, FactsError> {
    let failed = |status: Status| {
        let what = format!(
            "containerd at {} does not answer; is it running, and may the agent ask it?",
            socket.display()
        );
        FactsError::unavailable(what, status)
    };
    let channel = connect(socket);
    for namespace in namespaces {
        let asker = Asker::new(&channel, namespace).map_err(failed)?;
        let Some((container, process)) = asker.find(id).await.map_err(failed)? else { continue };
        if container.id != id.as_str() {
            return Err(FactsError::unknown("containerd told of another container"));
        }
        if process.status != Process::RUNNING || process.pid == 0 {
            return Err(FactsError::unknown(format!("container {id} does not run")));
        }
        let image_digest = asker.digest(&container.image).await.map_err(failed)?;
        let Container { labels, image, .. } = container;
        let (namespace, main_pid) = (namespace.clone(), process.pid);
        return Ok(Some(Told { main_pid, namespace, image, image_digest, labels }));
    }
    Ok(None)
}

fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = service_fn(move |_uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The name is sent along and means nothing.
    Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector)
}

/// Asks about one namespace.
struct Asker {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
}

impl Asker {
    fn new(channel: &Channel, namespace: &str) -> Result<Self, Status> {
        let namespace = namespace.parse();
        let namespace = namespace.map_err(|_odd| Status::invalid_argument("namespace"))?;
        Ok(Self { channel: channel.clone(), namespace })
    }

    /// The container, and the process that it began with.
    async fn find(&self, id: &ContainerId) -> Result<Option<(Container, Process)>, Status> {
        let question = GetContainer { id: id.to_string() };
        let answer: Option<ContainerAnswer> = self.call(CONTAINER, question).await?;
        let Some(container) = answer.and_then(|answer| answer.container) else { return Ok(None) };
        let question = GetTask { container_id: id.to_string() };
        let answer: Option<TaskAnswer> = self.call(TASK, question).await?;
        Ok(answer.and_then(|answer| answer.process).map(|process| (container, process)))
    }

    async fn digest(&self, image: &str) -> Result<Option<String>, Status> {
        if image.is_empty() {
            return Ok(None);
        }
        let answer: Option<ImageAnswer> =
            self.call(IMAGE, GetImage { name: image.to_owned() }).await?;
        let target = answer.and_then(|answer| answer.image).and_then(|image| image.target);
        Ok(target.map(|target| target.digest).filter(|digest| !digest.is_empty()))
    }

    /// One answer; none if there is no such thing.
    async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<Option<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let mut request = Request::new(question);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        let asked = async {
            let ready = grpc.ready().await;
            ready.map_err(|error| Status::from_error(Box::new(error)))?;
            let path = PathAndQuery::from_static(path);
            grpc.unary(request, path, ProstCodec::<Q, A>::default()).await
        };
        let late = |_elapsed| Status::deadline_exceeded("no answer in time");
        match tokio::time::timeout(DEADLINE, asked).await.map_err(late)? {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }
}
