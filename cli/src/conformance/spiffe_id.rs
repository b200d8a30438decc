//! SPIFFE IDs, judged by the text of the standard alone: deliberately not the parser that the rest
//! of this program uses, because a mistake in it would hide itself.

/// A well-formed SPIFFE ID in its one spelling.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SpiffeId<'a> {
    pub(super) trust_domain: &'a str,
    /// Empty, or from its first slash.
    pub(super) path: &'a str,
}

/// Which check an ID fails, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Flaw {
    pub(super) check: u8,
    pub(super) why: &'static str,
}

const fn flaw(check: u8, why: &'static str) -> Flaw {
    Flaw { check, why }
}

/// Reads an ID as its issuer has to write it.
pub(super) fn parse(id: &str) -> Result<SpiffeId<'_>, Flaw> {
    let rest = id.strip_prefix("spiffe://").ok_or(flaw(18, "does not begin with spiffe://"))?;
    if rest.contains(['?', '#']) {
        return Err(flaw(18, "has a query or a fragment"));
    }
    let (trust_domain, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    if trust_domain.is_empty() {
        return Err(flaw(18, "has no trust domain"));
    }
    if trust_domain.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(flaw(22, "has capital letters in its trust domain"));
    }
    let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if !trust_domain.bytes().all(named) {
        return Err(flaw(19, "has a character in its trust domain that no trust domain has"));
    }
    if id.len() > 2048 || trust_domain.len() > 255 {
        return Err(flaw(21, "is too long"));
    }
    let segment = |segment: &str| {
        !["", ".", ".."].contains(&segment)
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
    };
    match path.strip_prefix('/') {
        Some(path) if !path.split('/').all(segment) => {
            Err(flaw(20, "has a path segment that is empty, relative or of other characters"))
        }
        Some(_) | None => Ok(SpiffeId { trust_domain, path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_split_at_its_first_slash() {
        let id = |trust_domain, path| Ok(SpiffeId { trust_domain, path });
        assert_eq!(parse("spiffe://example.org"), id("example.org", ""));
        assert_eq!(parse("spiffe://a_b-c.1/X/y_z-.0"), id("a_b-c.1", "/X/y_z-.0"));
        assert_eq!(parse("spiffe://1.2.3.4/..."), id("1.2.3.4", "/..."));
        let long = format!("spiffe://{}/{}", "a".repeat(255), "b".repeat(2048 - 265));
        assert_eq!(long.len(), 2048);
        parse(&long).unwrap();
    }

    #[test]
    fn each_flaw_belongs_to_its_check() {
        for (check, id) in [
            (18, "example.org/x"),
            (18, "SPIFFE://example.org/x"),
            (18, "spiffe:/example.org/x"),
            (18, "spiffe:///x"),
            (18, "spiffe://example.org/x?y"),
            (18, "spiffe://example.org/x#y"),
            (19, "spiffe://u@example.org/x"),
            (19, "spiffe://example.org:1/x"),
            (19, "spiffe://ex%61mple.org/x"),
            (19, "spiffe://[::1]/x"),
            (20, "spiffe://example.org/"),
            (20, "spiffe://example.org/x/"),
            (20, "spiffe://example.org//x"),
            (20, "spiffe://example.org/./x"),
            (20, "spiffe://example.org/x/.."),
            (20, "spiffe://example.org/%78"),
            (20, "spiffe://example.org/ü"),
            (22, "spiffe://Example.org/x"),
        ] {
            assert_eq!(parse(id).unwrap_err().check, check, "{id}");
        }
        let long = format!("spiffe://{}/b", "a".repeat(256));
        assert_eq!(parse(&long).unwrap_err().check, 21);
        let long = format!("spiffe://a/{}", "b".repeat(2048));
        assert_eq!(parse(&long).unwrap_err().check, 21);
    }
}
