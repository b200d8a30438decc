//! Selectors: one by one, and as a set.

use claviger_core::selector::{ParseSelectorError, Selector, Selectors};

use super::{FieldError, Problem};
use crate::spire::types;

impl TryFrom<types::Selector> for Selector {
    type Error = FieldError;

    fn try_from(wire: types::Selector) -> Result<Self, FieldError> {
        Self::new(&wire.r#type, &wire.value).map_err(|error| {
            let field = match error {
                ParseSelectorError::Colon | ParseSelectorError::Kind(_) => "type",
                ParseSelectorError::ValueLength(_) | ParseSelectorError::ValueControl => "value",
            };
            FieldError::new(field, error)
        })
    }
}

impl From<&Selector> for types::Selector {
    fn from(selector: &Selector) -> Self {
        Self { r#type: selector.kind().to_owned(), value: selector.value().to_owned() }
    }
}

/// The set in the list `field`, of at most `max` selectors.
///
/// # Errors
///
/// [`FieldError`] if the list is too long, repeats itself or holds something that is no selector.
pub fn set(wire: Vec<types::Selector>, field: &str, max: usize) -> Result<Selectors, FieldError> {
    if max < wire.len() {
        return Err(FieldError::new(field, Problem::TooMany { count: wire.len(), max }));
    }
    let mut set = Selectors::new();
    for (at, selector) in wire.into_iter().enumerate() {
        let selector = Selector::try_from(selector)
            .map_err(|error| error.within(&format!("{field}[{at}]")))?;
        if set.contains(&selector) {
            let problem = Problem::Repeated(selector.to_string());
            return Err(FieldError::new(format!("{field}[{at}]"), problem));
        }
        set.insert(selector);
    }
    Ok(set)
}

/// The list for a set.
#[must_use]
pub fn list(set: &Selectors) -> Vec<types::Selector> {
    set.iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(kind: &str, value: &str) -> types::Selector {
        types::Selector { r#type: kind.into(), value: value.into() }
    }

    #[track_caller]
    fn refuses(wire: Vec<types::Selector>, message: &str) {
        assert_eq!(set(wire, "selectors", 2).unwrap_err().to_string(), message);
    }

    #[test]
    fn sets_come_back_as_they_went() {
        let facts: Selectors =
            ["unix:uid:1000", "k8s:ns:default"].map(|text| text.parse().unwrap()).into();
        assert_eq!(set(list(&facts), "selectors", 2), Ok(facts));
        assert_eq!(set(Vec::new(), "selectors", 2), Ok(Selectors::new()));
    }

    #[test]
    fn what_is_no_set_of_selectors_is_refused() {
        let sound = wire("unix", "uid:1");
        refuses(
            vec![sound.clone(), wire("Unix", "uid:1")],
            "selectors[1].type: selector kind `Unix` is not 1 to 64 characters of `a-z 0-9 _ -`",
        );
        refuses(
            vec![wire("unix", "")],
            "selectors[0].value: a selector value has 1 to 4200 bytes, not 0",
        );
        refuses(
            vec![wire("unix", "a\0b")],
            "selectors[0].value: a selector value holds no control characters",
        );
        refuses(vec![sound.clone(), sound.clone()], "selectors[1]: `unix:uid:1` is listed twice");
        refuses(vec![sound; 3], "selectors: has 3 elements; at most 2 are allowed");
    }
}
