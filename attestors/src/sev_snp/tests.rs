//! Whole conversations, and each rule.

mod certificates;
mod collecting;
mod corpus;
mod policy;
mod reports;
