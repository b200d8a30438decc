//! Bundles of other trust domains, printed.

use std::fmt;

use claviger_core::bundle::Bundle;
use claviger_core::id::TrustDomain;
use serde::Serialize;

use crate::console;

/// `{"bundles":[…]}`.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    pub(super) bundles: Vec<Summary>,
}

/// What is in a bundle.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    trust_domain: TrustDomain,
    /// The number that its owner gave it; 0 for none.
    sequence: u64,
    /// Seconds; 0 for no opinion.
    refresh_hint: u64,
    x509_authorities: usize,
    jwt_authorities: usize,
    wit_authorities: usize,
}

impl Summary {
    pub(super) fn of(bundle: &Bundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.clone(),
            sequence: bundle.sequence,
            refresh_hint: bundle.refresh_hint.map_or(0, |hint| hint.as_secs()),
            x509_authorities: bundle.x509_authorities.len(),
            jwt_authorities: bundle.jwt_authorities.len(),
            wit_authorities: bundle.wit_authorities.len(),
        }
    }

    fn row(&self) -> [String; 6] {
        let unless_zero = |number: u64, unit| match number {
            0 => "-".to_owned(),
            number => format!("{number}{unit}"),
        };
        [
            self.trust_domain.to_string(),
            self.x509_authorities.to_string(),
            self.jwt_authorities.to_string(),
            self.wit_authorities.to_string(),
            unless_zero(self.sequence, ""),
            unless_zero(self.refresh_hint, " s"),
        ]
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bundles.is_empty() {
            return f.write_str("no bundles of other trust domains");
        }
        let header = ["TRUST DOMAIN", "X.509 KEYS", "JWT KEYS", "WIT KEYS", "SEQUENCE", "REFRESH"];
        let rows = self.bundles.iter().map(Summary::row).collect();
        f.write_str(&console::table(header, rows))
    }
}

/// `{"deleted":"other.org"}`.
#[derive(Debug, Serialize)]
pub(super) struct Deleted {
    pub(super) deleted: TrustDomain,
}

impl fmt::Display for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deleted the bundle of {}", self.deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let one = Bundle { sequence: 7, ..Bundle::empty("a.org".parse().unwrap()) };
        let hint = Some(std::time::Duration::from_secs(300));
        let two = Bundle { refresh_hint: hint, ..Bundle::empty("b.example.org".parse().unwrap()) };
        Listing { bundles: vec![Summary::of(&one), Summary::of(&two)] }
    }

    #[test]
    fn a_table_shows_what_is_in_each_bundle() {
        let want = "\
TRUST DOMAIN   X.509 KEYS  JWT KEYS  WIT KEYS  SEQUENCE  REFRESH
a.org          0           0         0         7         -
b.example.org  0           0         0         -         300 s";
        assert_eq!(listing().to_string(), want);
        let none = Listing { bundles: Vec::new() };
        assert_eq!(none.to_string(), "no bundles of other trust domains");
    }

    #[test]
    fn json_says_the_same() {
        let mut listing = listing();
        listing.bundles.truncate(1);
        let want = r#"{"bundles":[{"trust_domain":"a.org","sequence":7,"refresh_hint":0,"#
            .to_owned()
            + r#""x509_authorities":0,"jwt_authorities":0,"wit_authorities":0}]}"#;
        assert_eq!(serde_json::to_string(&listing).unwrap(), want);
        let deleted = Deleted { deleted: "a.org".parse().unwrap() };
        assert_eq!(serde_json::to_string(&deleted).unwrap(), r#"{"deleted":"a.org"}"#);
    }
}
