//! A server's admin socket, from the operator's side.

use std::ops::Deref;
use std::path::Path;

use claviger_proto::claviger::admin::v1::admin_client::AdminClient;
use claviger_proto::claviger::admin::v1::control_client::ControlClient;
use claviger_proto::claviger::admin::v1::revocation_client::RevocationClient;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::bundle::v1::bundle_client::BundleClient;
use claviger_proto::spire::server::entry::v1::entry_client::EntryClient;
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::types;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::connection::Connection;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::status::{self, Peer};

/// The most bytes of an answer with policies: 4 MiB of them, whose JSON may be twice as long.
const MAX_POLICIES: usize = 10 << 20;

/// A connection to a server's admin socket.
#[derive(Clone, Debug)]
pub(crate) struct Server(Connection);

impl Server {
    /// Connects to the server whose socket was named.
    pub(crate) async fn connect(socket: &AdminSocket, console: Console) -> Result<Self, Failure> {
        Self::at(&socket.path, console).await
    }

    /// Connects to the server whose socket is at `path`.
    pub(crate) async fn at(path: &Path, console: Console) -> Result<Self, Failure> {
        Connection::open(Peer::Server, path, console).await.map(Self)
    }

    pub(crate) fn entries(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel())
    }

    pub(crate) fn agents(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel())
    }

    pub(crate) fn bundles(&self) -> BundleClient<Channel> {
        BundleClient::new(self.channel())
    }

    pub(crate) fn revocation(&self) -> RevocationClient<Channel> {
        RevocationClient::new(self.channel())
    }

    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel()).max_decoding_message_size(MAX_POLICIES)
    }

    pub(crate) fn svids(&self) -> SvidClient<Channel> {
        SvidClient::new(self.channel())
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel())
    }
}

impl Deref for Server {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

/// The outcome of one element of a batch.
pub(crate) fn item(doing: &str, outcome: Option<types::Status>) -> Result<(), Failure> {
    let outcome = outcome.unwrap_or_default();
    let code = Code::from_i32(outcome.code);
    if code == Code::Ok {
        return Ok(());
    }
    Err(status::refused(Peer::Server, doing, &Status::new(code, outcome.message)))
}

/// The only element of a batch of one.
pub(crate) fn only<T>(doing: &str, mut results: Vec<T>) -> Result<T, Failure> {
    match (results.pop(), results.pop()) {
        (Some(only), None) => Ok(only),
        (_, second) => {
            let count = if second.is_some() { "several results" } else { "no result" };
            let odd = Status::internal(format!("the server sent {count} for one request"));
            Err(status::refused(Peer::Server, doing, &odd))
        }
    }
}

/// Every page of a listing: `page` asks for the one after a token.
pub(crate) async fn pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (found, next) = page(token).await?;
        all.extend(found);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_page_is_asked_for() {
        let all = pages(async |token| {
            Ok(match token.as_str() {
                "" => (vec![1, 2], "x".to_owned()),
                "x" => (vec![3], String::new()),
                other => panic!("asked for page `{other}`"),
            })
        });
        assert_eq!(all.await.unwrap(), [1, 2, 3]);
    }

    #[test]
    fn an_element_without_status_is_fine() {
        item("x", None).unwrap();
        let refused = types::Status { code: Code::NotFound.into(), message: "no entry".into() };
        let told = item("delete entry `a`", Some(refused)).unwrap_err().to_string();
        assert!(told.starts_with("error: cannot delete entry `a`: no entry"), "{told}");
    }

    #[test]
    fn one_request_has_one_result() {
        assert_eq!(only("x", vec![1]).unwrap(), 1);
        assert!(only("x", Vec::<u8>::new()).unwrap_err().to_string().contains("no result"));
        assert!(only("x", vec![1, 2]).unwrap_err().to_string().contains("several"));
    }
}
