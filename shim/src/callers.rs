//! Which programs of this machine may use a door, and which one is at it.
//!
//! | to find | look in |
//! |---|---|
//! | what a connection shows of its other end, and who may use a door | here |
//! | what the kernel knows of a TCP connection's other end | `tcp` |
//! | which processes hold a socket | `holders` |
//! | whether one process comes from another | `lineage` |
//!
//! Of a Unix socket the kernel says who connected it, and what another process writes ends it. Of a TCP
//! connection it says only whose socket is at the other end: the user's, and which one it is. Every
//! process of that user which holds it has to qualify. A program can hand its socket to another on
//! purpose, and TCP keeps no record of that: a port tells users apart, and honest programs of one user.
//! Where programs of one user must not be able to stand in for each other, let them come by a Unix
//! socket.
//!
//! Nothing is assumed: who cannot be found, has ended or has become another is refused. Nothing is
//! remembered either: an identity that somebody loses is lost for the next connection.

mod holders;
mod lineage;
mod tcp;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_proto::claviger::caller::v1::IdentifyRequest;
use claviger_proto::claviger::caller::v1::callers_client::CallersClient;
use claviger_runtime::unix::{NoProcess, Peer, PeerError, PeerStream, SocketPathError};
use metrics::{counter, histogram};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::agent::{channel, with_header};
use crate::route::Callers;
use holders::Search;
pub use holders::SearchError;
use tcp::Connection;

/// How long the agent may take: a program waits.
const CALL: Duration = Duration::from_secs(4);

/// What a connection shows of the program at its other end.
#[derive(Clone, Debug)]
pub struct LocalPeer(End);

#[derive(Clone, Debug)]
enum End {
    Unix(Peer),
    Tcp(Connection),
}

/// Who is at a door, for the record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// The process, in our PID namespace. Of several that hold a connection, the one that began first.
    pub pid: Option<u32>,
    /// The user whose process or socket it is.
    pub uid: Option<u32>,
    /// Which of the identities that may use the door it has, if that was asked.
    pub id: Option<SpiffeId>,
}

/// Finds out who is at a door. Clones share the connection to the agent.
#[derive(Clone, Debug)]
pub struct CallerDesk(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    agent: Option<CallersClient<Channel>>,
    search: Search,
    /// Those whose descendants are asked for, from the first time on.
    roots: Mutex<HashMap<NonZeroU32, Peer>>,
}

impl From<&PeerStream> for LocalPeer {
    /// Whoever connected the Unix socket `stream`.
    fn from(stream: &PeerStream) -> Self {
        Self(End::Unix(stream.peer().clone()))
    }
}

impl LocalPeer {
    /// Whoever connected the Unix socket `stream`, if it is asked soon after it was accepted. What
    /// another process writes to it is not told apart, as it is of a [`PeerStream`].
    ///
    /// # Errors
    ///
    /// [`NotACaller`] if the kernel names nobody, or a process in another PID namespace.
    pub fn of_unix(stream: &UnixStream) -> Result<Self, NotACaller> {
        Ok(Self(End::Unix(Peer::of(stream)?)))
    }

    /// Whoever connected `stream`, which was accepted on this machine.
    ///
    /// # Errors
    ///
    /// If it is not connected any more.
    pub fn of_tcp(stream: &TcpStream) -> io::Result<Self> {
        Connection::of(stream).map(|connection| Self(End::Tcp(connection)))
    }

    /// What is seen without looking for it.
    fn glimpse(&self) -> Caller {
        match &self.0 {
            End::Unix(peer) => Caller::from(peer),
            End::Tcp(connection) => {
                let uid = connection.other_end().ok().flatten().map(|socket| socket.uid);
                Caller { uid, ..Caller::default() }
            }
        }
    }
}

impl From<&Peer> for Caller {
    fn from(peer: &Peer) -> Self {
        Self { pid: Some(peer.pid()), uid: Some(peer.uid()), id: None }
    }
}

