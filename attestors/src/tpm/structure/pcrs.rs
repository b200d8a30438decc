//! Selections of platform configuration registers, and what is in them (Part 2 §10.5, §10.9).

use std::collections::{BTreeMap, BTreeSet};

use super::{Hash, Malformed, Reader, Writer};

/// How many registers there are in a bank.
pub(in crate::tpm) const COUNT: u8 = 24;

/// Registers of one bank.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Selection {
    pub(in crate::tpm) bank: Hash,
    /// Their numbers, below [`COUNT`].
    pub(in crate::tpm) pcrs: BTreeSet<u8>,
}

impl Selection {
    /// A `TPML_PCR_SELECTION` with one bank in it. TPMs can select in several; nobody asks them to.
    pub(in crate::tpm) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.u32()? != 1 {
            return Err(Malformed("the PCRs are not of one bank"));
        }
        let bank = Hash::parse(reader.u16()?)?;
        let size = usize::from(reader.byte()?);
        if !(1..=4).contains(&size) {
            return Err(Malformed("a selection of PCRs has no possible length"));
        }
        let bitmap = reader.take(size)?;
        let mut pcrs = BTreeSet::new();
        for (first, bits) in (0u8..).step_by(8).zip(bitmap) {
            let selected = (0..8u8).filter(|bit| bits >> bit & 1 == 1);
            pcrs.extend(selected.map(|bit| first.saturating_add(bit)));
        }
        if pcrs.last().is_some_and(|last| COUNT <= *last) {
            return Err(Malformed("it selects a PCR that does not exist"));
        }
        Ok(Self { bank, pcrs })
    }

    pub(in crate::tpm) fn write(&self, writer: Writer) -> Writer {
        let bits = |first: u8| {
            let here = (0..8u8).filter(|bit| self.pcrs.contains(&first.saturating_add(*bit)));
            here.fold(0u8, |bits, bit| bits | 1 << bit)
        };
        let writer = writer.u32(1).u16(self.bank.number()).u8(3);
        writer.u8(bits(0)).u8(bits(8)).u8(bits(16))
    }

    /// `sha256:0,2,4`.
    pub(in crate::tpm) fn text(&self) -> String {
        let pcrs: Vec<String> = self.pcrs.iter().map(ToString::to_string).collect();
        format!("{}:{}", self.bank.name(), pcrs.join(","))
    }
}

/// What is in registers of one bank.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Pcrs {
    pub(in crate::tpm) bank: Hash,
    /// By number.
    pub(in crate::tpm) values: BTreeMap<u8, Vec<u8>>,
}

impl Pcrs {
    /// The digest that a quote carries of them (`TPMS_QUOTE_INFO`): the values in the order of their
    /// numbers, by the hash algorithm of the key that signs.
    pub(in crate::tpm) fn digest(&self, hash: Hash) -> Vec<u8> {
        let values: Vec<u8> = self.values.values().flatten().copied().collect();
        hash.of(&values).as_ref().to_vec()
    }

    /// Whether these are the registers of `selection`, each as long as it is in its bank.
    pub(in crate::tpm) fn are(&self, selection: &Selection) -> bool {
        self.bank == selection.bank
            && self.values.keys().eq(&selection.pcrs)
            && self.values.values().all(|value| value.len() == self.bank.length())
    }
}
