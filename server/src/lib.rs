//! x

pub mod audit;
pub mod epoch;
pub mod journal;
pub mod ledger;
pub mod storage;
pub mod store;
