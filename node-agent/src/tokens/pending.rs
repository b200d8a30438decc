//! One request on behalf of all who ask for the same at the same time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{Key, NoToken, Token};

/// What everybody who asked will be told.
type Asked = BoxFuture<'static, Result<Arc<Token>, NoToken>>;

/// The requests under way. Each is carried on by those who asked, and is there for others until it ends.
#[derive(Default)]
pub(super) struct Pending(Mutex<HashMap<Key, WeakShared<Asked>>>);

impl Pending {
    /// The request for `key` that is under way, or a new one.
    pub(super) fn join(&self, key: &Key, ask: impl FnOnce() -> Asked) -> Shared<Asked> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = pending.get(key).and_then(WeakShared::upgrade) {
            return asked;
        }
        // There are never many: who waits has a slot.
        pending.retain(|_, asked| asked.upgrade().is_some());
        let asked = ask().shared();
        if let Some(weak) = asked.downgrade() {
            pending.insert(key.clone(), weak);
        }
        asked
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending(..)")
    }
}
