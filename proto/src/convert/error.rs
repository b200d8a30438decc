use claviger_core::der::DerError;
use claviger_core::entry::EntryError;
use claviger_core::id::ParseIdError;
use claviger_core::jose::key::KeyError;
use claviger_core::selector::ParseSelectorError;
use claviger_core::standing::ParseRiskError;
use claviger_core::svid::{ParseDnsNameError, SvidTtlError};

/// A field of a message does not say what it should.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Where, as a path from the outermost message, such as `selectors[2].type`.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

impl FieldError {
    /// `problem` in `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same, seen from the message that holds this one in its field `outer`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// What can be wrong with a field.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A required message is not there.
    #[error("is missing")]
    Missing,
    /// A list is longer than it may be.
    #[error("has {count} elements; at most {max} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A list has an element twice.
    #[error("`{0}` is listed twice")]
    Repeated(String),
    /// A count, revision or span is below zero.
    #[error("{0} is negative")]
    Negative(i64),
    /// Not a number of seconds since the epoch.
    #[error("{0} is no time between the years 1970 and 9999")]
    Time(i64),
    /// A key's name is empty or too long.
    #[error("has {0} bytes; a key's name has 1 to 255")]
    KeyId(usize),
    /// A URI with a path stands where a trust domain should.
    #[error("a trust domain has no path; write `example.org` or `spiffe://example.org`")]
    NotATrustDomain,
    /// Not a SPIFFE ID, or not a part of one.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// Not a selector.
    #[error(transparent)]
    Selector(#[from] ParseSelectorError),
    /// Not an entry's name.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Not a DNS name.
    #[error(transparent)]
    DnsName(#[from] ParseDnsNameError),
    /// Not a lifetime for an SVID.
    #[error(transparent)]
    Ttl(#[from] SvidTtlError),
    /// Not a risk.
    #[error(transparent)]
    Risk(#[from] ParseRiskError),
    /// Not a public key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a certificate.
    #[error(transparent)]
    Der(#[from] DerError),
}
