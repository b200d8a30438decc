//! The log for strangers: checkpoint, tiles and entries as static resources
//! ([tlog-tiles](https://c2sp.org/tlog-tiles)), below `/audit/`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use claviger_core::audit::tile::{TileId, TilePath, WIDTH, to_bytes};
use claviger_runtime::telemetry::Chain;
use http::StatusCode;
use tracing::error;

use super::{Checkpoints, tiles};
use crate::journal::Journal;
use crate::storage::Storage;
use crate::store::StoreError;

/// Below which path it is.
const PREFIX: &str = "/audit/";

/// The log, for whoever asks.
#[derive(Clone)]
pub(crate) struct Served {
    journal: Journal,
    checkpoints: Arc<Checkpoints>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

/// What is answered.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// The signed note: another in a moment.
    Checkpoint(String),
    /// Hashes or entries: they never change.
    Immutable(Vec<u8>),
    /// There is no such thing, or none that could be shown.
    Not(StatusCode),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Resource {
    Checkpoint,
    Tile(TileId, usize),
    /// Number of the tile of level 0, and how many entries.
    Entries(u64, usize),
}

impl Served {
    /// The log in `storage`.
    pub(crate) fn of(storage: &Storage) -> Self {
        let (journal, checkpoints) = (storage.journal.clone(), Arc::clone(&storage.checkpoints));
        Self { journal, checkpoints }
    }

    /// Whether `path` is one of ours.
    pub(crate) fn is_at(path: &str) -> bool {
        path.starts_with(PREFIX)
    }

    /// What a GET of `path` is answered.
    pub(crate) async fn answer(&self, path: &str) -> Answer {
        let Some(resource) = path.strip_prefix(PREFIX).and_then(Resource::parse) else {
            return Answer::Not(StatusCode::NOT_FOUND);
        };
        self.find(resource).await.unwrap_or_else(|error| {
            error!(error = %Chain(&error), "the audit log cannot be shown");
            Answer::Not(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }

    async fn find(&self, resource: Resource) -> Result<Answer, StoreError> {
        let store = &**self.journal.store();
        let size = self.journal.head().borrow().size;
        let absent = Ok(Answer::Not(StatusCode::NOT_FOUND));
        match resource {
            Resource::Checkpoint => {
                let witnessed = self.checkpoints.witnessed();
                let signed = witnessed.unwrap_or_else(|| Arc::new(self.checkpoints.sign_now()));
                Ok(Answer::Checkpoint(signed.note().to_string()))
            }
            Resource::Tile(id, width) if width <= id.width(size) => {
                let hashes = tiles::tile(store, id, size).await?;
                Ok(hashes.get(..width).map_or(Answer::Not(StatusCode::NOT_FOUND), |hashes| {
                    Answer::Immutable(to_bytes(hashes))
                }))
            }
            Resource::Entries(index, width) if width <= TileId { level: 0, index }.width(size) => {
                let records = tiles::entries(store, index, width).await?;
                let mut bundle = Vec::new();
                for record in records {
                    let length = u16::try_from(record.body.len()).map_err(|_too_long| {
                        let what = "it is longer than an entry may be; see `claviger audit export`";
                        StoreError::failed("serve a record as an entry", what)
                    })?;
                    bundle.extend_from_slice(&length.to_be_bytes());
                    bundle.extend_from_slice(&record.body);
                }
                Ok(Answer::Immutable(bundle))
            }
            Resource::Tile(..) | Resource::Entries(..) => absent,
        }
    }
}

impl Resource {
    /// `checkpoint`, `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
    fn parse(path: &str) -> Option<Self> {
        if path == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                (index, number(width).filter(|width| (1..WIDTH).contains(width))?)
            }
            None => (rest, WIDTH),
        };
        let index = TilePath::parse(&index.split('/').collect::<Vec<_>>())?;
        if level == "entries" {
            return Some(Self::Entries(index, width));
        }
        let level = u8::try_from(number(level)?).ok().filter(|level| *level < TileId::LEVELS)?;
        Some(Self::Tile(TileId { level, index }, width))
    }
}

/// A number without leading zeros.
fn number(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl Answer {
    /// The bytes.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Checkpoint(note) => note.into(),
            Self::Immutable(bytes) => bytes.into(),
            Self::Not(_) => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::audit::{Edge, Event, SignedCheckpoint, TreeHash, tile};

    use super::*;
    use crate::journal::Change;
    use crate::storage::fixture::{Life, NOW, TestClock};
    use crate::store::memory::MemoryStore;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |level, index| TileId { level, index };
        for (path, resource) in [
            ("checkpoint", Some(Resource::Checkpoint)),
            ("tile/0/000", Some(Resource::Tile(tile(0, 0), 256))),
            ("tile/1/x001/234.p/17", Some(Resource::Tile(tile(1, 1_234), 17))),
            ("tile/entries/005", Some(Resource::Entries(5, 256))),
            ("tile/entries/005.p/255", Some(Resource::Entries(5, 255))),
            ("", None),
            ("checkpoint/", None),
            ("tile/0", None),
            ("tile/0/0", None),
            ("tile/00/000", None),
            ("tile/8/000", None),
            ("tile/0/000.p/0", None),
            ("tile/0/000.p/256", None),
            ("tile/0/000.p/01", None),
            ("tile/data/000", None),
            ("tile/0/../000", None),
        ] {
            assert_eq!(Resource::parse(path), resource, "{path}");
        }
    }

    #[tokio::test]
    async fn a_stranger_rebuilds_the_log_from_what_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let life = Life::over(store, dir.path(), &TestClock::at(NOW)).await.unwrap();
        let served = Served::of(&life.storage);
        let Storage { journal, checkpoints, .. } = &life.storage;
        let events = vec![Event::ServerStarted { epoch: 1 }; 298];
        journal.commit(Change { events, ..Change::default() }).await.unwrap();

        let Answer::Checkpoint(note) = served.answer("/audit/checkpoint").await else { panic!() };
        let signed = SignedCheckpoint::open(&note, checkpoints.key()).unwrap();
        let head = signed.checkpoint().head;
        assert_eq!(head.size, 300);
        let mut leaves = Vec::new();
        for path in ["000", "001.p/44"] {
            let hashes = served.answer(&format!("/audit/tile/0/{path}")).await.into_bytes();
            let hashes = tile::from_bytes(&hashes).unwrap();
            let bundle = served.answer(&format!("/audit/tile/entries/{path}")).await.into_bytes();
            let (mut rest, mut count) = (&bundle[..], 0);
            while let Some((length, after)) = rest.split_first_chunk() {
                let (entry, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
                assert_eq!(TreeHash::of_leaf(entry), hashes[count]);
                (rest, count) = (after, count + 1);
            }
            assert_eq!(count, hashes.len());
            leaves.extend(hashes);
        }
        assert_eq!(leaves.into_iter().collect::<Edge>().head(), head);
        for absent in
            ["tile/0/001", "tile/0/001.p/45", "tile/0/002", "tile/2/000", "tile/entries/001", "x"]
        {
            let answer = served.answer(&format!("/audit/{absent}")).await;
            assert_eq!(answer, Answer::Not(StatusCode::NOT_FOUND), "{absent}");
        }
        let above = served.answer("/audit/tile/1/000.p/1").await.into_bytes();
        assert_eq!(above.len(), 32);
    }
}
