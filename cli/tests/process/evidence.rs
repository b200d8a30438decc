//! `claviger evidence` and `claviger references`, on real documents and by real keys.

use std::path::Path;

use claviger_tests::corpus;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::claviger;

/// A real document, what it is held against, and what comes of it.
struct Case {
    file: &'static str,
    /// More of the command line. What begins with `@` is in the folder of the documents, with `%` in the
    /// operator's.
    options: &'static str,
    expected: Expected,
}

enum Expected {
    /// It breaks just these rules.
    Breaks(&'static [&'static str]),
    /// It keeps every rule, held against the nonce and the binding in its fields of these names, and
    /// against reference values made of it; without these rules, which need what nobody has any more.
    Keeps { nonce: Option<&'static str>, binding: Option<&'static str>, without: &'static str },
}

use Expected::{Breaks, Keeps};

/// Genuine, by a document that carries neither nonce nor user data.
const BARE: Expected = Keeps {
    nonce: None,
    binding: None,
    without: "aws_nitro.freshness aws_nitro.nonce aws_nitro.binding aws_nitro.public_key",
};
/// Genuine, by a document that carries both, but no key.
const BOUND: Expected =
    Keeps { nonce: Some("nonce"), binding: Some("user data"), without: "aws_nitro.freshness" };
const GUEST: Expected =
    Keeps { nonce: None, binding: Some("report_data"), without: "sev_snp.tcb_minimum" };
const FORGED: Expected =
    Breaks(&["sev_snp.chain", "sev_snp.signature", "sev_snp.chip_id", "sev_snp.tcb"]);
const DEBUG: Expected = Breaks(&["aws_nitro.debug"]);
const AUDIT: &str = "--document-time";

/// The month in which Intel's collateral for the first two quotes was valid.
const TDX: &str = "--at 2025-07-08T00:00:00Z --collateral @tdx/sample__tdx_quote_collateral.json";
const SGX: &str = "--at 2025-07-08T00:00:00Z --collateral @tdx/sample__sgx_quote_collateral.json";

