//! The parent of an enclave: every byte between the enclave and the server goes through its hands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger_runtime::tasks::Tasks;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// What it does to the bytes of each connection.
#[derive(Clone, Debug)]
pub(crate) enum Mischief {
    /// Carries them.
    None,
    /// Keeps them.
    Swallow,
    /// Carries so many in each direction, and hangs up.
    Cut(usize),
    /// Flips one bit of this byte to the server.
    FlipUp(usize),
    /// Flips one bit of this byte from the server.
    FlipDown(usize),
    /// Leaves out this byte to the server.
    OmitUp(usize),
    /// Carries each piece this much later.
    Late(Duration),
    /// Carries the second half of each piece first.
    Reorder,
    /// Carries each piece twice.
    Repeat,
    /// Answers with what a server once said to somebody else.
    PlayServer(Vec<u8>),
}

/// What went through a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub(crate) up: Vec<u8>,
    pub(crate) down: Vec<u8>,
}

/// The parent. It stops when this is dropped.
pub(crate) struct Parent {
    shared: Arc<Shared>,
    tasks: Tasks,
    dir: TempDir,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    sessions: Mutex<Vec<Session>>,
}

struct Behaviour {
    mischief: Mischief,
    server: SocketAddr,
    /// Ends the connections of this behaviour.
    ended: CancellationToken,
}

impl Parent {
    /// Between an enclave and `server`.
    pub(crate) fn of(server: SocketAddr, mischief: Mischief) -> Self {
        let (dir, tasks) = (tempdir().unwrap(), Tasks::default());
        let behaviour = Behaviour { mischief, server, ended: CancellationToken::new() };
        let shared =
            Arc::new(Shared { behaviour: Mutex::new(behaviour), sessions: Mutex::default() });
        let parent = Self { shared, tasks, dir };
        let listener = UnixListener::bind(parent.path()).unwrap();
        let (shared, group) = (Arc::clone(&parent.shared), parent.tasks.clone());
        parent.tasks.spawn("parent", |stop| async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let shared = Arc::clone(&shared);
                group.spawn("session", |_stop| async move {
                    shared.session(stream).await;
                    Ok(())
                });
            }
            Ok(())
        });
        parent
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(self.dir.path()).join("parent.sock")
    }

    /// Behaves otherwise from now on, and hangs up on everybody.
    pub(crate) fn becomes(&self, mischief: Mischief) {
        let mut behaviour = self.shared.behaviour.lock().unwrap();
        behaviour.mischief = mischief;
        std::mem::take(&mut behaviour.ended).cancel();
    }

    /// Connects everybody to this server from now on.
    pub(crate) fn leads_to(&self, server: SocketAddr) {
        self.shared.behaviour.lock().unwrap().server = server;
        self.becomes(Mischief::None);
    }

    /// What went through its hands.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.shared.sessions.lock().unwrap().clone()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.becomes(Mischief::None);
        self.tasks.stop();
    }
}

impl Shared {
    async fn session(&self, near: UnixStream) {
        let (mischief, server, ended) = {
            let behaviour = self.behaviour.lock().unwrap();
            (behaviour.mischief.clone(), behaviour.server, behaviour.ended.clone())
        };
        let number = {
            let mut sessions = self.sessions.lock().unwrap();
            sessions.push(Session::default());
            sessions.len() - 1
        };
        let Ok(far) = TcpStream::connect(server).await else { return };
        let (near_read, mut near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        if let Mischief::PlayServer(recorded) = &mischief {
            drop(near_write.write_all(recorded).await);
            ended.cancelled().await;
            return;
        }
        let record_up = |bytes: &[u8]| {
            self.sessions.lock().unwrap()[number].up.extend_from_slice(bytes);
        };
        let record_down = |bytes: &[u8]| {
            self.sessions.lock().unwrap()[number].down.extend_from_slice(bytes);
        };
        tokio::select! {
            () = pump(near_read, far_write, &mischief, true, record_up) => {}
            () = pump(far_read, near_write, &mischief, false, record_down) => {}
            () = ended.cancelled() => {}
        }
    }
}

fn without(piece: Vec<u8>, index: Option<usize>) -> Vec<u8> {
    piece
        .into_iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != index)
        .map(|(_, byte)| byte)
        .collect()
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mischief: &Mischief,
    up: bool,
    record: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 16 << 10];
    let mut carried = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut piece = buffer[..read].to_vec();
        record(&piece);
        let here = |at: usize| at.checked_sub(carried).filter(|index| *index < read);
        match mischief {
            Mischief::Swallow => piece.clear(),
            Mischief::Cut(after) => piece.truncate(after.saturating_sub(carried)),
            Mischief::FlipUp(at) if up => here(*at).into_iter().for_each(|i| piece[i] ^= 0x10),
            Mischief::FlipDown(at) if !up => here(*at).into_iter().for_each(|i| piece[i] ^= 0x10),
            Mischief::OmitUp(at) if up => piece = without(piece, here(*at)),
            Mischief::Late(by) => tokio::time::sleep(*by).await,
            Mischief::Reorder => piece.rotate_left(read / 2),
            Mischief::Repeat => piece.extend_from_within(..),
            Mischief::None
            | Mischief::FlipUp(_)
            | Mischief::FlipDown(_)
            | Mischief::OmitUp(_)
            | Mischief::PlayServer(_) => {}
        }
        carried += read;
        if to.write_all(&piece).await.is_err()
            || matches!(mischief, Mischief::Cut(n) if *n <= carried)
        {
            return;
        }
    }
}
