//! The hypervisor, and the security module that the enclave asks for documents.

use std::convert::Infallible;
use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use claviger_attestors::CollectError;
use claviger_attestors::aws_nitro::{Questions, SecurityModule};
use claviger_core::time::{Clock as _, SystemClock, UnixTime};
use minicbor::Encoder;
use minicbor::encode::Error;

use super::certificates::Chain;
use crate::failure::Failure;

/// The enclave that it runs, as AWS names them.
const MODULE: &str = "i-0000000000000demo-enc0000000000000001";

/// Runs one enclave, and says so in documents.
pub(super) struct Hypervisor {
    chain: Chain,
    key: EcdsaKeyPair,
    /// PCR0 to PCR2: the image, its kernel, its application.
    measured: [[u8; 48]; 3],
}

impl fmt::Debug for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hypervisor({MODULE})")
    }
}

impl Hypervisor {
    /// One whose certificates begin `now`.
    pub(super) fn new(now: UnixTime) -> Result<Self, Failure> {
        let chain = Chain::new(now, MODULE).map_err(|error| Failure::because(&error))?;
        let pkcs8 = chain.key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &pkcs8)
            .map_err(|error| Failure::because(&error))?;
        let measured = ["image", "kernel", "application"].map(|part| {
            let mut register = [0; 48];
            let what = format!("the demo's {part}");
            register.copy_from_slice(digest(&SHA384, what.as_bytes()).as_ref());
            register
        });
        Ok(Self { chain, key, measured })
    }

    /// The root certificate, as DER.
    pub(super) fn root(&self) -> &[u8] {
        self.chain.authorities.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// PCR0 of the enclave.
    pub(super) const fn image(&self) -> &[u8; 48] {
        let [image, ..] = &self.measured;
        image
    }

    /// The payload of a document that is made at `now`.
    fn payload(&self, questions: &Questions, now: UnixTime) -> Result<Vec<u8>, Error<Infallible>> {
        let mut cbor = Encoder::new(Vec::new());
        cbor.map(9)?.str("module_id")?.str(MODULE)?.str("digest")?.str("SHA384")?;
        cbor.str("timestamp")?.u64(now.as_secs().saturating_mul(1_000))?;
        cbor.str("pcrs")?.begin_map()?;
        for (index, value) in (0_u8..).zip(&self.measured) {
            cbor.u8(index)?.bytes(value)?;
        }
        cbor.end()?.str("certificate")?.bytes(&self.chain.signer)?;
        cbor.str("cabundle")?.begin_array()?;
        for certificate in &self.chain.authorities {
            cbor.bytes(certificate)?;
        }
        cbor.end()?.str("public_key")?.null()?;
        cbor.str("user_data")?.bytes(&questions.user_data)?;
        cbor.str("nonce")?.bytes(&questions.nonce)?;
        Ok(cbor.into_writer())
    }

    /// A document: COSE_Sign1 with ES384 (RFC 9052 §4.2, §4.4).
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        const ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];

        let written = |error: Error<Infallible>| error.to_string();
        let mut signed = Encoder::new(Vec::new());
        signed.array(4).and_then(|cbor| cbor.str("Signature1")).map_err(written)?;
        signed.bytes(ES384).and_then(|cbor| cbor.bytes(&[])).map_err(written)?;
        signed.bytes(payload).map_err(written)?;
        let signature = self.key.sign(&SystemRandom::new(), &signed.into_writer())?;
        let mut document = Encoder::new(Vec::new());
        document.array(4).and_then(|cbor| cbor.bytes(ES384)).map_err(written)?;
        document.map(0).and_then(|cbor| cbor.bytes(payload)).map_err(written)?;
        document.bytes(signature.as_ref()).map_err(written)?;
        Ok(document.into_writer())
    }
}

#[async_trait]
impl SecurityModule for Hypervisor {
    async fn document(&self, questions: Questions) -> Result<Vec<u8>, CollectError> {
        let payload =
            self.payload(&questions, SystemClock.now()).map_err(|error| error.to_string());
        let document = payload.map_err(Into::into).and_then(|payload| self.sign(&payload));
        document.map_err(|source| CollectError::Unavailable {
            what: "the demo's hypervisor signs no document".to_owned(),
            source: Some(source),
        })
    }
}