const CASES: &[Case] = &[
    // Nitro: documents signed by AWS, six of them in debug mode, one with a signature that is none.
    Case { file: "nitro/0637674127de25b7.bin", options: AUDIT, expected: DEBUG },
    Case { file: "nitro/19b71700ef369a55.bin", options: AUDIT, expected: BARE },
    Case { file: "nitro/234f1201a137f93d.bin", options: AUDIT, expected: BARE },
    Case { file: "nitro/2668d61d2fc40d06.bin", options: AUDIT, expected: DEBUG },
    Case { file: "nitro/5a2eac9dac9d983e.bin", options: AUDIT, expected: BARE },
    Case { file: "nitro/69d51f984229a1bc.bin", options: AUDIT, expected: BARE },
    Case {
        file: "nitro/7df2cdc016ae8928.bin",
        options: AUDIT,
        expected: Breaks(&["aws_nitro.signature"]),
    },
    Case { file: "nitro/7e91645364199fec.bin", options: AUDIT, expected: BARE },
    Case { file: "nitro/8d6106b49a1b5426.bin", options: AUDIT, expected: DEBUG },
    Case { file: "nitro/8ff485d8a838b3ca.bin", options: AUDIT, expected: BOUND },
    Case { file: "nitro/93c85b9b3d81e2c1.bin", options: AUDIT, expected: BOUND },
    Case { file: "nitro/b9db80222e31b03e.bin", options: AUDIT, expected: BARE },
    Case { file: "nitro/f8fab7facee63151.bin", options: AUDIT, expected: BARE },
    Case {
        file: "nitro/qemu-10.0.2-nitro-enclave-unsigned.bin",
        options: AUDIT,
        expected: Breaks(&["aws_nitro.algorithm", "aws_nitro.root", "aws_nitro.chain"]),
    },
    // The same, presented long after it was made.
    Case {
        file: "nitro/8ff485d8a838b3ca.bin",
        options: "--at 2026-01-01T00:00:00Z",
        expected: Breaks(&["aws_nitro.freshness", "aws_nitro.validity"]),
    },
    Case {
        file: "nitro/8ff485d8a838b3ca.bin",
        options: "--document-time --nonce 00",
        expected: Breaks(&["aws_nitro.nonce"]),
    },
    Case {
        file: "nitro/8ff485d8a838b3ca.bin",
        options: "--document-time --binding 00",
        expected: Breaks(&["aws_nitro.binding"]),
    },
    // SEV-SNP: the levels of firmware that are demanded are each operator's.
    Case {
        file: "snp/snp__test-report.bin",
        options: "--at 2025-06-01T00:00:00Z --certificate @snp/snp__test-vcek.der",
        expected: GUEST,
    },
    Case {
        file: "snp/tests__certs_data__report_milan.hex",
        options: "--at 2025-06-01T00:00:00Z --certificate @snp/tests__certs_data__vcek_milan.der",
        expected: GUEST,
    },
    Case {
        file: "snp/snp__test-vlek-report.bin",
        options: "--at 2025-06-01T00:00:00Z --certificate @snp/snp__test-vlek.der",
        expected: Breaks(&["sev_snp.vmpl"]),
    },
    Case {
        file: "snp/snp__test-report.bin",
        options: "--at 2025-06-01T00:00:00Z --certificate @snp/snp__test-vcek-invalid-legacy.der",
        expected: FORGED,
    },
    Case {
        file: "snp/snp__test-report.bin",
        options: "--at 2025-06-01T00:00:00Z --certificate @snp/snp__test-vcek-invalid-new.der",
        expected: FORGED,
    },
    Case {
        file: "snp/snp__test-report.bin",
        options: "--at 2025-06-01T00:00:00Z --certificate @snp/tests__certs_data__vcek_turin.der",
        expected: Breaks(&["sev_snp.signature", "sev_snp.chip_id", "sev_snp.tcb"]),
    },
    // TPM: a quote as tools write it, without the values that were quoted.
    Case {
        file: "tpm/quote.msg",
        options: "--collateral %ak-and-signature",
        expected: Keeps {
            nonce: Some("extra-data"),
            binding: None,
            without: "tpm.pcr_selection tpm.pcr_digest reference_values",
        },
    },
    Case {
        file: "tpm/quote.msg",
        options: "--collateral %ak-and-signature --nonce 00",
        expected: Breaks(&["tpm.bound"]),
    },
    // TDX and SGX.
    Case {
        file: "tdx/sample__tdx_quote",
        options: TDX,
        expected: Keeps { nonce: None, binding: Some("report data"), without: "" },
    },
    Case {
        file: "tdx/sample__tdx_quote",
        options: "--at 2025-08-01T00:00:00Z --collateral @tdx/sample__tdx_quote_collateral.json",
        expected: Breaks(&[
            "dcap.revocation_lists",
            "dcap.tcb_info_dates",
            "dcap.qe_identity_dates",
        ]),
    },
    Case { file: "tdx/sample__sgx_quote", options: SGX, expected: Breaks(&["dcap.tcb_status"]) },
    Case {
        file: "tdx/sample__tdx_quote_outdated",
        options: "--at 2026-02-18T10:58:51Z \
                  --collateral @tdx/sample__tdx_quote_outdated_collateral.json",
        expected: Breaks(&["dcap.tcb_level"]),
    },
    // NVIDIA: what their names say is known by NVIDIA's responder only. Nobody has its answer.
    Case {
        file: "gpu/common-test-data__serialized_test_evidence__hopper_evidence.json",
        options: "--at 2026-01-01T00:00:00Z",
        expected: Keeps { nonce: Some("nonce"), binding: None, without: "nvidia_gpu.revocation" },
    },
    Case {
        file: "gpu/common-test-data__serialized_test_evidence__hopper_evidence_cert_hold.json",
        options: "--at 2026-01-01T00:00:00Z",
        expected: Keeps { nonce: Some("nonce"), binding: None, without: "nvidia_gpu.revocation" },
    },
    Case {
        file: "gpu/sample_attestation_data__gpu__hopperAttestationReportExpired.txt",
        options: "--at 2026-01-01T00:00:00Z \
                  --certificate @gpu/sample_attestation_data__gpu__hopperCertChainExpired.txt",
        expected: Keeps { nonce: Some("nonce"), binding: None, without: "nvidia_gpu.revocation" },
    },
    Case {
        file: "gpu/sample_attestation_data__gpu__hopperAttestationReport.txt",
        options: "--at 2026-01-01T00:00:00Z \
                  --certificate @gpu/sample_attestation_data__gpu__hopperCertChain.txt",
        expected: Keeps { nonce: Some("nonce"), binding: None, without: "nvidia_gpu.revocation" },
    },
    Case {
        file: "gpu/sample_attestation_data__gpu__hopperAttestationReportInvalidSignature.txt",
        options: "--at 2026-01-01T00:00:00Z \
                  --certificate @gpu/sample_attestation_data__gpu__hopperCertChainExpired.txt",
        expected: Breaks(&["nvidia_gpu.signature", "nvidia_gpu.firmware"]),
    },
];

