//! The conversation, and the real documents.

mod conversation;
mod corpus;
