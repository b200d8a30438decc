//! `POST /v1/svid/x509`: an X.509-SVID for the key of a certificate request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_core::grant::IssueX509;
use claviger_core::id::SpiffeId;
use futures_util::future::join;
use http::Response;
use http_body_util::Full;
use serde::Serialize;

use super::Inner;
use super::attested::Purpose;
use super::call::Call;
use super::refusal::Refusal;
use super::reply;
use super::wire;
use crate::ca::csr::{self, Csr};
use crate::ca::{fresh_serial, to_pem};

/// What is given.
#[derive(Serialize)]
pub(super) struct Answer {
    spiffe_id: SpiffeId,
    /// The chain, leaf first, in PEM.
    x509_svid: String,
    /// The authorities of the trust domain, in PEM.
    bundle: String,
    /// Seconds since 1970.
    expires_at: u64,
}

pub(super) async fn issue(direct: &Inner, call: &Call) -> Result<Response<Full<Bytes>>, Refusal> {
    let asked: wire::X509 = call.json()?;
    let csr = parse(&asked.csr)?;
    let evidence = call.evidence(asked.evidence.as_ref())?;

    let purpose =
        Purpose { spki: Some(csr.spki()), sealed: false, requested: asked.spiffe_id.as_ref() };
    let attested = direct.attest(&evidence, purpose, call).await?;

    let act = IssueX509 {
        contents: direct.lifetimes.x509(&attested.entry),
        serial: fresh_serial().map_err(|error| Refusal::Issue(error.into()))?,
        public_key: csr.into_spki(),
        requester: attested.requester(),
        entry: Some(attested.entry.id.clone()),
    };
    // Both wait for the same write: the log has first who it was, then what they get.
    let issued = join(direct.record(&attested), direct.shared.issuance.issue(act)).await;
    let svid = issued.0.and(issued.1.map_err(Refusal::Issue))?;

    let bundle = direct.shared.bundle_pem();
    let answer = Answer {
        spiffe_id: attested.entry.spiffe_id,
        x509_svid: to_pem(svid.chain.iter().map(|der| der.to_vec())),
        bundle,
        expires_at: svid.validity.not_after.as_secs(),
    };
    reply::json(&answer, answer.x509_svid.len().saturating_add(answer.bundle.len()))
}

/// Reads either form of a certificate request, and verifies that its key has signed it.
fn parse(text: &str) -> Result<Csr, Refusal> {
    let malformed = |why: &str| Refusal::malformed("csr", &why);
    // In base64, with the lines of PEM around it.
    const LONGEST: usize = 2 * csr::MAX_BYTES;
    if LONGEST < text.len() {
        return Err(malformed("is larger than any certificate request"));
    }
    let der = if text.trim_start().starts_with("-----BEGIN") {
        let pem = pem::parse(text).map_err(|_no_pem| malformed("is not PEM"))?;
        if !["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"].contains(&pem.tag()) {
            return Err(malformed("is not a `CERTIFICATE REQUEST`"));
        }
        pem.into_contents()
    } else {
        let why = "is neither PEM nor DER in base64 with padding";
        STANDARD.decode(text.trim()).map_err(|_no_base64| malformed(why))?
    };
    Csr::parse(&der).map_err(|error| Refusal::malformed("csr", &error))
}