impl CallerDesk {
    /// A desk that asks the agent behind the socket `agent` who processes are. Without one,
    /// [`Callers::Known`] admits nobody.
    ///
    /// # Errors
    ///
    /// [`SocketPathError`] if no socket can be there.
    pub fn new(agent: Option<PathBuf>) -> Result<Self, SocketPathError> {
        let client = |path| channel(path, Some(CALL)).map(CallersClient::new);
        let agent = agent.map(client).transpose()?;
        Ok(Self(Arc::new(Desk { agent, search: Search::default(), roots: Mutex::default() })))
    }

    /// Who is at the other end of `local`, if `callers` lets them use the door.
    ///
    /// Of [`Callers::Anybody`] it is only said what is known at once: the process behind a Unix socket,
    /// the user behind a TCP connection.
    ///
    /// # Errors
    ///
    /// [`NotACaller`] says why not. It is for the log and the operator; the program learns only that
    /// there is no connection.
    pub async fn admit(&self, callers: &Callers, local: &LocalPeer) -> Result<Caller, NotACaller> {
        if *callers == Callers::Anybody {
            return Ok(local.glimpse());
        }
        let start = Instant::now();
        let admitted = match &local.0 {
            End::Unix(peer) => self.0.qualify(callers, peer).await,
            End::Tcp(connection) => self.0.every_holder(callers, connection).await,
        };
        let outcome = admitted.as_ref().map_or_else(NotACaller::label, |_caller| "admitted");
        counter!("claviger_shim_callers_total", "outcome" => outcome).increment(1);
        histogram!("claviger_shim_caller_seconds").record(start.elapsed());
        admitted
    }
}

impl Desk {
    /// The first of the processes at the other end of `connection`, if every one of them qualifies.
    async fn every_holder(
        &self,
        callers: &Callers,
        connection: &Connection,
    ) -> Result<Caller, NotACaller> {
        let socket = connection.other_end()?.ok_or(NotACaller::Closed)?;
        let mut first = None;
        for holder in self.search.holders(&socket).await? {
            let peer = match Peer::by_number(holder.pid) {
                Ok(peer) => peer,
                Err(NoProcess::Unknown(_)) => continue,
                Err(NoProcess::Io(error)) => return Err(NotACaller::Kernel(error)),
            };
            // From here on the number is this process's own, so this is about it.
            if !holder.still_holds(&socket) {
                continue;
            }
            if peer.uid() != socket.uid {
                return Err(NotACaller::OtherUser { pid: peer.pid(), socket: socket.uid });
            }
            let caller = self.qualify(callers, &peer).await?;
            first.get_or_insert(caller);
        }
        // Had the connection been closed meanwhile, another one could have had its addresses.
        if connection.is_open()? {
            first.ok_or(NotACaller::NotFound { uid: socket.uid })
        } else {
            Err(NotACaller::Closed)
        }
    }

    /// `peer`, if it may use the door.
    async fn qualify(&self, callers: &Callers, peer: &Peer) -> Result<Caller, NotACaller> {
        let id = match callers {
            Callers::Anybody => None,
            Callers::Known(ids) => Some(self.identify(ids, peer.pid()).await?),
            Callers::Descendants(root) => {
                self.require_descendant(*root, peer)?;
                None
            }
        };
        // What was found out is about this process only if it is still there.
        if peer.has_changed() {
            return Err(NotACaller::Ended { pid: peer.pid() });
        }
        Ok(Caller { id, ..Caller::from(peer) })
    }

    /// Which of `ids` the agent knows the process `pid` by.
    async fn identify(&self, ids: &BTreeSet<SpiffeId>, pid: u32) -> Result<SpiffeId, NotACaller> {
        let mut agent = self.agent.clone().ok_or(NotACaller::NoAgent)?;
        let any_of = ids.iter().map(SpiffeId::to_string).collect();
        let number = i32::try_from(pid).map_err(|_number| NotACaller::Ended { pid })?;
        let request = with_header(IdentifyRequest { pid: number, any_of });
        match agent.identify(request).await {
            Ok(answer) => {
                let said = answer.into_inner().spiffe_id;
                let known = ids.iter().find(|id| said == id.to_string());
                known.cloned().ok_or(NotACaller::Malformed)
            }
            Err(status) if status.code() == Code::PermissionDenied => {
                Err(NotACaller::NotKnown { pid, said: status.message().to_owned() })
            }
            Err(status) => Err(NotACaller::Agent(status)),
        }
    }

