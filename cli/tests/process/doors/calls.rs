//! Calls that are never finished, never read, or too large, by a client that otherwise keeps to HTTP/2.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use claviger_tests::process::PATIENCE;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderValue, Request};
use tokio::io::{AsyncWriteExt as _, split};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Heard, QUIET, fields, frame, hello};
use super::tls::{H2, client, dial, talk};
use super::world::{Door, World};

/// The codes of gRPC.
pub(super) const CANCELLED: &str = "1";
pub(super) const PERMISSION_DENIED: &str = "7";
pub(super) const RESOURCE_EXHAUSTED: &str = "8";
const OUT_OF_RANGE: &str = "11";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";

/// What only agents are to call, and what matters most.
const REDEEM: &str = "/claviger.agent.v1.AgentPsk/RedeemPsk";

/// Time for a request to arrive at the server.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// How many calls a client takes for permitted while the server has said nothing.
const UNSAID: usize = 1;

/// One connection, which is there as long as this is.
struct Client {
    send: SendRequest<Bytes>,
    tasks: JoinSet<()>,
}

/// A call that has begun.
struct Call {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Client {
    /// Through `door`; of each answer, `window` bytes are taken.
    async fn through(world: &World, door: Door, window: u32) -> Self {
        let connection = world.connect(door).await;
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_max_send_streams(UNSAID);
        let (send, connection) = builder.handshake(connection).await.unwrap();
        let mut tasks = JoinSet::new();
        // How it ends is seen at the calls.
        tasks.spawn(async move { drop(connection.await) });
        let mut client = Self { send, tasks };
        client.settled().await;
        client
    }