/// The words of a command line, with files in `folder`.
fn words(line: &str, folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let word = |word: &str| word.strip_prefix('@').map_or_else(|| word.to_owned(), path);
    line.split_ascii_whitespace().map(word).collect()
}

/// Runs it: whether it succeeded, and what it answered in JSON.
async fn run(words: &[String]) -> (Option<i32>, Value) {
    let json = ["--output".to_owned(), "json".to_owned()];
    let output = claviger().run(words.iter().chain(&json)).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout);
    (output.status.code(), answer.unwrap_or_else(|_no_json| json!(errors)))
}

/// The rules of a report that ended so.
fn rules<'a>(report: &'a Value, outcome: &str) -> Vec<&'a str> {
    let checks = report["checks"].as_array().unwrap_or_else(|| panic!("{report:#}")).iter();
    let ended = checks.filter(|check| check["outcome"] == outcome);
    ended.map(|check| check["rule"].as_str().unwrap()).collect()
}

/// An operator, and their key.
struct Operator(TempDir);

impl Operator {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let this = Self(dir);
        let (code, made) = run(&this.words("references keygen %operator.key")).await;
        assert_eq!(code, Some(0), "{made}");
        this
    }

    /// The words of a command line, with files of the operator's behind `%`.
    fn words(&self, line: &str) -> Vec<String> {
        words(&line.replace('%', "@"), self.0.path())
    }

    /// The same, with files of the documents' folder behind `@`.
    fn both(&self, line: &str, folder: &Path) -> Vec<String> {
        let own = format!("{}/", self.0.path().to_str().unwrap());
        words(line, folder).into_iter().map(|word| word.replace('%', &own)).collect()
    }

    /// Signs reference values of `kind` that name `image` and nothing else.
    async fn sign(&self, kind: &str, image: &Value) {
        let manifest = json!({"kind": kind, "expires": "2100-01-01T00:00:00Z", "images": [image]});
        std::fs::write(self.0.path().join("manifest.json"), manifest.to_string()).unwrap();
        let line = "references sign %manifest.json --key %operator.key --write %references.json";
        let (code, signed) = run(&self.words(line)).await;
        assert_eq!(code, Some(0), "{signed}");
    }
}

