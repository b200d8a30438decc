//! A report of SEV-SNP: the certificate of the VCEK, the report, and everything else that is looked at
//! before its binding. That is another key's, so the real report is refused at the end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_attestors::dsse::{Algorithm, Envelope, SigningKey};
use claviger_attestors::references::PAYLOAD_TYPE;
use claviger_attestors::sev_snp::{Config, Verifier};
use claviger_attestors::{Challenged, NodeClaim, NodeVerifier as _, VerifyError};
use claviger_core::evidence::{Binding, KeyDigest};
use claviger_core::time::UnixTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Report, corpus};

const TARGET: Duration = Duration::from_millis(3);
/// 2026-06-01.
const NOW: UnixTime = UnixTime::from_secs(1_780_272_000);

pub(crate) fn measure(report: &mut Report) {
    let Some(folder) = corpus("snp") else {
        return report.not_measured("sev_snp", "there is no real report");
    };
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let (document, vcek) = (read("snp__test-report.bin"), read("snp__test-vcek.der"));
    let authority = pem::parse_many(read("deps__verifier__src__snp__milan_ask_ark_asvk.pem"));
    let ask = authority.unwrap().swap_remove(0).into_contents();

    let dir = tempfile::tempdir().unwrap();
    let verifier = Verifier::open(&settings(dir.path())).unwrap();
    let answer = format!(
        r#"{{"report":"{}","endorsement":"{}"}}"#,
        STANDARD.encode(&document),
        STANDARD.encode(&vcek)
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    report.measure(
        "sev_snp, VCEK",
        TARGET,
        || {
            let refused = runtime.block_on(judge(&verifier, answer.as_bytes()));
            assert!(refused.to_string().contains("sev_snp.binding"), "{refused}");
        },
        || signatures(&document, &vcek, &ask),
    );
}

/// Settings that admit nothing, and are looked at last.
fn settings(dir: &Path) -> Config {
    let (path, public) = (dir.join("references.json"), dir.join("key.pem"));
    let payload = format!(
        r#"{{"kind":"sev_snp","expires":"2030-01-01T00:00:00Z",
            "images":[{{"name":"none","registers":{{"measurement":"{}"}}}}]}}"#,
        "01".repeat(48)
    );
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
    fs::write(&public, key.public_pem().unwrap()).unwrap();
    let envelope = Envelope::seal(PAYLOAD_TYPE, payload.as_bytes(), &[key]).unwrap();
    fs::write(&path, serde_json::to_vec(&envelope).unwrap()).unwrap();
    let config = serde_json::json!({
        "reference-values": {"path": path, "keys": [public]},
        "minimum-tcb": {"milan": {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}},
    });
    serde_json::from_value(config).unwrap()
}

async fn judge(verifier: &Verifier, answer: &[u8]) -> VerifyError {
    let trust_domain = "example.org".parse().unwrap();
    let claim = NodeClaim {
        evidence: b"{}",
        key: &KeyDigest::of_spki(b"key"),
        binding: &Binding::new("sev_snp", b"key", &trust_domain),
        trust_domain: &trust_domain,
        caller: None,
        now: NOW,
    };
    verifier.verify(claim, &mut Recorded(answer)).await.unwrap_err()
}

/// A node that answers what was recorded.
struct Recorded<'a>(&'a [u8]);

#[async_trait]
impl Challenged for Recorded<'_> {
    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        Ok(self.0.to_vec())
    }
}

/// The ASK's signature of the VCEK's certificate, and the VCEK's of the report.
fn signatures(document: &[u8], vcek: &[u8], ask: &[u8]) {
    let (_, vcek) = X509Certificate::from_der(vcek).unwrap();
    let (_, ask) = X509Certificate::from_der(ask).unwrap();
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, ask.public_key().raw)
        .verify(vcek.tbs_certificate.as_ref(), &vcek.signature_value.data)
        .unwrap();
    let number = |at: usize| document.iter().skip(at).take(48).copied().collect::<Vec<_>>();
    let mut signature = Vec::new();
    for at in [0x2a0, 0x2e8] {
        signature.extend(number(at).into_iter().rev());
    }
    let (signed, _) = document.split_at(0x2a0);
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &vcek.public_key().subject_public_key.data)
        .verify(signed, &signature)
        .unwrap();
}
