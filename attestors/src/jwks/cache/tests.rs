use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;
use tokio::time::{advance, sleep};

use super::super::fixture::SigningKey;
use super::*;

/// An issuer that answers what it is told, after a second.
#[derive(Debug, Default)]
struct Issuer {
    asked: AtomicUsize,
    document: Mutex<Option<String>>,
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the issuer")
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Issuer>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl KeySource for Shared {
    async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        let document = self.0.document.lock().unwrap().clone();
        document.map(String::into_bytes).ok_or_else(|| {
            SourceError::Other(io::Error::from(io::ErrorKind::ConnectionRefused).into())
        })
    }
}

struct World {
    issuer: Arc<Issuer>,
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let issuer = Arc::<Issuer>::default();
        let cache = Cache::new(Arc::new(Shared(Arc::clone(&issuer))));
        Self { issuer, cache }
    }

    /// From now on, the issuer has keys of these names; none if it is away.
    fn issuer_has(&self, names: Option<&[&str]>) {
        let keys = |names: &[&str]| {
            let keys: Vec<_> = names.iter().map(|name| SigningKey::es256(name).jwk()).collect();
            json!({"keys": keys}).to_string()
        };
        *self.issuer.document.lock().unwrap() = names.map(keys);
    }

    fn asked(&self) -> usize {
        self.issuer.asked.load(Ordering::Relaxed)
    }

    /// Whether there is a key of this name.
    async fn has(&self, name: &str) -> bool {
        self.cache.find(name).await.unwrap().keys.names(name)
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_asked_for_once_however_many_need_them() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    let all = futures_util::future::join_all((0..100).map(|_| world.has("a"))).await;
    assert!(all.iter().all(|has| *has));
    advance(FRESH).await;
    assert!(world.has("a").await);
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_old_are_asked_for_by_one_request_while_others_go_on() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    assert!(world.has("a").await);
    advance(FRESH + Duration::from_secs(1)).await;
    world.issuer_has(Some(&["a", "b"]));
    let start = Instant::now();
    let quick = async {
        tokio::task::yield_now().await;
        let found = world.cache.find("a").await.unwrap();
        (found, start.elapsed())
    };
    let (asking, (found, waited)) = tokio::join!(world.cache.find("a"), quick);
    assert!(asking.unwrap().keys.names("b"));
    assert!(!found.keys.names("b") && found.stale && waited.is_zero());
    assert!(world.has("b").await);
    assert_eq!(world.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_and_a_withdrawn_one_forgotten() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    assert!(world.has("a").await);
    advance(PAUSE).await;
    world.issuer_has(Some(&["b"]));
    assert!(world.has("a").await, "still fresh");
    assert!(world.has("b").await);
    assert!(!world.has("a").await);
}

#[tokio::test(start_paused = true)]
async fn unknown_names_do_not_make_us_ask_more_often() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    assert!(world.has("a").await);
    for second in 0..300 {
        assert!(!world.has(&format!("guess-{second}")).await);
        advance(Duration::from_secs(1)).await;
    }
    let asked = world.asked();
    assert!((9..=11).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_asked_less_and_less_often() {
    let world = World::new();
    for _ in 0..3_600 {
        let error = world.cache.find("a").await.unwrap_err();
        assert!(error.to_string().contains("the issuer"), "{error}");
        assert_eq!(describe(&error).matches("connection refused").count(), 1, "{error:?}");
        advance(Duration::from_secs(1)).await;
    }
    let asked = world.asked();
    assert!((15..=40).contains(&asked), "{asked} times in an hour");
    world.issuer_has(Some(&["a"]));
    advance(Duration::from_secs(400)).await;
    assert!(world.has("a").await);
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_good_for_a_day_while_the_issuer_is_away() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    assert!(world.has("a").await);
    world.issuer_has(None);
    advance(MAX_AGE - Duration::from_secs(10)).await;
    let found = world.cache.find("a").await.unwrap();
    assert!(found.stale && found.keys.names("a"));
    // Whether there is such a key can't be told now.
    assert!(world.cache.find("b").await.unwrap_err().problem.is_some());
    advance(Duration::from_secs(10)).await;
    assert!(world.cache.find("a").await.unwrap_err().problem.is_some());
}

#[tokio::test(start_paused = true)]
async fn nonsense_does_not_replace_keys() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    assert!(world.has("a").await);
    for nonsense in ["<html>sign in</html>", r#"{"keys":[]}"#] {
        *world.issuer.document.lock().unwrap() = Some(nonsense.to_owned());
        advance(Duration::from_mins(20)).await;
        assert!(world.cache.find("a").await.unwrap().stale);
    }
    assert_eq!(world.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_away_has_asked_too() {
    let world = World::new();
    world.issuer_has(Some(&["a"]));
    let impatient = tokio::time::timeout(Duration::from_millis(1), world.cache.find("a"));
    impatient.await.unwrap_err();
    assert!(world.cache.find("a").await.unwrap_err().problem.is_none());
    assert_eq!(world.asked(), 1);
    advance(Duration::from_secs(2)).await;
    assert!(world.has("a").await);
}
