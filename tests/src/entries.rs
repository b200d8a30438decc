//! Files of entries, as `entry create --data` reads them from SPIRE and from us.

use serde_json::json;

/// `count` entries `spiffe://example.org/NAME/N` for whoever shows `selector`, under `parent`.
///
/// # Panics
///
/// If `selector` is not `kind:value`.
#[must_use]
pub fn file(parent: &str, selector: &str, name: &str, count: usize) -> String {
    let (kind, value) = selector.split_once(':').expect("kind:value");
    let entry = |number| {
        json!({
            "spiffe_id": format!("spiffe://example.org/{name}/{number}"),
            "parent_id": parent,
            "selectors": [{"type": kind, "value": value}],
        })
    };
    json!({ "entries": (0..count).map(entry).collect::<Vec<_>>() }).to_string()
}
