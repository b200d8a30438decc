//! Several kinds of evidence at once: all of them hold, for one key, or none does.
