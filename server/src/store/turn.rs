//! The exclusive right to write.
//!
//! A store may be shared by several servers. Each of them decides by what it has read, so between the
//! last look and the write nobody else may write: the journal asks for a turn, checks within it what its
//! changes require, writes once, and the turn is over.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Space, StoreError, Write};

/// What somebody else wrote at one time, of what servers keep in memory.
pub type Group = Arc<[Write]>;

/// A turn. One that is dropped has written nothing.
#[async_trait]
pub trait Turn: fmt::Debug + Send {
    /// What others wrote since the last time that this was asked of the same store, by a turn or not;
    /// what was written first comes first. What this server wrote without being told so is in it, too.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it can't be read, or is not known any more.
    async fn news(&mut self) -> Result<Vec<Group>, StoreError>;

    /// The values of `keys`, in their order, as the turns before left them.
    ///
    /// # Errors
    ///
    /// As [`super::Store::get`].
    async fn get_many(
        &mut self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Applies `writes` in their order, all or none, and ends the turn. They are durable when it returns.
    /// With nothing to write it just ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; ask [`StoreError::untouched`] whether they may have happened nevertheless.
    async fn write(self: Box<Self>, writes: Vec<Write>) -> Result<(), StoreError>;
}
