//! X.509-SVIDs, printed.

use std::fmt;

use claviger_core::der::{self, DerError};
use claviger_proto::workload::{X509svid, X509svidResponse};
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::console;
use crate::times;

/// `{"svids":[…]}`. No key is in it.
#[derive(Debug, Serialize)]
pub(super) struct Svids {
    pub(super) svids: Vec<Svid>,
}

/// One X.509-SVID.
#[derive(Debug, Serialize)]
pub(super) struct Svid {
    pub(super) spiffe_id: String,
    /// Seconds since 1970.
    pub(super) expires_at: i64,
    hint: String,
    /// Hexadecimal.
    pub(super) serial_number: String,
    /// How many certificates there are, the leaf among them.
    chain_length: usize,
}

/// Why an SVID cannot be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ViewError {
    #[error("its chain {0}")]
    Chain(#[from] DerError),
    #[error("its leaf is not an X.509 certificate")]
    Leaf,
}

impl TryFrom<&X509svidResponse> for Svids {
    type Error = ViewError;

    fn try_from(response: &X509svidResponse) -> Result<Self, ViewError> {
        let svids = response.svids.iter().map(Svid::try_from).collect::<Result<_, _>>()?;
        Ok(Self { svids })
    }
}

impl TryFrom<&X509svid> for Svid {
    type Error = ViewError;

    fn try_from(wire: &X509svid) -> Result<Self, ViewError> {
        let chain = der::split(&wire.x509_svid)?;
        let leaf = chain.first().ok_or(ViewError::Leaf)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_detail| ViewError::Leaf)?;
        Ok(Self {
            spiffe_id: wire.spiffe_id.clone(),
            expires_at: leaf.validity().not_after.timestamp(),
            hint: wire.hint.clone(),
            serial_number: hex::encode(leaf.raw_serial()),
            chain_length: chain.len(),
        })
    }
}

impl fmt::Display for Svids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |svid: &Svid| {
            [
                svid.spiffe_id.clone(),
                times::show(svid.expires_at),
                svid.hint.clone(),
                svid.chain_length.to_string(),
                svid.serial_number.clone(),
            ]
        };
        let header = ["SPIFFE ID", "ENDS", "HINT", "CHAIN", "SERIAL"];
        f.write_str(&console::table(header, self.svids.iter().map(row).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svids() -> Svids {
        let der = include_str!("../bundle/testdata/p256.txt").lines().next().unwrap();
        let der = hex::decode(der).unwrap();
        let wire = X509svid {
            spiffe_id: "spiffe://example.org/web".into(),
            x509_svid: [der.clone(), der].concat().into(),
            x509_svid_key: b"secret".as_slice().into(),
            hint: "main".into(),
            ..X509svid::default()
        };
        let response = X509svidResponse { svids: vec![wire], ..X509svidResponse::default() };
        Svids::try_from(&response).unwrap()
    }

    #[test]
    fn the_table_has_one_row_for_each() {
        let want = "\
SPIFFE ID                 ENDS                  HINT  CHAIN  SERIAL
spiffe://example.org/web  2036-11-18T01:05:01Z  main  2      \
1a0261c01d8b55a8fccb337b8e90ade4efd0d7e1";
        let table = svids().to_string();
        let strip_time = |text: &str| text.replace(&times::show(svids().svids[0].expires_at), "T");
        assert_eq!(strip_time(&table), strip_time(want));
    }

    #[test]
    fn json_has_everything_but_the_key() {
        let json = serde_json::to_value(svids()).unwrap();
        let svid = &json["svids"][0];
        assert_eq!(svid["spiffe_id"], "spiffe://example.org/web");
        assert_eq!(svid["hint"], "main");
        assert_eq!(svid["chain_length"], 2);
        assert_eq!(svid["serial_number"], "1a0261c01d8b55a8fccb337b8e90ade4efd0d7e1");
        assert!(svid["expires_at"].is_i64());
        assert_eq!(svid.as_object().unwrap().len(), 5);
    }

    #[test]
    fn garbage_is_refused() {
        let wire = X509svid { x509_svid: vec![0x30, 0].into(), ..X509svid::default() };
        assert_eq!(Svid::try_from(&wire).unwrap_err(), ViewError::Leaf);
        assert_eq!(
            Svid::try_from(&X509svid::default()).unwrap_err(),
            ViewError::Chain(DerError::Empty)
        );
    }
}