    /// Until the server has said how many calls it takes.
    async fn settled(&mut self) {
        let said = async {
            while self.send.current_max_send_streams() == UNSAID {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, said).await.unwrap();
    }

    /// Begins a call of `method`, unless the server does not take it.
    async fn begin(&mut self, method: &str, encoding: Option<&'static str>) -> Option<Call> {
        let mut request = Request::post(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("workload.spiffe.io", "true")
            .header("broker.spiffe.io", "true");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", HeaderValue::from_static(encoding));
        }
        let mut send = timeout(PATIENCE, self.send.clone().ready()).await.unwrap().ok()?;
        let (answer, body) = send.send_request(request.body(()).unwrap(), false).ok()?;
        self.send = send;
        Some(Call { answer, body })
    }

    /// Begins as many calls of `method` as there is room for, at most `most`, none of which goes on.
    async fn fill(&mut self, method: &str, most: usize) -> Vec<Call> {
        let mut calls = Vec::new();
        let room = self.send.current_max_send_streams().min(most);
        while calls.len() < room {
            let Some(call) = self.begin(method, None).await else { break };
            calls.push(call);
        }
        calls
    }
}

impl Call {
    /// The code with which the server answers.
    async fn code(self) -> Result<String, h2::Error> {
        let Self { answer, body } = self;
        let answer = answer.await?;
        drop(body);
        let code = |headers: &http::HeaderMap| {
            headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
        };
        if let Some(code) = code(answer.headers()) {
            return Ok(code);
        }
        let mut body = answer.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        Ok(body.trailers().await?.as_ref().and_then(code).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_or_compressed_is_refused_by_its_first_bytes() {
    let world = World::start().await;
    for door in Door::ALL {
        let attack = async {
            // The first five bytes say how a message is encoded, and how long it is.
            for (begins, encoding, code) in [
                ([0, 255, 255, 255, 255], None, OUT_OF_RANGE),
                ([0, 1, 0, 0, 0], None, OUT_OF_RANGE),
                ([1, 0, 0, 0, 9], None, INTERNAL),
                ([1, 0, 0, 0, 9], Some("gzip"), UNIMPLEMENTED),
                ([2, 0, 0, 0, 9], None, INTERNAL),
            ] {
                let mut client = Client::through(&world, door, 1 << 16).await;
                let mut call = client.begin(door.method(), encoding).await.unwrap();
                call.body.send_data(Bytes::copy_from_slice(&begins), false).unwrap();
                let said = timeout(PATIENCE, call.code()).await.unwrap().unwrap();
                assert_eq!(said, code, "{begins:?} {encoding:?} at {door:?}");
            }
        };
        world.bears(&format!("messages that are too large at {door:?}"), attack).await;
    }
}

/// The calls that strangers and workloads never finish, each with how it ended, and how long that took.
pub(super) async fn never_finished(world: &World) -> (Duration, BTreeMap<String, usize>) {
    let begun = Instant::now();
    let (mut clients, mut calls) = (Vec::new(), Vec::new());
    for door in [Door::Stranger, Door::Workload] {
        for method in [REDEEM, door.method()] {
            for _ in 0..6 {
                let mut client = Client::through(world, door, 1 << 16).await;
                calls.extend(client.fill(method, 250).await);
                clients.push(client);
            }
        }
    }
    assert_eq!(calls.len(), 6_000);
    let mut codes = BTreeMap::new();
    for call in calls {
        let answered = timeout(DEADLINE * 2, call.code()).await.unwrap();
        *codes.entry(answered.unwrap_or_else(|error| error.to_string())).or_default() += 1;
    }
    (begun.elapsed(), codes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_never_reads_or_never_writes_takes_little() {
    let world = World::start().await;
    for door in Door::ALL {
        let attack = async {
            let (mut clients, mut calls) = (Vec::new(), Vec::new());
            for _ in 0..4 {
                // No byte of an answer is taken.
                let mut client = Client::through(&world, door, 0).await;
                for mut call in client.fill(door.method(), 250).await {
                    // An empty message.
                    call.body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
                    calls.push(call);
                }
                clients.push(client);
                let mut client = Client::through(&world, door, 0).await;
                calls.extend(client.fill(door.method(), 250).await);
                clients.push(client);
            }
            sleep(Duration::from_millis(200)).await;
            (clients, calls.len())
        };
        let what = format!("2000 calls that are not read or not written at {door:?}");
        let (clients, calls) = world.bears(&what, attack).await;
        assert_eq!(calls, 2_000);
        drop(clients);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_refused_before_its_message_is_there_keeps_its_connection() {
    let world = World::start().await;
    let (mut reader, mut writer) = split(world.connect(Door::Stranger).await);
    let (request, mut heard) = (fields(REDEEM, &[]), Heard::default());
    let attack = async {
        let calling = async {
            writer.write_all(&hello(&[])).await.unwrap();
            for round in 0..20_u32 {
                let streams = (round * 100..(round + 1) * 100).map(|number| 2 * number + 1);
                let begin = |stream| frame(HEADERS, END_HEADERS, stream, &request);
                let heads: Vec<u8> = streams.clone().flat_map(begin).collect();
                writer.write_all(&heads).await.unwrap();
                // Meanwhile they are refused.
                sleep(Duration::from_millis(50)).await;
                let message = |stream| frame(DATA, END_STREAM, stream, &[0; 5]);
                let messages: Vec<u8> = streams.flat_map(message).collect();
                writer.write_all(&messages).await.unwrap();
            }
            sleep(QUIET).await;
        };
        tokio::select! {
            () = heard.listen(&mut reader) => {}
            () = calling => {}
        }
    };
    world.bears("2000 calls that are refused before they are there", attack).await;
    assert!(!heard.is_over(), "{heard:?}");
    assert_eq!(heard.frames.get(&HEADERS), Some(&2_000), "{heard:?}");
}

/// How many descriptors a process has.
fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_off_leaves_nothing_behind() {
    let world = World::start().await;
    let pids = [world.deployment.server_pid(), world.deployment.agent_pid()];
    let before = pids.map(descriptors);
    for door in Door::ALL {
        let attack = async {
            for round in 0..20 {
                let mut client = Client::through(&world, door, 1 << 16).await;
                for mut call in client.fill(door.method(), 20).await {
                    call.body.send_data(Bytes::from_static(&[0, 0, 0]), false).unwrap();
                    if round % 2 == 0 {
                        call.body.send_reset(Reason::CANCEL);
                    }
                }
                if round % 3 == 0 {
                    // In the middle of whatever is on its way.
                    client.tasks.abort_all();
                }
            }
        };
        world.bears(&format!("400 calls that are broken off at {door:?}"), attack).await;
    }
    let settled = async {
        // Whoever behaves well has a connection, and the store may have opened a file.
        while pids.map(descriptors).iter().zip(before).any(|(now, then)| then + 8 < *now) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("every descriptor is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_stay_keep_nobody_out() {
    let world = World::start().await;
    let attack = async {
        let mut inside = Vec::new();
        let mut refused = 0;
        for _ in 0..1_100 {
            let stream = dial([127, 0, 0, 2], world.agents()).await;
            let mut stream = super::tls::shake(stream, client(Some(H2), None)).await.unwrap();
            let mut first = [0];
            let peeked = tokio::io::AsyncReadExt::read(&mut stream, &mut first);
            // Whoever is sent away learns it at once; to the others the server says nothing, or its settings.
            match timeout(Duration::from_millis(1), peeked).await {
                Ok(Ok(0) | Err(_)) => refused += 1,
                Ok(Ok(_)) | Err(_) => inside.push(stream),
            }
        }
        talk(world.agents(), H2, client(Some(H2), Some(&world.papers))).await.unwrap();
        talk(world.agents(), H2, client(Some(H2), None)).await.unwrap();
        (inside.len(), refused)
    };
    let (inside, refused) = world.bears("1100 strangers who stay", attack).await;
    assert!(inside <= 1_100 && inside + refused == 1_100);
    assert!(0 < world.counted("claviger_tls_handshakes_total", "\"caller-full\"").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_room_for_so_many_unfinished_calls_to_an_agent() {
    let world = World::start_with("[limits]\nstreams-per-uid = 300\n").await;
    let (mut clients, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut client = Client::through(&world, Door::WorkloadApi, 1 << 16).await;
        calls.extend(client.fill(Door::WorkloadApi.method(), 200).await);
        clients.push(client);
    }
    // The agent looks at them in whatever order.
    let mut answers: FuturesUnordered<_> = calls.into_iter().map(Call::code).collect();
    for _ in 0..300 {
        let refused = timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(refused, RESOURCE_EXHAUSTED);
    }
    timeout(Duration::from_millis(200), answers.next()).await.unwrap_err();
    drop((clients, answers));
    world.is_served(PATIENCE).await;
}
