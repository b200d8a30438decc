//! One binary for all integration tests that run in one process.

#![expect(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod reasons;
mod tidy;
mod wire;
