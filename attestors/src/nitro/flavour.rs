//! What differs between the two kinds of documents, and the rules for both.

use crate::checklist::Rule;
use crate::references::Registers;

use super::{REGISTER, document};

/// A kind of document.
#[derive(Debug)]
pub(crate) struct Flavour {
    /// Its name on the wire.
    pub(crate) kind: &'static str,
    /// What the document calls its registers.
    pub(crate) registers: &'static str,
    /// The registers that the hypervisor fills at launch, unless it launches in debug mode. Empty if
    /// there is no such mode.
    pub(crate) launch: &'static [u8],
    pub(crate) references: &'static Registers,
    pub(crate) rules: &'static Rules,
}

/// Every rule that a document has to keep, in the order in which they are looked at.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) size: Rule,
    pub(crate) envelope: Rule,
    pub(crate) algorithm: Rule,
    pub(crate) payload: Rule,
    pub(crate) freshness: Rule,
    pub(crate) nonce: Rule,
    pub(crate) binding: Rule,
    pub(crate) public_key: Rule,
    pub(crate) root: Rule,
    pub(crate) chain: Rule,
    pub(crate) validity: Rule,
    pub(crate) signature: Rule,
    pub(crate) debug: Rule,
    pub(crate) debug_parent: Rule,
    pub(crate) software: Rule,
}

impl Rules {
    /// The rules that need the payload.
    pub(crate) const fn about_the_payload(&'static self) -> [&'static Rule; 10] {
        [
            &self.freshness,
            &self.nonce,
            &self.binding,
            &self.public_key,
            &self.root,
            &self.chain,
            &self.validity,
            &self.signature,
            &self.debug,
            &self.software,
        ]
    }
}

/// The rules of the kind with this name.
macro_rules! rules {
    ($kind:literal) => {
        $crate::nitro::Rules {
            size: rules!($kind, "size", "it is no longer than a document can be"),
            envelope: rules!(
                $kind,
                "envelope",
                "it is one COSE_Sign1 structure with an empty unprotected header, and nothing more"
            ),
            algorithm: rules!($kind, "algorithm", "its protected header says ES384 and nothing else"),
            payload: rules!(
                $kind,
                "payload",
                "it has the fields that AWS describes, each once and within its bounds"
            ),
            freshness: rules!($kind, "freshness", "it was made within five minutes of now"),
            nonce: rules!($kind, "nonce", "it carries the nonce that the verifier gave"),
            binding: rules!(
                $kind,
                "binding",
                "its user data is the digest of the key, the trust domain and the kind that it is for"
            ),
            public_key: rules!(
                $kind,
                "public_key",
                "if it carries a public key, that is the one it earns a certificate for"
            ),
            root: rules!($kind, "root", "its chain of certificates begins with the trusted root"),
            chain: rules!(
                $kind,
                "chain",
                "each certificate was issued by the one before, which may, on P-384 with SHA-384"
            ),
            validity: rules!($kind, "validity", "every certificate is valid at the time"),
            signature: rules!($kind, "signature", "the key of the last certificate signed it"),
            debug: rules!(
                $kind,
                "debug",
                "PCR0 to PCR2 are measured, as they are not in debug mode, or that mode is allowed"
            ),
            debug_parent: rules!(
                $kind,
                "debug_parent",
                "an enclave in debug mode has a parent whose such enclaves are allowed"
            ),
            software: rules!($kind, "software", "what was measured is known"),
        }
    };
    ($kind:literal, $about:literal, $says:literal) => {
        $crate::checklist::Rule::new(concat!($kind, ".", $about), $says)
    };
}
pub(crate) use rules;

/// The length of the register called `name`, such as `pcr8`, if there is one.
pub(crate) fn register(name: &str) -> Option<usize> {
    (0..document::REGISTERS).any(|index| name == format!("pcr{index}")).then_some(REGISTER)
}
