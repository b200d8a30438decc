//! What is remembered of tokens, and how much of it.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::SpiffeId;
use claviger_core::svid::jwt::Audience;
use claviger_core::time::UnixTime;
use quick_cache::Weighter;
use quick_cache::unsync;
use tokio::sync::watch;

use super::{Key, Token};

/// The most tokens, and the most memory for them, in bytes. Those that are asked for least go first.
const MAX_TOKENS: usize = 4_096;
const MAX_BYTES: usize = 4 << 20;

/// How long the server is left alone after it did not answer, while the old token is still good.
const PAUSE: Duration = Duration::from_secs(5);

/// The tokens that may be given out again.
#[derive(Debug)]
pub(super) struct Cache {
    tokens: Mutex<Inside>,
    /// Rings when there are others.
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct Inside {
    tokens: unsync::Cache<Key, Kept, Weight>,
    /// From before a restart, until somebody asks for one like it. Never more than the cache holds.
    before: HashMap<(EntryId, Audience), Before>,
}

/// A token, and the entry it was made for.
type Before = (Arc<Entry>, Arc<Token>);

/// A token that may be given out again.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) token: Arc<Token>,
    /// From when on the server is asked for another first.
    pub(super) ask_again: UnixTime,
}

/// Which share of the memory a token takes; at least what is everybody's, so that both bounds hold.
#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<Key, Kept> for Weight {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        /// Maps, reference counts, the lengths of strings.
        const OVERHEAD: usize = 512;
        let names: usize = key.audience.names().iter().map(String::len).sum();
        let bytes = OVERHEAD.saturating_add(names).saturating_add(kept.token.jwt.len());
        u64::try_from(bytes.max(MAX_BYTES / MAX_TOKENS)).unwrap_or(u64::MAX)
    }
}

/// A changed entry is another entry, so what was made for it before is not found any more.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry) && self.audience == other.audience
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entry.id.hash(state);
        self.audience.hash(state);
    }
}

impl Default for Cache {
    fn default() -> Self {
        let bytes = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        let tokens = unsync::Cache::with_weighter(MAX_TOKENS, bytes, Weight);
        let inside = Inside { tokens, before: HashMap::new() };
        Self { tokens: Mutex::new(inside), changes: watch::Sender::default() }
    }
}

impl Cache {
    pub(super) fn find(&self, key: &Key) -> Option<Kept> {
        let mut inside = self.inside();
        if inside.tokens.peek(key).is_none() {
            inside.adopt(key);
        }
        inside.tokens.get(key).cloned()
    }

    /// Keeps a token that came at `now`. It is good until half of its life is over.
    pub(super) fn keep(&self, key: Key, token: Arc<Token>, now: UnixTime) {
        let half = token.expires_at.since(now) / 2;
        let ask_again = now.after(half);
        self.inside().tokens.insert(key, Kept { token, ask_again });
        self.changes.send_replace(());
    }

    /// Takes in a token from before a restart.
    pub(super) fn restore(&self, key: &Key, token: Arc<Token>) {
        let mut inside = self.inside();
        if inside.before.len() < MAX_TOKENS {
            let place = (key.entry.id.clone(), key.audience.clone());
            inside.before.insert(place, (Arc::clone(&key.entry), token));
        }
    }

