//! AMD's certificates: for each generation of processors a root (ARK), and below it an authority for
//! the keys of chips (ASK) and one for those that are lent to clouds (ASVK).
//!
//! AMD publishes them at `https://kdsintf.amd.com/vcek/v1/<product>/cert_chain` (ASK and ARK) and at
//! `https://kdsintf.amd.com/vlek/v1/<product>/cert_chain` (ASVK and ARK). Their SHA-256:
//!
//! | file | SHA-256 |
//! |---|---|
//! | `milan_ark.der` | `69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd` |
//! | `milan_ask.der` | `67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b` |
//! | `milan_asvk.der` | `c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5` |
//! | `genoa_ark.der` | `4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1` |
//! | `genoa_ask.der` | `5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521` |
//! | `genoa_asvk.der` | `197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372` |
//! | `turin_ark.der` | `1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a` |
//! | `turin_ask.der` | `5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185` |
//! | `turin_asvk.der` | `104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c` |

use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;

use super::certificate::{self, Period, common_name, is_signed};
use super::product::Product;
use super::report::SigningKey;
use crate::possession::rsa::RsaKey;

/// AMD's certificates, in the order of the table above.
pub(super) const AMD: [&[u8]; 9] = [
    include_bytes!("roots/milan_ark.der"),
    include_bytes!("roots/milan_ask.der"),
    include_bytes!("roots/milan_asvk.der"),
    include_bytes!("roots/genoa_ark.der"),
    include_bytes!("roots/genoa_ask.der"),
    include_bytes!("roots/genoa_asvk.der"),
    include_bytes!("roots/turin_ark.der"),
    include_bytes!("roots/turin_ask.der"),
    include_bytes!("roots/turin_asvk.der"),
];

/// The size of AMD's keys, and the largest that is computed with.
const MAX_BITS: usize = 4_096;

/// Who may certify the keys that reports are signed with.
///
/// Invariant: every one of them is a root that signed itself, or is signed by the root of its product.
#[derive(Debug)]
pub(super) struct Roots {
    arks: Vec<Authority>,
    signers: Vec<Authority>,
}

/// Somebody who certifies others.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) role: Role,
    pub(super) product: Product,
    /// The subject as it is encoded, and the issuer.
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) period: Period,
    pub(super) key: RsaKey,
}

/// What an authority certifies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Authorities.
    Ark,
    /// The keys of chips.
    Ask,
    /// Keys that are lent to clouds.
    Asvk,
}

impl Role {
    /// Which, and of which product, by a common name.
    pub(super) fn named(name: &str) -> Option<(Self, Product)> {
        let roles = [("ARK-", Self::Ark), ("SEV-VLEK-", Self::Asvk), ("SEV-", Self::Ask)];
        roles.into_iter().find_map(|(prefix, role)| {
            let product = Product::named(name.strip_prefix(prefix)?)?;
            Some((role, product))
        })
    }

    /// What it certifies.
    pub(super) const fn certifies(self) -> SigningKey {
        match self {
            Self::Ark => SigningKey::Other,
            Self::Ask => SigningKey::Vcek,
            Self::Asvk => SigningKey::Vlek,
        }
    }
}

impl Roots {
    /// AMD's.
    pub(super) fn amd() -> Result<Self, RootsError> {
        Self::of(&AMD)
    }

    /// These certificates, in any order: roots, and authorities that they signed.
    pub(super) fn of<D: AsRef<[u8]>>(ders: &[D]) -> Result<Self, RootsError> {
        let certificates = ders.iter().map(|der| {
            let certificate = certificate::parse(der.as_ref()).ok_or(RootsError::Form)?;
            Ok((Authority::read(&certificate)?, certificate))
        });
        let certificates: Vec<_> = certificates.collect::<Result<_, RootsError>>()?;
        let is_root = |(authority, _): &(Authority, _)| authority.role == Role::Ark;
        let (roots, others): (Vec<_>, Vec<_>) = certificates.into_iter().partition(is_root);
        let mut arks = Vec::new();
        for (ark, certificate) in roots {
            if !ark.signed(&certificate) {
                return Err(RootsError::Signature { product: ark.product });
            }
            arks.push(ark);
        }
        let mut signers = Vec::new();
        for (signer, certificate) in others {
            let product = signer.product;
            let mut roots = arks.iter().filter(|ark| ark.product == product);
            if !roots.any(|ark| ark.signed(&certificate)) {
                return Err(RootsError::Signature { product });
            }
            signers.push(signer);
        }
        Ok(Self { arks, signers })
    }

    /// The root of a product.
    pub(super) fn ark(&self, product: Product) -> Option<&Authority> {
        self.arks.iter().find(|ark| ark.product == product)
    }

    /// Who certifies keys in this role for a product.
    pub(super) fn signer(&self, role: Role, product: Product) -> Option<&Authority> {
        self.signers.iter().find(|signer| signer.role == role && signer.product == product)
    }
}

impl Authority {
    fn read(certificate: &X509Certificate<'_>) -> Result<Self, RootsError> {
        let named = common_name(certificate.subject()).and_then(Role::named);
        let (role, product) = named.ok_or(RootsError::Name)?;
        let constraints = certificate.basic_constraints().ok().flatten();
        let usage = certificate.key_usage().ok().flatten().map(|usage| usage.value);
        // A root leads to one authority, and that to no other (57230, tables 2 and 5).
        let may_certify = constraints.is_some_and(|constraints| {
            let leads_to = constraints.value.path_len_constraint;
            constraints.critical
                && constraints.value.ca
                && (role == Role::Ark || leads_to == Some(0))
        }) && usage
            .is_some_and(|usage| usage.key_cert_sign() && (role != Role::Ark || usage.crl_sign()));
        if !may_certify {
            return Err(RootsError::Purpose { product });
        }
        let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else {
            return Err(RootsError::Key { product });
        };
        let key = RsaKey::measure(key.modulus, key.exponent, MAX_BITS)
            .map_err(|_size| RootsError::Key { product })?;
        Ok(Self {
            role,
            product,
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            serial: certificate.raw_serial().to_vec(),
            period: Period::of(certificate.validity()),
            key,
        })
    }

    /// Whether it signed `certificate`, which names it.
    pub(super) fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        certificate.issuer().as_raw() == self.subject
            && is_signed(certificate.as_raw(), &certificate.signature_algorithm, &self.key)
    }
}

/// These certificates are nobody's whom reports can be traced to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RootsError {
    /// One is no certificate.
    #[error("a root is no certificate in DER")]
    Form,
    /// One is named otherwise than AMD names its authorities.
    #[error(
        "a root is not named `ARK-<product>`, `SEV-<product>` or `SEV-VLEK-<product>`, or the product \
         is unknown"
    )]
    Name,
    /// One is not for certifying others.
    #[error("a certificate for {product} is not for certifying others")]
    Purpose {
        /// Of which product.
        product: Product,
    },
    /// One has no RSA key, or one that is too large.
    #[error("a certificate for {product} has no RSA key of at most 4096 bits")]
    Key {
        /// Of which product.
        product: Product,
    },
    /// One is not signed by its root, or its root is missing.
    #[error("a certificate for {product} is not signed by the root that it should be")]
    Signature {
        /// Of which product.
        product: Product,
    },
}
