//! NVIDIA's driver, by its library `libnvidia-ml`, which is loaded when it is asked for.

use std::ffi::OsString;
use std::fmt;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

/// What the driver of this machine's devices does for us. It takes its time: devices are asked one
/// after the other, each a second or so.
pub(super) trait Driver: fmt::Debug + Send + Sync + 'static {
    /// How many devices there are.
    fn count(&self) -> Result<usize, NvmlError>;

    /// What one of them says to `nonce`.
    fn ask(&self, device: usize, nonce: [u8; 32]) -> Result<Said, NvmlError>;
}

/// What a device says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// Its architecture, such as `HOPPER`.
    pub(super) architecture: String,
    /// Request and response.
    pub(super) report: Vec<u8>,
    /// Its certificates in PEM, its own first.
    pub(super) certificates: Vec<u8>,
}

/// The real one.
#[derive(Debug)]
pub(super) struct Library(pub(super) OsString);

impl Library {
    fn load(&self) -> Result<Nvml, NvmlError> {
        Nvml::builder().lib_path(&self.0).init()
    }
}

impl Driver for Library {
    fn count(&self) -> Result<usize, NvmlError> {
        Ok(usize::try_from(self.load()?.device_count()?).unwrap_or(usize::MAX))
    }

    fn ask(&self, device: usize, nonce: [u8; 32]) -> Result<Said, NvmlError> {
        let library = self.load()?;
        let index = u32::try_from(device).map_err(|_too_many| NvmlError::InvalidArg)?;
        let device = library.device_by_index(index)?;
        let mut certificates =
            device.confidential_compute_gpu_certificate()?.attestation_cert_chain;
        // The driver ends text with a zero.
        let end = certificates.iter().position(|byte| *byte == 0).unwrap_or(certificates.len());
        certificates.truncate(end);
        Ok(Said {
            architecture: device.architecture()?.to_string().to_ascii_uppercase(),
            report: device.confidential_compute_gpu_attestation_report(nonce)?.attestation_report,
            certificates,
        })
    }
}
