//! What differs from enclaves.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use claviger_core::evidence::AttestedNode;
use tempfile::TempDir;

use crate::fixture::{World, reason};
use crate::nitro::fixture::{Draft, INSTANCE, Played, pki, reference, references};
use crate::nitro_tpm::{Collector, Config, FLAVOUR, KIND, Verifier};
use crate::references::References;
use crate::{VerifyError, aws_nitro};

fn verifier() -> (Verifier, TempDir) {
    let (reference_values, dir) = reference(KIND, 4);
    let root = dir.path().join("root.pem");
    fs::write(&root, pem::encode(&pem::Pem::new("CERTIFICATE", pki().root()))).unwrap();
    let config = Config { reference_values, insecure_test_root: Some(root) };
    assert_eq!(config.problems(), []);
    (Verifier::open(&config).unwrap(), dir)
}

async fn attest(edit: impl FnOnce(&mut Played)) -> Result<AttestedNode, VerifyError> {
    let mut played = Played::honest(&FLAVOUR);
    played.draft.module_id = format!("{INSTANCE}-tpm0000000000000000");
    edit(&mut played);
    World::default().attest(&verifier().0, &Collector::new(Arc::new(played))).await
}

#[tokio::test]
async fn an_instance_earns_an_identity_by_what_it_has_booted() {
    let node = attest(|played| {
        // As a TPM begins: registers of zeros, and from 17 to 22 of ones.
        played.draft.registers.insert(17, vec![0xff; 48]);
        played.draft.registers.insert(23, vec![0; 48]);
        played.draft.registers.insert(0, vec![0; 48]);
    })
    .await
    .unwrap();
    let module = format!("{INSTANCE}-tpm0000000000000000");
    assert_eq!(node.id().path(), format!("/spire/agent/nitro_tpm/{module}"));
    assert!(node.reattestable());
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    for expected in [
        format!("nitro_tpm:instance:{INSTANCE}"),
        format!("nitro_tpm:module_id:{module}"),
        format!("nitro_tpm:pcr4:{}", "a4".repeat(48)),
        "nitro_tpm:image:signer".to_owned(),
    ] {
        assert!(selectors.contains(&expected), "{expected}: {selectors:?}");
    }
    let unused = |selector: &String| {
        ["pcr0:", "pcr17:", "pcr23:", "debug"].iter().any(|p| selector.contains(p))
    };
    assert!(!selectors.iter().any(unused), "{selectors:?}");
}

#[tokio::test]
async fn another_boot_loader_gets_nothing() {
    let error = reason(attest(|played| drop(played.draft.registers.insert(4, vec![1; 48]))).await);
    assert!(error.contains("reference_values: no image"), "{error}");
    let error = reason(attest(|played| drop(played.draft.registers.remove(&4))).await);
    assert!(error.contains("reference_values: no image"), "{error}");
}

#[tokio::test]
async fn the_document_of_an_enclave_is_none_of_a_nitro_tpm() {
    let enclave = |draft: Draft, _flavour: &_| draft.document(&aws_nitro::FLAVOUR, pki());
    let error = reason(attest(|played| played.edit = enclave).await);
    assert!(error.contains("nitro_tpm.payload: `pcrs` is no field of it"), "{error}");
    // Nor with the registers under both names.
    let error = reason(
        attest(|played| {
            played.edit = |draft, flavour| {
                let mut members = draft.members(flavour, pki());
                let mut twin = members[3].clone();
                twin.0 = crate::nitro::fixture::Item::text("pcrs");
                members.push(twin);
                let payload = crate::nitro::fixture::Item::Map(members).encode();
                crate::nitro::fixture::sign(&payload, pki())
            };
        })
        .await,
    );
    assert!(error.contains("nitro_tpm.payload: `pcrs` is no field of it"), "{error}");
}

#[test]
fn a_document_is_inspected_as_what_it_is() {
    let given = crate::inspect::Given {
        at: Some(crate::fixture::NOW),
        roots: vec![pki().root()],
        references: Some(reference(KIND, 4).0),
        ..crate::inspect::Given::NOTHING
    };
    let document = Draft::new().document(&FLAVOUR, pki());
    assert!(aws_nitro::inspect(&document, &given).is_none());
    let inspection = super::inspect(&document, &given).unwrap();
    let checks: BTreeMap<_, _> =
        inspection.checks.checks().map(|(rule, outcome)| (rule.id, outcome)).collect();
    assert_eq!(checks["nitro_tpm.signature"], &crate::checklist::Outcome::Kept);
    // The folder of the reference values is gone.
    let software = checks["nitro_tpm.software"];
    assert!(matches!(software, crate::checklist::Outcome::Open(_)), "{software:?}");
    assert!(!checks.contains_key("nitro_tpm.debug"), "there is no such mode");
    assert!(super::inspect(b"anything else", &given).is_none());
    assert!(super::inspect(b"", &given).is_none());
}

/// What runs after the boot loader extends the registers from 8 on as it likes.
#[test]
fn reference_values_name_what_the_firmware_measured() {
    let value = "ab".repeat(48);
    for (registers, is_enough) in [
        (r#"{"pcr4":"V"}"#, true),
        (r#"{"pcr7":"V"}"#, true),
        (r#"{"pcr4":"V","pcr7":"V","pcr12":"V"}"#, true),
        (r#"{"pcr0":"V","pcr1":"V"}"#, false),
        (r#"{"pcr8":"V"}"#, false),
        (r#"{"pcr11":"V"}"#, false),
        (r#"{"pcr16":"V","pcr23":"V"}"#, false),
    ] {
        let (config, _dir) = references(KIND, &registers.replace('V', &value));
        let opened = References::open(&config, FLAVOUR.references);
        assert_eq!(opened.is_ok(), is_enough, "{registers}");
    }
}