    /// The server does not answer.
    pub(super) fn put_off(&self, key: &Key, now: UnixTime) {
        if let Some(mut kept) = self.inside().tokens.get_mut(key) {
            kept.ask_again = now.after(PAUSE);
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        self.inside().tokens.remove(key);
        self.changes.send_replace(());
    }

    /// Forgets whatever is for one of `ids`.
    pub(super) fn forget_all(&self, ids: &BTreeSet<SpiffeId>) {
        let mut inside = self.inside();
        inside.tokens.retain(|key, _| !ids.contains(&key.entry.spiffe_id));
        inside.before.retain(|_, (entry, _)| !ids.contains(&entry.spiffe_id));
        drop(inside);
        self.changes.send_replace(());
    }

    /// All there are.
    pub(super) fn all(&self) -> Vec<(Key, Arc<Token>)> {
        let inside = self.inside();
        let tokens = inside.tokens.iter().map(|(key, kept)| (key.clone(), Arc::clone(&kept.token)));
        let before = inside.before.iter().map(|((_, audience), (entry, token))| {
            let key = Key { entry: Arc::clone(entry), audience: audience.clone() };
            (key, Arc::clone(token))
        });
        tokens.chain(before).collect()
    }

    /// Rings when there are others.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing of ours panics in between.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Gives the token from before a restart to the entry that is now as it was then.
    fn adopt(&mut self, key: &Key) {
        let place = (key.entry.id.clone(), key.audience.clone());
        let Some((entry, token)) = self.before.remove(&place) else { return };
        if *entry == *key.entry {
            self.tokens.insert(key.clone(), Kept { token, ask_again: UnixTime::from_secs(0) });
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::world::{NOW, entry};

    fn key(entry: &Arc<Entry>, audience: &str) -> Key {
        let audience = Audience::new(vec![audience.to_owned()]).unwrap();
        Key { entry: Arc::clone(entry), audience }
    }

    fn token(length: usize) -> Arc<Token> {
        let jwt = Zeroizing::new("x".repeat(length));
        let expires_at = NOW.after(Duration::from_secs(60));
        Arc::new(Token { jwt, key_id: "k".to_owned(), expires_at, issued_at: NOW })
    }

    #[test]
    fn a_token_is_good_for_half_of_its_life() {
        let (cache, entry) = (Cache::default(), Arc::new(entry("a", &[])));
        cache.keep(key(&entry, "one"), token(1), NOW);
        let kept = cache.find(&key(&entry, "one")).unwrap();
        assert_eq!(kept.ask_again, NOW.after(Duration::from_secs(30)));
        cache.put_off(&key(&entry, "one"), NOW.after(Duration::from_secs(31)));
        let kept = cache.find(&key(&entry, "one")).unwrap();
        assert_eq!(kept.ask_again, NOW.after(Duration::from_secs(36)));
        cache.forget(&key(&entry, "one"));
        assert!(cache.find(&key(&entry, "one")).is_none());
    }

    #[test]
    fn another_audience_or_entry_has_another_token() {
        let (cache, one) = (Cache::default(), Arc::new(entry("a", &[])));
        cache.keep(key(&one, "one"), token(1), NOW);
        assert!(cache.find(&key(&one, "two")).is_none());
        let changed = Arc::new(entry("a", &[]));
        assert!(cache.find(&key(&changed, "one")).is_none());
    }

    #[test]
    fn what_is_from_before_is_for_the_same_entry_only_and_the_server_is_asked_first() {
        let cache = Cache::default();
        let before = |audience| key(&Arc::new(entry("a", &[])), audience);
        for audience in ["one", "two", "three"] {
            cache.restore(&before(audience), token(1));
        }
        let same = Arc::new(entry("a", &[]));
        let kept = cache.find(&key(&same, "one")).unwrap();
        assert!(kept.ask_again < NOW);
        assert!(cache.find(&key(&same, "one")).is_some(), "it stays");
        assert_eq!(cache.all().len(), 3);

        let changed = Arc::new(Entry { revision: 1, ..entry("a", &[]) });
        assert!(cache.find(&key(&changed, "two")).is_none());
        assert!(cache.find(&key(&same, "two")).is_none(), "nobody asks with an older entry again");

        cache.forget_all(&[same.spiffe_id.clone()].into());
        assert!(cache.find(&key(&same, "three")).is_none());
        assert_eq!(cache.all().len(), 0);
    }

    #[test]
    fn memory_is_bounded_by_number_and_by_bytes() {
        for (length, most) in [(10, MAX_TOKENS), (16 << 10, MAX_BYTES / (16 << 10))] {
            let (cache, entry) = (Cache::default(), Arc::new(entry("a", &[])));
            for at in 0..MAX_TOKENS + 100 {
                cache.keep(key(&entry, &at.to_string()), token(length), NOW);
            }
            assert!(cache.inside().tokens.len() <= most);
            assert!(most / 2 < cache.inside().tokens.len());
        }
    }
}
