//! For whom a token is, and how its holder binds it to a key.
//!
//! Whoever asks an issuer for a token often chooses the audience, and nothing else in it. So that is
//! where a binding goes: the audience `A` becomes `A#` and the base64url of the short form of
//! [`Binding::digest`] with an empty nonce. The token's own times and its single use show that it is
//! fresh. Nobody can present such a token with another key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_core::evidence::{Binding, Bond};

/// The longest audience, in bytes, without a binding.
pub const MAX_AUDIENCE: usize = 512;

/// Whether `audience` can be told from one with a binding: 1 to [`MAX_AUDIENCE`] visible ASCII
/// characters, and no `#`.
#[must_use]
pub fn is_sound(audience: &str) -> bool {
    (1..=MAX_AUDIENCE).contains(&audience.len())
        && audience.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// The audience to ask for, so that the token is bound as `binding` says.
#[must_use]
pub fn bound(audience: &str, binding: &Binding) -> String {
    let short = binding.digest(b"").short();
    format!("{audience}#{}", URL_SAFE_NO_PAD.encode(short))
}

/// Whether `claimed` is `audience`, with or without a binding.
#[must_use]
pub fn is_for(claimed: &str, audience: &str) -> bool {
    claimed.split_once('#').map_or(claimed, |(audience, _)| audience) == audience
}

/// What keeps others from presenting a token for `claimed`: nothing if that is `audience` itself,
/// the key if it is bound as `binding` says. `None` if it is for somebody else, or bound otherwise.
#[must_use]
pub fn bond(claimed: &str, audience: &str, binding: Option<&Binding>) -> Option<Bond> {
    if claimed == audience {
        return Some(Bond::Bearer);
    }
    (claimed == bound(audience, binding?)).then_some(Bond::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(key: &[u8]) -> Binding {
        Binding::new("oidc", key, &"example.org".parse().unwrap())
    }

    #[test]
    fn a_token_is_bound_to_one_key_or_to_none() {
        let (ours, other) = (binding(b"key"), binding(b"other"));
        let claimed = bound("https://claviger", &ours);
        assert_eq!(claimed.len(), "https://claviger#".len() + 43);
        let bond = |claimed: &str, binding| bond(claimed, "https://claviger", binding);
        assert_eq!(bond(&claimed, Some(&ours)), Some(Bond::Key));
        assert_eq!(bond(&claimed, Some(&other)), None);
        assert_eq!(bond(&claimed, None), None);
        assert_eq!(bond("https://claviger", Some(&ours)), Some(Bond::Bearer));
        assert_eq!(bond("https://claviger", None), Some(Bond::Bearer));
        for others in ["", "https://claviger/", "https://claviger#", "https://clavige", "#"] {
            assert_eq!(bond(others, Some(&ours)), None, "{others}");
        }
        assert_eq!(bond(&format!("{claimed}="), Some(&ours)), None);
        assert_eq!(bond(&bound("https://other", &ours), Some(&ours)), None);
    }

    #[test]
    fn a_binding_does_not_change_for_whom_a_token_is() {
        assert!(is_for("a", "a") && is_for(&bound("a", &binding(b"k")), "a") && is_for("a#x", "a"));
        assert!(!is_for("ab", "a") && !is_for("b#x", "a") && !is_for("#a", "a"));
    }

    #[test]
    fn an_audience_can_be_told_from_one_with_a_binding() {
        for good in ["claviger", "https://claviger.example.org/a?b"] {
            assert!(is_sound(good), "{good}");
        }
        for bad in ["", "a b", "a#b", "ä", "a\n", &"a".repeat(513)] {
            assert!(!is_sound(bad), "{bad}");
        }
    }
}
