//! Who may do what: policies in Cedar, what stands beside them, and what they say to a question.
//!
//! The server, agents and the shim decide by the same code. Nothing is permitted unless a policy says
//! so, and a policy that cannot be evaluated refuses.
//!
//! | to find | look in |
//! |---|---|
//! | the files of a folder, and the digest that names them | [`source`] |
//! | reading them, and refusing those that are wrong | [`load`] |
//! | what is registered of identities, and groups | [`identities`], [`groups`] |
//! | tools and their parameters | [`tools`] |
//! | what policies say of themselves | [`rule`] |
//! | from a question to a decision | [`set`] |
//! | deciding at the edge, by what the server signed | [`local`] |
//! | a question as people write it | [`situation`] |
//! | tables of expected decisions | [`table`] |
//! | who reaches whom | [`reach`], [`diff`], [`graph`] |
//! | what must hold whatever changes | [`invariants`] |
//! | why something is denied, and what would help | [`explain`] |
//! | deciding again what is on record | [`replay`] |
//! | policies by which what was denied would be permitted | [`suggest`] |
//!
//! Invariants:
//!
//! * **All or nothing.** A [`PolicySet`] is made of files that are right as a whole.
//! * **The same again.** A decision depends on the question and on the files that the digest names, and
//!   on nothing else: no clock, no I/O.

mod ask;
mod change;
pub mod diff;
pub mod explain;
pub mod graph;
pub mod groups;
mod guard;
pub mod identities;
mod index;
pub mod invariants;
pub mod load;
pub mod local;
mod policy;
pub mod reach;
pub mod replay;
pub mod rule;
pub mod set;
pub mod situation;
pub mod source;
pub mod suggest;
pub mod table;
mod toml_file;
pub mod tools;
mod vocabulary;

pub use load::LoadError;
pub use local::Local;
pub use set::PolicySet;
pub use source::Source;
