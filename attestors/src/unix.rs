//! The user, groups and program of a local process, as its kernel tells them.
