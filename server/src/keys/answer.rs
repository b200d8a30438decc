//! What is answered, by each of the two standards.

pub(super) mod etsi;
pub(super) mod skip;

use serde::Serializer;
use zeroize::Zeroizing;

/// Writes a key, which is what the answer is for.
fn in_clear<S: Serializer>(key: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(key)
}
