//! Generations of processors, each with a root of its own.

use std::fmt;

use serde::Deserialize;

/// A generation of EPYC processors, as AMD's key distribution service names it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// The third generation.
    Milan,
    /// The fourth, with those that are also called Bergamo and Siena.
    Genoa,
    /// The fifth.
    Turin,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// AMD's name for it, which its certificates carry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The generation that AMD calls so.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// The generation of a processor by its family and model, extensions included, as CPUID
    /// Fn8000_0001 has them.
    #[must_use]
    pub const fn of_cpu(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x1f) => Some(Self::Turin),
            _ => None,
        }
    }

    /// Whether a certificate whose `productName` this is belongs to a processor of this generation.
    /// Certificates of chips add the stepping, as in `Milan-B0`.
    pub(super) fn is_named_by(self, product_name: &str) -> bool {
        let name = product_name.split_once('-').map_or(product_name, |(name, _stepping)| name);
        let others: &[&str] = match self {
            Self::Genoa => &["Bergamo", "Siena"],
            Self::Milan | Self::Turin => &[],
        };
        name == self.name() || others.contains(&name)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_ascii_lowercase())
    }
}
