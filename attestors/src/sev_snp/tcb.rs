//! Versions of the firmware that a guest has to trust (publication 56860, TCB_VERSION).

use super::product::Product;

/// A part of the firmware with a security version of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Component {
    Fmc,
    Bootloader,
    Tee,
    Snp,
    Microcode,
}

impl Component {
    pub(super) const ALL: [Self; 5] =
        [Self::Fmc, Self::Bootloader, Self::Tee, Self::Snp, Self::Microcode];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fmc => "fmc",
            Self::Bootloader => "bootloader",
            Self::Tee => "tee",
            Self::Snp => "snp",
            Self::Microcode => "microcode",
        }
    }

    /// At which byte of a TCB_VERSION it is. Turin has another layout than those before it, and only
    /// Turin has an FMC.
    const fn offset(self, product: Product) -> Option<usize> {
        match (product, self) {
            (Product::Turin, Self::Fmc) => Some(0),
            (Product::Turin, Self::Bootloader) => Some(1),
            (Product::Turin, Self::Tee) => Some(2),
            (Product::Turin, Self::Snp) => Some(3),
            (Product::Milan | Product::Genoa, Self::Fmc) => None,
            (Product::Milan | Product::Genoa, Self::Bootloader) => Some(0),
            (Product::Milan | Product::Genoa, Self::Tee) => Some(1),
            (Product::Milan | Product::Genoa, Self::Snp) => Some(6),
            (_, Self::Microcode) => Some(7),
        }
    }
}

/// A TCB_VERSION as it is written. What it means depends on the product.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TcbVersion(pub(super) [u8; 8]);

impl TcbVersion {
    /// The version of each part that a product has.
    pub(super) fn components(self, product: Product) -> impl Iterator<Item = (Component, u8)> {
        Component::ALL.into_iter().filter_map(move |component| {
            let version = self.0.get(component.offset(product)?)?;
            Some((component, *version))
        })
    }

    /// The first part that is older than in `other`, which is of the same product.
    pub(super) fn behind(self, other: Self, product: Product) -> Option<Component> {
        let pairs = self.components(product).zip(other.components(product));
        pairs.filter(|((_, own), (_, other))| own < other).map(|((part, _), _)| part).next()
    }

    /// As people read it.
    pub(super) fn describe(self, product: Option<Product>) -> String {
        let Some(product) = product else { return hex::encode(self.0) };
        let parts = self.components(product).map(|(part, version)| {
            let name = part.name();
            format!("{name} {version}")
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Which of the extensions `1.3.6.1.4.1.3704.1.3.*` of a certificate says what belongs at each byte of
/// a TCB_VERSION (publication 57230, table 8), and whether it has to be there: those that stand for
/// reserved bytes need not.
pub(super) const fn extensions(product: Product) -> [(u8, bool); 8] {
    match product {
        Product::Milan | Product::Genoa => [
            (1, true),
            (2, true),
            (4, false),
            (5, false),
            (6, false),
            (7, false),
            (3, true),
            (8, true),
        ],
        Product::Turin => [
            (9, true),
            (1, true),
            (2, true),
            (3, true),
            (5, false),
            (6, false),
            (7, false),
            (8, true),
        ],
    }
}
