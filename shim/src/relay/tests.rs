use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_runtime::place::Dialed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::*;

const LIFETIME: Lifetime =
    Lifetime { idle: Duration::from_secs(60), max_age: Duration::from_secs(3_600) };
const GRACE: Duration = Duration::from_secs(5);

/// How much a pipe in memory holds.
const PIPE: usize = 1_024;

/// A pipe that counts how often it was told to rest and to be reset.
struct Pipe {
    stream: DuplexStream,
    rests: Arc<AtomicUsize>,
}

impl End for Pipe {
    fn rest(&mut self) {
        self.rests.fetch_add(1, Ordering::Relaxed);
    }

    fn reset(&self) {}

    fn socket(&self) -> Option<Socket<'_>> {
        None
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What breaks when it is read.
struct Broken(Option<io::Error>);

impl End for Broken {
    fn rest(&mut self) {}

    fn reset(&self) {}

    fn socket(&self) -> Option<Socket<'_>> {
        None
    }
}

impl AsyncRead for Broken {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.take() {
            Some(error) if buf.filled().is_empty() => {
                buf.put_slice(b"last words");
                self.0 = Some(error);
                Poll::Ready(Ok(()))
            }
            // As TCP has it: the error is told once, and then the end.
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Broken {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A relay, and both who talk through it.
struct World {
    local: DuplexStream,
    remote: DuplexStream,
    near: Pipe,
    far: Pipe,
    terms: Terms,
}

fn world() -> World {
    let pipe = || {
        let (outside, stream) = duplex(PIPE);
        (outside, Pipe { stream, rests: Arc::default() })
    };
    let ((local, near), (remote, far)) = (pipe(), pipe());
    let terms = Terms { lifetime: LIFETIME, stop: CancellationToken::new(), grace: GRACE };
    World { local, remote, near, far, terms }
}

/// Runs the relay of `world` beside `talk`, to the end of both.
async fn relayed<T>(
    world: World,
    talk: impl AsyncFnOnce(DuplexStream, DuplexStream) -> T,
) -> (Ended, Moved, T) {
    let World { local, remote, mut near, mut far, terms } = world;
    let buffers = Buffers::default();
    let carried = async {
        let carried = carry(&mut near, &mut far, &buffers, &terms).await;
        drop((near, far));
        carried
    };
    let ((ended, moved), talked) = tokio::join!(carried, talk(local, remote));
    (ended, moved, talked)
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_and_one_direction_may_end_first() {
    let (ended, moved, ()) = relayed(world(), async |mut local, mut remote| {
        local.write_all(b"question").await.unwrap();
        local.shutdown().await.unwrap();
        let mut asked = String::new();
        remote.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        tokio::time::sleep(LIFETIME.idle / 2).await;
        remote.write_all(b"an answer").await.unwrap();
        drop(remote);
        let mut answered = String::new();
        local.read_to_string(&mut answered).await.unwrap();
        assert_eq!(answered, "an answer");
    })
    .await;
    assert!(matches!(ended, Ended::Done(Side::Local)), "{ended}");
    assert!(ended.is_complete());
    assert_eq!(moved, Moved { sent: 8, received: 9 });
}

#[tokio::test(start_paused = true)]
async fn many_bytes_arrive_whole_and_in_order() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let (ended, moved, got) = relayed(world(), async |mut local, mut remote| {
        let mut got = Vec::new();
        let send = async {
            remote.write_all(&bytes).await.unwrap();
            remote.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(send, local.read_to_end(&mut got));
        read.unwrap();
        got
    })
    .await;
    assert!(got == bytes);
    assert!(matches!(ended, Ended::Done(Side::Remote)), "{ended}");
    assert_eq!(moved, Moved { sent: 0, received: 1_000_000 });
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_holds_up_whoever_writes_until_it_is_too_long() {
    let start = Instant::now();
    let (ended, moved, sent) = relayed(world(), async |mut local, remote| {
        let mut sent = 0;
        while let Ok(written) = local.write(&[0; 4_096]).await {
            sent += written;
        }
        drop(remote);
        sent
    })
    .await;
    assert!(matches!(ended, Ended::Idle), "{ended}");
    assert_eq!(start.elapsed(), LIFETIME.idle);
    assert_eq!(moved.sent, u64::try_from(PIPE).unwrap(), "what the pipe holds was delivered");
    // Two pipes and one buffer.
    assert!(sent <= 2 * PIPE + (64 << 10), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_gives_memory_back_once_and_ends_when_it_was_quiet_for_too_long() {
    let world = world();
    let rests = Arc::clone(&world.far.rests);
    let (ended, moved, lasted) = relayed(world, async |mut local, mut remote| {
        let start = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(LIFETIME.idle - Duration::from_millis(1)).await;
            local.write_all(b"!").await.unwrap();
            assert_eq!(remote.read_u8().await.unwrap(), b'!');
        }
        assert_eq!(local.read(&mut [0]).await.unwrap(), 0);
        start.elapsed()
    })
    .await;
    assert!(matches!(ended, Ended::Idle), "{ended}");
    assert!(!ended.is_complete());
    assert_eq!(moved, Moved { sent: 3, received: 0 });
    assert_eq!(lasted, LIFETIME.idle * 4 - Duration::from_millis(3));
    assert_eq!(rests.load(Ordering::Relaxed), 4, "once in each pause");
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_ends_at_its_greatest_age() {
    let (ended, _moved, lasted) = relayed(world(), async |mut local, mut remote| {
        let start = Instant::now();
        while local.write_all(b"!").await.is_ok() && remote.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        start.elapsed()
    })
    .await;
    assert!(matches!(ended, Ended::Aged), "{ended}");
    assert!(lasted <= LIFETIME.max_age + Duration::from_millis(500), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_a_connection_its_grace_and_no_more() {
    let world = world();
    let stop = world.terms.stop.clone();
    let (ended, moved, lasted) = relayed(world, async |mut local, mut remote| {
        stop.cancel();
        let start = Instant::now();
        tokio::time::sleep(GRACE / 2).await;
        remote.write_all(b"still").await.unwrap();
        let mut got = Vec::new();
        local.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"still");
        start.elapsed()
    })
    .await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
    assert_eq!(lasted, GRACE);
    assert_eq!(moved.received, 5);
}

#[tokio::test(start_paused = true)]
async fn what_broke_is_not_taken_for_an_end_and_its_last_words_arrive() {
    let World { mut local, remote: _, mut near, far: _, terms } = world();
    let mut far = Broken(Some(io::ErrorKind::ConnectionReset.into()));
    let (ended, moved) = carry(&mut near, &mut far, &Buffers::default(), &terms).await;
    assert!(matches!(ended, Ended::Broken(Side::Remote, _)), "{ended}");
    assert_eq!(moved.received, 10);
    let mut got = [0; 10];
    local.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"last words");
}

#[tokio::test(start_paused = true)]
async fn who_is_denied_is_told_apart_from_who_broke_off() {
    let World { local: _local, remote: _, mut near, far: _, terms } = world();
    let why = io::Error::new(io::ErrorKind::ConnectionAborted, Denied::Nobody);
    let mut far = Broken(Some(why));
    let (ended, _moved) = carry(&mut near, &mut far, &Buffers::default(), &terms).await;
    assert!(matches!(ended, Ended::Denied(Denied::Nobody)), "{ended}");
    assert_eq!(ended.label(), "denied");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_gone_ends_the_connection() {
    let (ended, _moved, ()) = relayed(world(), async |local, mut remote| {
        drop(local);
        // Its end is told at once; that nobody takes what still comes, when it comes.
        assert_eq!(remote.read(&mut [0]).await.unwrap(), 0);
        let gone = async { while remote.write_all(b"!").await.is_ok() {} };
        timeout(LIFETIME.idle, gone).await.unwrap();
    })
    .await;
    assert!(matches!(ended, Ended::Broken(Side::Local, _)), "{ended}");
}

/// Two sockets that are connected.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = TcpStream::connect(listener.local_addr().unwrap());
    let (accepted, connected) = tokio::join!(listener.accept(), connect);
    (accepted.unwrap().0, connected.unwrap())
}

#[tokio::test]
async fn between_sockets_the_kernel_moves_the_bytes_and_nothing_is_held_when_none_move() {
    let ((mut local, near), (mut remote, far)) = (sockets().await, sockets().await);
    let (mut near, mut far) = (Dialed::Left(near), Dialed::Left(far));
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let terms = world().terms;
    let buffers = Buffers::default();
    let talk = async {
        let mut got = vec![0; bytes.len()];
        let send = local.write_all(&bytes);
        let (sent, read) = tokio::join!(send, remote.read_exact(&mut got));
        sent.unwrap();
        read.unwrap();
        assert!(got == bytes);
        remote.write_all(b"answer").await.unwrap();
        remote.shutdown().await.unwrap();
        let mut answer = Vec::new();
        local.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        drop(local);
    };
    let (ended, ()) = tokio::join!(carry(&mut near, &mut far, &buffers, &terms), talk);
    let (ended, moved) = ended;
    assert!(matches!(ended, Ended::Done(Side::Remote)), "{ended}");
    assert_eq!(moved, Moved { sent: 4_000_000, received: 6 });
    assert_eq!(buffers.ever(), 0, "not one byte was copied");
}
