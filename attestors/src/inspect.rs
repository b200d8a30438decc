//! Evidence in a file, for people: what it says, and which rules it keeps.
//!
//! Each kind has a function `inspect` that reads a document of its own, and goes through the rules by
//! which its verifier admits.

use claviger_core::time::UnixTime;

use crate::checklist::Checklist;
use crate::references;

/// What a document says and which rules it keeps.
#[derive(Debug)]
pub struct Inspection {
    /// The kind of evidence.
    pub kind: &'static str,
    /// What is in it, in the order in which people want to read it: names, and values as text.
    pub fields: Vec<(String, String)>,
    /// What became of each rule.
    pub checks: Checklist,
}

/// What a document is judged by. What is missing leaves the rules open that need it.
#[derive(Debug)]
pub struct Given {
    /// The time for which it is judged; none for the document's own time, if it has one.
    pub at: Option<UnixTime>,
    /// The nonce that it has to carry.
    pub nonce: Option<Vec<u8>>,
    /// What it has to be bound to: the bytes that it has to carry where its kind has room for them,
    /// such as `user_data` or `report_data`.
    pub binding: Option<Vec<u8>>,
    /// Certificates that come beside it, each as DER, in any order: a VCEK, an EK certificate.
    pub certificates: Vec<Vec<u8>>,
    /// Roots, each as DER, that are trusted instead of the vendor's.
    pub roots: Vec<Vec<u8>>,
    /// What else comes beside it, such as the collateral of a quote.
    pub collateral: Option<Vec<u8>>,
    /// What its software has to be: the file of reference values.
    pub references: Option<references::Config>,
    /// Whether a machine in debug mode will do.
    pub allow_debug: bool,
}
