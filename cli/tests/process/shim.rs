//! Two shims between a client and a server that know nothing of TLS.

mod world;

use std::time::Duration;

use claviger_tests::process::{PATIENCE, terminate};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use world::World;

#[tokio::test]
async fn an_unchanged_client_talks_to_an_unchanged_server() {
    let world = World::start("").await;
    let mut client = world.connect().await;
    let mut server = world.accept().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = String::new();
    timeout(PATIENCE, server.read_to_string(&mut asked)).await.unwrap().unwrap();
    assert_eq!(asked, "question");
    server.write_all(b"an answer").await.unwrap();
    drop(server);
    let mut answered = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answered)).await.unwrap().unwrap();
    assert_eq!(answered, "an answer");

    let [near, far] = world.records().await;
    assert_eq!((&near["direction"], &far["direction"]), (&"outbound".into(), &"inbound".into()));
    for key in ["client", "server", "purpose", "group", "suite", "exporter"] {
        assert_eq!(near[key], far[key], "{key}");
        assert!(near[key].is_string(), "{key}: {near}");
    }
    assert_eq!(near["exporter"].as_str().unwrap().len(), 64);
    assert_eq!(near["group"], "X25519MLKEM768");
    assert_eq!((&near["sent"], &near["received"]), (&8.into(), &9.into()));
    assert_eq!((&far["sent"], &far["received"]), (&9.into(), &8.into()));
    assert_eq!((&near["ended"], &far["ended"]), (&"done-local".into(), &"done-remote".into()));
    assert_eq!(near["caller"]["pid"], std::process::id());
    assert_eq!(near["caller"]["spiffe_id"], "spiffe://example.org/web");
    assert!(world.metric("claviger_shim_ended_total{route=\"db\",how=\"done-remote\"} 1").await);
}

#[tokio::test]
async fn what_is_quiet_or_old_for_too_long_ends_as_no_orderly_end() {
    let world = World::start("idle = \"300ms\"").await;
    let mut client = world.connect().await;
    let mut server = world.accept().await;
    client.write_all(b"!").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'!');
    let error = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let error = timeout(PATIENCE, server.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(world.metric_of_near("how=\"idle\"} 1").await);

    let world = World::start("max-age = \"300ms\"").await;
    let mut client = world.connect().await;
    let _server = world.accept().await;
    let busy = async { while client.write_all(b"!").await.is_ok() {} };
    timeout(PATIENCE, busy).await.unwrap();
    assert!(world.metric_of_near("how=\"max-age\"} 1").await);
}

#[tokio::test]
async fn a_peer_that_stops_reading_holds_up_the_other_and_is_ended() {
    let world = World::start("idle = \"2s\"").await;
    let mut client = world.connect().await;
    let _server = world.accept().await;
    let flood = async {
        let mut sent = 0_usize;
        while let Ok(written) = client.write(&[0; 64 << 10]).await {
            sent += written;
        }
        sent
    };
    let sent = timeout(PATIENCE, flood).await.unwrap();
    // What six sockets hold, and no more.
    assert!(sent < 64 << 20, "{sent}");
    assert!(world.metric_of_near("how=\"idle\"} 1").await);
}

#[tokio::test]
async fn a_stop_closes_the_doors_and_leaves_what_is_open_its_time() {
    let mut world = World::start("").await;
    let mut client = world.connect().await;
    let mut server = world.accept().await;
    let stopping = terminate(&mut world.near);
    let talk = async {
        while TcpStream::connect(world.door).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = String::new();
        server.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "last");
        drop(server);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    };
    let (status, ()) = timeout(PATIENCE, async { tokio::join!(stopping, talk) }).await.unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn without_the_broker_nothing_gets_through_and_with_it_everything_does() {
    let mut world = World::start("prefetch = 0").await;
    world.deployment.stop_server().await;
    assert!(world.is_refused().await);
    assert!(world.metric_of_near("reason=\"no-key\"} 1").await);
    assert!(world.near.try_wait().unwrap().is_none(), "the shim ended");

    world.deployment.start_server().await;
    let through = async {
        loop {
            let mut client = world.connect().await;
            tokio::select! {
                server = world.accept() => break (client, server),
                _ = client.read_u8() => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let (mut client, mut server) = timeout(PATIENCE, through).await.unwrap();
    client.write_all(b"!").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn what_strangers_do_is_refused_alike_and_counted_apart() {
    let world = World::start("").await;
    let hello = [&[22, 3, 1, 0x40, 0][..], &[1, 0, 0x3f, 0xfc, 3, 3], &[0; 20_000][..]].concat();
    let bad: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "not-tls"),
        (&[0xff; 512], "not-tls"),
        (&hello, "oversized"),
        (&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], "client-hello"),
    ];
    for (bytes, reason) in bad {
        let mut stranger = TcpStream::connect(world.port).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stranger.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 51], "{reason}");
        assert!(world.metric(&format!("reason=\"{reason}\"")).await, "{reason}");
    }
    let mut slow = TcpStream::connect(world.port).await.unwrap();
    slow.write_all(&[22, 3]).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, slow.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(world.metric("reason=\"slow\"} 1").await);
}

#[tokio::test]
async fn who_is_no_caller_is_refused() {
    let world = World::start("callers = [\"spiffe://example.org/other\"]").await;
    assert!(world.is_refused().await);
    assert!(world.metric_of_near("reason=\"caller\"} 1").await);
}

#[tokio::test]
async fn a_shim_without_descriptors_takes_a_breath_and_recovers() {
    let world = World::start("").await;
    world.limit_far(64);
    let mut strangers = Vec::new();
    for _ in 0..80 {
        strangers.push(TcpStream::connect(world.port).await.unwrap());
    }
    let before = world.far_cpu();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.far_cpu() - before < Duration::from_millis(300), "it spins");
    drop(strangers);
    let mut client = world.connect().await;
    let mut server = world.accept().await;
    client.write_all(b"!").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'!');
    assert!(world.metric("claviger_accept_failures_total").await);
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_told_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shim.toml");
    std::fs::write(&file, "[[outbound]]\nname = \"db\"\nlisten = \"0.0.0.0:1\"\n").unwrap();
    for verb in ["run", "validate"] {
        let output =
            crate::claviger().run(["shim", verb, "--config", file.to_str().unwrap()]).await;
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        for key in
            ["outbound.db.listen", "outbound.db.mode", "outbound.db.to", "outbound.db.purpose"]
        {
            assert!(errors.contains(key), "{errors}");
        }
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shim.toml");
    let route = format!(
        "[[inbound]]\nname = \"db\"\nlisten = \"{address}\"\nto = \"127.0.0.1:1\"\nmode = \"psk\"\n\
         purpose = \"query\"\n"
    );
    std::fs::write(&file, route).unwrap();
    let output = crate::claviger().run(["shim", "run", "--config", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains(&address.to_string()) && errors.contains("`db`"), "{errors}");
    let args = ["shim", "validate", "--config", file.to_str().unwrap()];
    assert_eq!(crate::claviger().json(&args).await["valid"], Value::Bool(true));
}
