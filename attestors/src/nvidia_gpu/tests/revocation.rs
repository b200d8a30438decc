//! What NVIDIA would say by OCSP.

use std::path::Path;

use rcgen::ExtendedKeyUsagePurpose;
use tempfile::tempdir;

use super::super::fixture::{
    Device, Machine, Says, Vendor, config, good, responder, response, revoked,
};
use super::*;

/// Writes for each certificate that can be revoked what its issuer says, which `says` decides.
fn write(folder: &Path, device: &Device, says: impl Fn(usize) -> Says) {
    for place in 1..4 {
        let (about, issuer) = (&device.chain[place], &device.chain[place + 1]);
        let bytes = response(about, issuer, issuer, &says(place));
        std::fs::write(folder.join(format!("{place}0.ocsp")), bytes).unwrap();
    }
}

/// What becomes of a device, once `prepare` has filled the folder.
async fn judged(prepare: impl FnOnce(&Path, &Device)) -> Result<AttestedNode, VerifyError> {
    let (vendor, dir) = (Vendor::new(), tempdir().unwrap());
    let device = vendor.device();
    prepare(dir.path(), &device);
    let settings = config(&dir, Revocation::Responses(dir.path().to_owned()));
    let verifier = Verifier::open(&settings).unwrap().trusting(vendor.root());
    World::default().attest(&verifier, &Collector::of(Machine(vec![device]))).await
}

#[tokio::test]
async fn a_device_that_its_maker_stands_by_is_admitted() {
    let node = judged(|folder, device| write(folder, device, |_| good())).await.unwrap();
    assert!(!node.appraisal().trust.instance_identity.is_none());
}

#[tokio::test]
async fn certificates_that_are_revoked_on_hold_or_unknown_are_refused() {
    for place in 1..4 {
        let unknown = Says { status: vec![0x82, 0], ..good() };
        let cases =
            [(revoked(1), "is revoked"), (revoked(6), "is on hold"), (unknown, "is not known")];
        for (bad, expected) in cases {
            let says = |at| if at == place { bad.copy() } else { good() };
            let why = reason(judged(|folder, device| write(folder, device, says)).await);
            assert!(why.contains("nvidia_gpu.revocation") && why.contains(expected), "{why}");
        }
    }
}

#[tokio::test]
async fn a_response_that_is_missing_or_not_of_now_refuses() {
    let why = reason(judged(|_, _| ()).await);
    assert!(why.contains("no OCSP response can be read"), "{why}");
    let cases = [
        Says { until: Some("20251231235959Z"), ..good() },
        Says { until: Some("20260101000000Z"), ..good() },
        Says { since: "20260101000501Z", until: Some("20270101000000Z"), ..good() },
        // A day without a next one.
        Says { until: None, ..good() },
    ];
    for says in cases {
        let of = |_| says.copy();
        let why = reason(judged(|folder, device| write(folder, device, of)).await);
        assert!(why.contains("it is not of now"), "{why}");
    }
    let of = |_| Says { since: "20251231000001Z", until: None, ..good() };
    drop(judged(|folder, device| write(folder, device, of)).await.unwrap());
}

#[tokio::test]
async fn only_the_authority_or_whom_it_lets_speaks_of_a_certificate() {
    let with = |signer: fn(&Device) -> fixture::Holder| {
        judged(move |folder, device| {
            write(folder, device, |_| good());
            let (about, issuer) = (&device.chain[1], &device.chain[2]);
            let bytes = response(about, issuer, &signer(device), &good());
            std::fs::write(folder.join("10.ocsp"), bytes).unwrap();
        })
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, OcspSigning};
    drop(with(|device| responder(&device.chain[2], OcspSigning)).await.unwrap());
    // For something else; by another authority; the device itself; its maker's maker.
    let others: [fn(&Device) -> fixture::Holder; 4] = [
        |device| responder(&device.chain[2], ClientAuth),
        |device| responder(&device.chain[3], OcspSigning),
        |device| device.chain[1].copy(),
        |device| device.chain[3].copy(),
    ];
    for signer in others {
        let why = reason(with(signer).await);
        assert!(why.contains("is not signed by the certificate's authority"), "{why}");
    }
}

#[tokio::test]
async fn a_response_about_another_certificate_says_nothing() {
    let exchanged = judged(|folder, device| {
        write(folder, device, |_| good());
        std::fs::copy(folder.join("20.ocsp"), folder.join("10.ocsp")).unwrap();
    });
    reason(exchanged.await);
    // Of a device that the same authority certified.
    let other = judged(|folder, device| {
        write(folder, device, |_| good());
        let stranger = Vendor::new().device();
        let bytes = response(&stranger.chain[0], &device.chain[2], &device.chain[2], &good());
        std::fs::write(folder.join("10.ocsp"), bytes).unwrap();
    });
    let why = reason(other.await);
    assert!(why.contains("about another certificate"), "{why}");
}

#[test]
fn what_is_no_response_is_not_read() {
    let device = Vendor::new().device();
    let bytes = response(&device.chain[1], &device.chain[2], &device.chain[2], &good());
    OcspResponse::parse(&bytes).unwrap();
    for length in 0..bytes.len() {
        assert!(OcspResponse::parse(&bytes[..length]).is_none(), "{length}");
    }
    assert!(OcspResponse::parse(&[&bytes[..], &[0]].concat()).is_none());
    // "Try later", as RFC 6960 has it.
    assert!(OcspResponse::parse(&[0x30, 3, 0x0a, 1, 3]).is_none());
}
