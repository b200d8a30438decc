//! Whether a device's certificates still count.
//!
//! A certificate says nothing of what became of it since. NVIDIA says so by OCSP
//! (<https://ocsp.ndis.nvidia.com>): a device that is known to be broken into is revoked, and one that
//! was never meant for customers is on hold. The server asks nobody; it reads the responses that the
//! operator's own job fetches into a folder.

use std::path::Path;

use claviger_core::time::UnixTime;

use super::chain::{Chain, name, serial};
use super::config::Revocation;
use super::ocsp::{self, Response, Status};
use crate::files;

/// The reason `certificateHold` (RFC 5280 §5.3.1).
const HOLD: u8 = 6;

impl Revocation {
    /// That none of the certificates in `chain` that can be revoked is, at `now`.
    pub(super) fn check(&self, chain: &Chain<'_>, now: UnixTime) -> Result<(), String> {
        let Self::Responses(folder) = self else { return Ok(()) };
        for (certificate, issuer) in chain.revocable() {
            // Nothing but hexadecimal digits, of which X.509 has no more than forty.
            let file = folder.join(format!("{}.ocsp", serial(certificate)));
            let bytes = read(&file)?;
            let unusable = |why: &str| format!("`{}`: {why}", file.display());
            let response = Response::parse(&bytes)
                .ok_or_else(|| unusable("it is no successful OCSP response"))?;
            let status = response.status(certificate, issuer, now);
            let verdict = match status.map_err(unusable)? {
                Status::Good => continue,
                Status::Revoked(Some(HOLD)) => "is on hold",
                Status::Revoked(_) => "is revoked",
                Status::Unknown => "is not known to its authority",
            };
            return Err(format!("{} {verdict}", name(certificate)));
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    files::read(file, ocsp::MAX)
        .map(|bytes| bytes.to_vec())
        .map_err(|error| format!("no OCSP response can be read from `{}`: {error}", file.display()))
}