#[tokio::test]
async fn every_real_document_gets_the_verdict_that_it_deserves() {
    let Some(folder) = corpus::evidence() else { return };
    let operator = Operator::new().await;
    let tpm = |name: &str| std::fs::read(folder.join("tpm").join(name)).unwrap();
    let beside = [tpm("ak.tpm2b"), tpm("quote.sig")].concat();
    std::fs::write(operator.0.path().join("ak-and-signature"), beside).unwrap();
    let document = folder.join("nitro/8ff485d8a838b3ca.bin");
    let document = document.to_str().unwrap().to_owned();
    let other = ["evidence", "verify", "--kind", "nitro_tpm", &document].map(str::to_owned);
    let (code, told) = run(&other).await;
    assert!(code == Some(1) && told.to_string().contains("does not hold"), "an enclave: {told}");
    for Case { file, options, expected } in CASES {
        let options =
            [vec![folder.join(file).to_str().unwrap().to_owned()], operator.both(options, &folder)];
        let options = options.concat();
        let of =
            |verb: &str| [words(&format!("evidence {verb}"), &folder), options.clone()].concat();
        let (code, report) = run(&of("verify")).await;
        match expected {
            Breaks(broken) => {
                assert_eq!(code, Some(1), "{file}: {report:#}");
                assert_eq!(rules(&report, "broken"), *broken, "{file} {options:?}");
                assert_eq!(report["verdict"], "broken", "{file}");
            }
            Keeps { nonce, binding, without } => {
                assert_eq!(code, Some(3), "{file}: something is always open: {report:#}");
                assert_eq!(rules(&report, "broken"), [""; 0], "{file}: {report:#}");
                keeps_all(&operator, &of, &report, (*nonce, *binding, without)).await;
            }
        }
    }
}

/// That the document keeps every rule if all is given, and none of what is given can be another.
async fn keeps_all(
    operator: &Operator,
    of: &impl Fn(&str) -> Vec<String>,
    report: &Value,
    (nonce, binding, without): (Option<&str>, Option<&str>, &str),
) {
    let kind = report["kind"].as_str().unwrap();
    let measures = !without.contains("reference_values");
    let (mut image, mut given) = (Value::Null, Vec::new());
    if measures {
        let (code, made) =
            run(&[of("inspect"), operator.words("--reference real=1")].concat()).await;
        assert_eq!(code, Some(0), "{made}");
        operator.sign(kind, &made).await;
        image = made;
        let line = "--references %references.json --references-key %operator.key.pub";
        given = operator.words(line);
    }
    let fields = report["fields"].as_array().unwrap();
    let mut wrong = Vec::new();
    for (option, name) in [("--nonce", nonce), ("--binding", binding)] {
        let Some(name) = name else { continue };
        let field = fields.iter().find(|field| field["name"] == name);
        let value = field.unwrap_or_else(|| panic!("no `{name}`: {report:#}"))["value"].as_str();
        given.extend([option.to_owned(), value.unwrap().to_owned()]);
        let (first, rest) = value.unwrap().split_at(1);
        let other = if first == "0" { "1" } else { "0" };
        wrong.push((option, value.unwrap().to_owned(), format!("{other}{rest}")));
    }
    let without = without.split_ascii_whitespace();
    given.extend(without.flat_map(|rule| ["--without".to_owned(), rule.to_owned()]));
    let line = [of("verify"), given].concat();
    let (code, verified) = run(&line).await;
    assert_eq!(code, Some(0), "{line:?}: {verified:#}");
    assert_eq!(*verified.get("verdict").unwrap(), "genuine");
    for (option, right, wrong) in wrong {
        let line: Vec<_> = line.iter().map(|word| word.replace(&right, &wrong)).collect();
        let (code, report) = run(&line).await;
        assert_eq!(code, Some(1), "{option}: {report:#}");
    }
    let Some(registers) = image.get_mut("registers").and_then(Value::as_object_mut) else { return };
    // Another image is none that the operator wants.
    for value in registers.values_mut() {
        *value = json!("11".repeat(value.as_str().unwrap().len() / 2));
    }
    operator.sign(kind, &image).await;
    let (code, report) = run(&line).await;
    assert_eq!(code, Some(1), "{report:#}");
}

