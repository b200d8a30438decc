//! Maps and arrays of CBOR whose length is written ahead, or whose end is marked.

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};

/// What is left of a map or an array. The hypervisor writes both forms (RFC 8949 §3.2.2).
#[derive(Debug)]
pub(super) enum Entries {
    Counted(u64),
    Marked,
}

impl Entries {
    pub(super) fn of_map(decoder: &mut Decoder<'_>) -> Result<Self, Error> {
        decoder.map().map(Self::new)
    }

    pub(super) fn of_array(decoder: &mut Decoder<'_>) -> Result<Self, Error> {
        decoder.array().map(Self::new)
    }

    fn new(length: Option<u64>) -> Self {
        length.map_or(Self::Marked, Self::Counted)
    }

    /// Whether another entry follows.
    pub(super) fn next(&mut self, decoder: &mut Decoder<'_>) -> Result<bool, Error> {
        match self {
            Self::Counted(0) => Ok(false),
            Self::Counted(left) => {
                *left = left.saturating_sub(1);
                Ok(true)
            }
            Self::Marked if decoder.datatype()? == Type::Break => {
                decoder.set_position(decoder.position().saturating_add(1));
                *self = Self::Counted(0);
                Ok(false)
            }
            Self::Marked => Ok(true),
        }
    }
}