    fn require_descendant(&self, root: NonZeroU32, peer: &Peer) -> Result<(), NotACaller> {
        let ancestor = self.root(root)?;
        let descends = lineage::descends(peer.pid(), root.get())?;
        // The number is the root's own only as long as it lives.
        if descends && !ancestor.has_exited() {
            Ok(())
        } else {
            Err(NotACaller::NoDescendant { pid: peer.pid(), of: root })
        }
    }

    /// The process that had the number `root` when it was first asked about.
    fn root(&self, root: NonZeroU32) -> Result<Peer, NotACaller> {
        // What is inserted is whole before anything can fail.
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = roots.get(&root) {
            return Ok(known.clone());
        }
        let peer = Peer::by_number(root.get()).map_err(|error| match error {
            NoProcess::Unknown(pid) => NotACaller::Ended { pid },
            NoProcess::Io(error) => NotACaller::Kernel(error),
        })?;
        roots.insert(root, peer.clone());
        Ok(peer)
    }
}

/// Why nobody may use a door.
#[derive(Debug, thiserror::Error)]
pub enum NotACaller {
    /// Nobody can be named who connected.
    #[error(transparent)]
    Unknown(#[from] PeerError),
    /// The connection ended before it was known whose it is.
    #[error("the connection was closed before it was known whose it is")]
    Closed,
    /// The process ended, or runs another program by now.
    #[error("process {pid} has ended, or runs another program than when it connected")]
    Ended {
        /// Its number.
        pid: u32,
    },
    /// No process that can be seen holds the other end.
    #[error(
        "no process that can be seen holds the other end, a socket of the user {uid}; its program may \
         be in another PID namespace: share it (`shareProcessNamespace`, `hostPID`); or belong to a \
         user whose processes this one may not look at: run it as that user, or with CAP_SYS_PTRACE"
    )]
    NotFound {
        /// Whose socket it is.
        uid: u32,
    },
    /// Somebody else than the socket's owner holds it.
    #[error("process {pid} holds a socket of the user {socket}, and runs as another one")]
    OtherUser {
        /// Who holds it.
        pid: u32,
        /// Whose it is.
        socket: u32,
    },
    /// It is not found out who holds the other end.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The agent does not confirm any of the identities that may use the door.
    #[error("the agent does not confirm that process {pid} may use this door: {said}")]
    NotKnown {
        /// Whom it was asked about.
        pid: u32,
        /// In its words.
        said: String,
    },
    /// It does not come from the process from which it should.
    #[error("process {pid} does not come from process {of}")]
    NoDescendant {
        /// Who is at the door.
        pid: u32,
        /// Whose descendants may use it.
        of: NonZeroU32,
    },
    /// Nobody can be asked who processes are.
    #[error("there is no agent that could say who is at the door")]
    NoAgent,
    /// The agent could not be asked, or does not know.
    #[error("the agent does not say who is at the door")]
    Agent(#[source] Status),
    /// The agent confirmed what it was not asked.
    #[error("the agent confirmed an identity that it was not asked about")]
    Malformed,
    /// The kernel does not say.
    #[error("the kernel does not say who is at the door")]
    Kernel(#[from] io::Error),
}

impl NotACaller {
    /// A word for it in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Closed | Self::Ended { .. } => "gone",
            Self::Unknown(_) | Self::NotFound { .. } => "not-found",
            Self::OtherUser { .. } | Self::NotKnown { .. } | Self::NoDescendant { .. } => {
                "not-permitted"
            }
            Self::Search(_) | Self::Agent(_) | Self::Malformed | Self::Kernel(_) => "unavailable",
            Self::NoAgent => "no-agent",
        }
    }
}