#[tokio::test]
async fn text_is_read_and_garbage_is_told_apart_from_bad_command_lines() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("garbage", b"garbage");
    write("large", &vec![b'A'; (256 << 10) + 1]);
    // A token with the claim `exp`, in hexadecimal digits.
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJleHAiOjIwMDB9.c2ln";
    write("token", hex::encode(token).as_bytes());
    let of = |line: &str| words(line, dir.path());
    let (code, told) = run(&of("evidence inspect @garbage")).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.as_str().unwrap().contains("these kinds are known: aws_nitro"), "{told}");
    for usage in [
        "evidence inspect @missing",
        "evidence inspect @large",
        "evidence inspect @token --kind nothing",
        "evidence inspect @token --certificate @garbage",
        "evidence inspect @token --references @token",
        "evidence verify @token --without no.rule",
        "evidence verify @token --at 2026-01-01T00:00:00Z --document-time",
    ] {
        assert_eq!(run(&of(usage)).await.0, Some(2), "{usage}");
    }
    let (code, report) = run(&of("evidence inspect @token --at 1970-01-01T00:33:19Z")).await;
    assert_eq!((code, &report["encoding"]), (Some(0), &json!("hex")));
    assert_eq!(rules(&report, "broken"), [""; 0]);
    assert_eq!(rules(&report, "open"), ["jwt.signature"]);
    let verify = "evidence verify @token --without jwt.signature --at 1970-01-01T00:33";
    assert_eq!(run(&of(&format!("{verify}:19Z"))).await.0, Some(0));
    let (code, report) = run(&of(&format!("{verify}:20Z"))).await;
    assert_eq!((code, rules(&report, "broken")), (Some(1), vec!["jwt.expiry"]));
}

#[tokio::test]
async fn reference_values_are_signed_shown_and_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let operator = Operator::new().await;
    let of = |line: &str| operator.words(line);
    let key = operator.0.path().join("operator.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _told) = run(&of("references keygen %operator.key")).await;
    assert_eq!(code, Some(1), "a key is never overwritten");

    let image =
        json!({"name": "signer", "version": "1.4.2", "registers": {"pcr0": "01".repeat(48)}});
    operator.sign("aws_nitro", &image).await;
    let (code, shown) = run(&of("references show %references.json --key %operator.key.pub")).await;
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(shown["images"], json!([image]));
    assert_eq!(
        (&shown["expired"], &shown["expires_at"]),
        (&json!(false), &json!(4_102_444_800_u64))
    );
    assert_eq!(shown["signed_by"], shown["key_ids"][0]);
    // Without a key, it is shown and not verified.
    let (code, shown) = run(&of("references show %references.json")).await;
    assert_eq!((code, &shown["signed_by"]), (Some(0), &Value::Null));

    let (_code, _made) = run(&of("references keygen %other.key --algorithm ecdsa-p256")).await;
    let by_other = of("references show %references.json --key %other.key.pub");
    assert_eq!(run(&by_other).await.0, Some(1));
    let private = run(&of("references show %references.json --key %operator.key")).await;
    assert!(private.0 == Some(1) && private.1.to_string().contains("private key"), "{private:?}");

    for (manifest, why) in [
        (
            json!({"kind": "aws_nitro", "expires": "2001-01-01T00:00:00Z", "images": [image]}),
            "ended",
        ),
        (json!({"kind": "aws_nitro", "expires": "2100-01-01T00:00:00Z", "images": []}), "no image"),
        (json!({"kind": "x", "expires": "2100-01-01T00:00:00Z", "images": [image]}), "kind `x`"),
        (json!({"kind": "tdx", "expires": "2100-01-01T00:00:00Z", "images": [image]}), "`pcr0`"),
    ] {
        std::fs::write(operator.0.path().join("bad.json"), manifest.to_string()).unwrap();
        let (code, told) = run(&of("references sign %bad.json --key %operator.key")).await;
        assert!(code == Some(1) && told.to_string().contains(why), "{manifest}: {told}");
    }
}
