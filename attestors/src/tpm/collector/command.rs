//! How a command is written, and an answer read (Part 1 §18).

use super::super::structure::{Reader, Writer};
use super::device::{Device, DeviceError};

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// `TPM_RS_PW`: authorization by a password.
const PASSWORD: u32 = 0x4000_0009;

/// The most bytes of parameters in an answer.
const MAX_PARAMETERS: usize = 4_096;

/// A command: its number and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) u32, pub(super) &'static str);

/// By what the use of a handle is authorized.
#[derive(Clone, Copy, Debug)]
pub(super) enum Authorization {
    /// The password, which is empty.
    Password,
    /// A policy session, which ends with the command.
    Policy(u32),
}

/// A command and what goes with it.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) code: Code,
    pub(super) handles: &'a [u32],
    pub(super) authorizations: &'a [Authorization],
    pub(super) parameters: Writer,
    /// Whether the answer begins with a handle.
    pub(super) returns_handle: bool,
}

/// What a TPM answers.
#[derive(Debug)]
pub(super) struct Answered {
    /// 0 if there is none.
    pub(super) handle: u32,
    pub(super) parameters: Vec<u8>,
}

impl Command<'_> {
    /// Lets the TPM carry it out.
    pub(super) fn run(self, device: &mut Device) -> Result<Answered, DeviceError> {
        let Code(number, name) = self.code;
        let mut body = self.handles.iter().fold(Writer::default(), |body, h| body.u32(*h));
        let has_sessions = !self.authorizations.is_empty();
        if has_sessions {
            let areas = self.authorizations.iter().fold(Writer::default(), |areas, it| {
                let session = match it {
                    Authorization::Password => PASSWORD,
                    Authorization::Policy(session) => *session,
                };
                // The caller's nonce and the HMAC are empty, and nothing lasts.
                areas.u32(session).sized(&[]).u8(0).sized(&[])
            });
            let areas = areas.finish();
            body = body.u32(length(&areas)).bytes(&areas);
        }
        let body = body.bytes(&self.parameters.finish()).finish();
        let tag = if has_sessions { SESSIONS } else { NO_SESSIONS };
        let whole = length(&body).saturating_add(10);
        let command = Writer::default().u16(tag).u32(whole).u32(number).bytes(&body).finish();
        let answer = device.transact(&command)?;

        let mut reader = Reader::new(&answer);
        let (_tag, _length, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
        if code != 0 {
            return Err(DeviceError::Refused { command: name, code });
        }
        let handle = if self.returns_handle { reader.u32()? } else { 0 };
        let parameters = if has_sessions {
            let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
            reader.take(length.min(MAX_PARAMETERS))?
        } else {
            reader.rest()
        };
        Ok(Answered { handle, parameters: parameters.to_vec() })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
