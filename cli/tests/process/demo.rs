//! `claviger demo`: the main job.

use crate::claviger;

#[tokio::test]
async fn the_main_job_is_done_end_to_end() {
    let output = claviger().run(["demo"]).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8(output.stderr));
    assert!(output.status.success(), "{out}\n{err:?}");
    assert!(out.contains("X25519MLKEM768"), "{out}");
}

#[tokio::test]
async fn a_platform_vouches_for_the_node_where_one_is_asked_for() {
    for (attestor, said) in [
        ("oidc", "the demo plays it"),
        ("k8s", "no cluster is asked"),
        ("nitro", "the demo plays the Nitro hypervisor"),
    ] {
        let output = claviger().run(["demo", "--attestor", attestor]).await;
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{attestor}: {out}\n{err}");
        assert!(out.contains(said), "{attestor}: {out}");
    }
}

#[tokio::test]
async fn a_tpm_in_software_vouches_for_the_node_or_what_to_install_is_said() {
    let output = claviger().run(["demo", "--attestor", "tpm"]).await;
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        assert!(out.contains("TPM in software (swtpm)"), "{out}");
    } else {
        assert!(err.contains("apt-get install swtpm"), "{out}\n{err}");
    }
}
