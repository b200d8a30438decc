//! What a device signs: an SPDM request `GET_MEASUREMENTS` and the response `MEASUREMENTS` to it (DMTF
//! DSP0274 1.1, §10.11). Numbers are little-endian.

use std::collections::BTreeMap;

use super::opaque::Opaque;

/// The largest request and response, in bytes: what NVML has room for.
pub(super) const MAX: usize = 8_192;

/// SPDM 1.1. From 1.2 on, more is signed than what is here, so those are refused.
const VERSION: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// The device is to sign.
const SIGNATURE_REQUESTED: u8 = 1;
/// All measurements are asked for.
const ALL: u8 = 0xff;
/// The part of a byte that names the certificates that the device answers with.
const SLOT: u8 = 0x0f;
/// A measurement as DMTF specifies it.
const DMTF: u8 = 1;
/// The value is what was measured, and no digest of it.
const RAW: u8 = 0x80;
/// The most bytes of opaque data (§10.11.2).
const MAX_OPAQUE: u16 = 1_024;
/// ECDSA on P-384: two numbers of 48 bytes.
const SIGNATURE: usize = 96;

/// These bytes are no such thing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(super) &'static str);

/// Takes bytes from the front of others.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }
}

/// One thing that a device measured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Measurement {
    /// What it is of: firmware, configuration … (DSP0274 §10.11.1.1), in the lower seven bits.
    pub kind: u8,
    /// The value: a digest, unless the highest bit of `kind` says that it is what was measured itself.
    pub value: Vec<u8>,
}

impl Measurement {
    /// Whether it is a digest.
    #[must_use]
    pub const fn is_digest(&self) -> bool {
        self.kind & RAW == 0
    }
}

/// A request and the response to it. Nothing of it is verified.
#[derive(Debug)]
pub struct Report {
    /// The verifier's.
    pub(super) nonce: [u8; 32],
    /// By their index, which begins with 1.
    pub(super) measurements: BTreeMap<u8, Measurement>,
    pub(super) opaque: Opaque,
    /// What is signed: all but the signature.
    pub(super) signed: Vec<u8>,
    pub(super) signature: [u8; SIGNATURE],
}

impl Report {
    /// Takes a request and the response to it apart.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if they are something else, or if there is a byte more or less.
    pub fn parse(whole: &[u8]) -> Result<Self, Malformed> {
        if MAX < whole.len() {
            return Err(Malformed("it has more than 8192 bytes"));
        }
        let mut bytes = Bytes(whole);
        let (nonce, slot) = request(&mut bytes)?;
        let measurements = response(&mut bytes, slot)?;
        // The device's own nonce: it makes the signature differ each time, and says nothing.
        let _device: [u8; 32] = bytes.array()?;
        let length = bytes.u16()?;
        if MAX_OPAQUE < length {
            return Err(Malformed("its opaque data has more than 1024 bytes"));
        }
        let opaque = Opaque::parse(bytes.take(length.into())?)?;
        let signed = whole.len().checked_sub(bytes.0.len()).and_then(|end| whole.get(..end));
        let signed = signed.unwrap_or_default().to_vec();
        let signature = bytes.0.try_into();
        let signature =
            signature.map_err(|_other| Malformed("what follows is no signature of 96 bytes"))?;
        Ok(Self { nonce, measurements, opaque, signed, signature })
    }

    /// What the device measured, by the number that it gives to each.
    #[must_use]
    pub const fn measurements(&self) -> &BTreeMap<u8, Measurement> {
        &self.measurements
    }
}

/// The nonce of the request, and the slot that it asks for.
fn request(bytes: &mut Bytes<'_>) -> Result<([u8; 32], u8), Malformed> {
    let [version, code, attributes, operation] = bytes.array()?;
    if version != VERSION {
        return Err(Malformed("the request is not one of SPDM 1.1"));
    }
    if code != GET_MEASUREMENTS {
        return Err(Malformed("the request does not get measurements"));
    }
    if attributes & SIGNATURE_REQUESTED == 0 || operation != ALL {
        return Err(Malformed("the request does not get all measurements with a signature"));
    }
    let nonce = bytes.array()?;
    let [slot] = bytes.array()?;
    Ok((nonce, slot & SLOT))
}

/// The measurements of the response, which has to answer for the same slot.
fn response(bytes: &mut Bytes<'_>, slot: u8) -> Result<BTreeMap<u8, Measurement>, Malformed> {
    let [version, code, _reserved, answered, count, a, b, c] = bytes.array()?;
    if version != VERSION || code != MEASUREMENTS {
        return Err(Malformed("the response does not give measurements as SPDM 1.1 does"));
    }
    if answered & SLOT != slot {
        return Err(Malformed("the response is for other certificates than were asked for"));
    }
    let length = u32::from_le_bytes([a, b, c, 0]);
    let record = bytes.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    let mut blocks = Bytes(record);
    let mut measurements = BTreeMap::new();
    for _ in 0..count {
        let (index, measurement) = block(&mut blocks)?;
        if measurements.insert(index, measurement).is_some() {
            return Err(Malformed("a measurement comes twice"));
        }
    }
    if !blocks.0.is_empty() || measurements.is_empty() {
        return Err(Malformed("there are more or fewer measurements than it says"));
    }
    Ok(measurements)
}

fn block(blocks: &mut Bytes<'_>) -> Result<(u8, Measurement), Malformed> {
    let [index, specification] = blocks.array()?;
    if specification != DMTF || index == 0 || index == u8::MAX {
        return Err(Malformed("a measurement is not as DMTF specifies them"));
    }
    let size = blocks.u16()?;
    let mut inside = Bytes(blocks.take(size.into())?);
    let [kind] = inside.array()?;
    let size = inside.u16()?;
    let value = inside.take(size.into())?.to_vec();
    if !inside.0.is_empty() {
        return Err(Malformed("a measurement is longer than its value"));
    }
    Ok((index, Measurement { kind, value }))
}
