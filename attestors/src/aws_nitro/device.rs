//! The device of the Nitro security module.
//!
//! AWS' own client speaks to it. The client reads answers with a library that is not maintained any
//! more; they come from the hypervisor, which is trusted with more than that (decision 0004).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use tokio::task::spawn_blocking;

use crate::CollectError;
use crate::nitro::{Questions, SecurityModule, unavailable};

/// The device, open.
#[derive(Debug)]
pub(super) struct Device(Arc<File>);

impl Device {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self(Arc::new(file)))
    }
}

#[async_trait]
impl SecurityModule for Device {
    async fn document(&self, questions: Questions) -> Result<Vec<u8>, CollectError> {
        let device = Arc::clone(&self.0);
        let request = Request::Attestation {
            user_data: Some(questions.user_data.into()),
            nonce: Some(questions.nonce.into()),
            public_key: None,
        };
        // The ioctl returns when the hypervisor has signed: a millisecond, if all is well.
        let response = spawn_blocking(move || nsm_process_request(device.as_raw_fd(), request));
        let response = response
            .await
            .map_err(|stopping| unavailable("the agent is stopping", Some(stopping.into())))?;
        if let Response::Attestation { document } = response {
            Ok(document)
        } else if let Response::Error(code) = response {
            let what = format!("the Nitro security module makes no document: {code:?}");
            Err(unavailable(what, None))
        } else {
            Err(unavailable("the Nitro security module answers another question", None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real device is in enclaves only. What is no such device refuses the ioctl, and nothing
    /// panics.
    #[tokio::test]
    async fn what_is_no_security_module_makes_no_document() {
        let device = Device::open(Path::new("/dev/null")).unwrap();
        let questions = Questions { nonce: vec![1; 32], user_data: vec![2; 48] };
        let error = device.document(questions).await.unwrap_err();
        assert!(error.to_string().contains("InternalError"), "{error}");
    }
}
