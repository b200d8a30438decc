//! `claviger demo`: the main job.

use crate::claviger;

#[tokio::test]
async fn the_main_job_is_done_end_to_end() {
    let output = claviger().run(["demo"]).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8(output.stderr));
    assert!(output.status.success(), "{out}\n{err:?}");
    assert!(out.contains("X25519MLKEM768"), "{out}");
}
