//! The commands that attestation takes (Part 3).

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use super::TalkError;
use super::command::{Answered, Authorization, Code, Command};
use super::device::{Address, Device, DeviceError};
use super::template::EkTemplate;
use crate::tpm::structure::{Hash, Malformed, NULL, Pcrs, Public, Reader, Selection, Writer};

const NV_READ: Code = Code(0x014e, "TPM2_NV_Read");
const CREATE_PRIMARY: Code = Code(0x0131, "TPM2_CreatePrimary");
const ACTIVATE_CREDENTIAL: Code = Code(0x0147, "TPM2_ActivateCredential");
const POLICY_SECRET: Code = Code(0x0151, "TPM2_PolicySecret");
const QUOTE: Code = Code(0x0158, "TPM2_Quote");
const FLUSH_CONTEXT: Code = Code(0x0165, "TPM2_FlushContext");
const NV_READ_PUBLIC: Code = Code(0x0169, "TPM2_NV_ReadPublic");
const READ_PUBLIC: Code = Code(0x0173, "TPM2_ReadPublic");
const START_AUTH_SESSION: Code = Code(0x0176, "TPM2_StartAuthSession");
const PCR_READ: Code = Code(0x017e, "TPM2_PCR_Read");

/// `TPM_RH_OWNER`, `TPM_RH_NULL`, `TPM_RH_ENDORSEMENT`.
const OWNER: u32 = 0x4000_0001;
const NOBODY: u32 = 0x4000_0007;
const ENDORSEMENT: u32 = 0x4000_000b;

/// `TPM_SE_POLICY`.
const POLICY_SESSION: u8 = 1;
/// `TPMA_NV_AUTHREAD`: whoever has the password of an index may read it.
const AUTHREAD: u32 = 1 << 18;
/// `TPM_RC_HANDLE` of the first handle: there is nothing by that handle.
const NOTHING_THERE: u32 = 0x018b;

/// What every TPM can give of an index at once, in bytes.
const NV_CHUNK: u16 = 512;
/// The largest certificate that is read of a TPM.
const MAX_CERTIFICATE: usize = 4_096;
/// The longest answers: to a quote, and what is in a credential.
const MAX_ATTEST: usize = 1_024;
const MAX_SECRET: usize = 64;

/// A TPM during a visit.
pub(super) struct Tpm {
    device: Device,
    /// Keys and sessions that we made there.
    made: Vec<u32>,
}

impl Tpm {
    /// Lets `work` talk with the TPM. What was made there is removed, however the visit ends.
    pub(super) fn visit<T>(
        address: &Address,
        work: impl FnOnce(&mut Self) -> Result<T, TalkError>,
    ) -> Result<T, TalkError> {
        let mut tpm = Self { device: Device::open(address)?, made: Vec::new() };
        let done = work(&mut tpm);
        while let Some(handle) = tpm.made.pop() {
            if let Err(error) = tpm.flush(handle) {
                warn!(%error, "a key or a session of ours stays in the TPM");
            }
        }
        done
    }

    fn run(
        &mut self,
        code: Code,
        handles: &[u32],
        authorizations: &[Authorization],
        parameters: Writer,
    ) -> Result<Answered, DeviceError> {
        let returns_handle = matches!(code.0, 0x0131 | 0x0176);
        let command = Command { code, handles, authorizations, parameters, returns_handle };
        let answered = command.run(&mut self.device)?;
        if returns_handle {
            self.made.push(answered.handle);
        }
        Ok(answered)
    }

    fn flush(&mut self, handle: u32) -> Result<(), DeviceError> {
        self.run(FLUSH_CONTEXT, &[], &[], Writer::default().u32(handle)).map(drop)
    }

    /// The certificate at `index`, if there is one. Some makers pad it.
    pub(super) fn certificate(&mut self, index: u32) -> Result<Option<Vec<u8>>, DeviceError> {
        let public = match self.run(NV_READ_PUBLIC, &[index], &[], Writer::default()) {
            Ok(public) => public.parameters,
            Err(DeviceError::Refused { code: NOTHING_THERE, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut reader = Reader::new(&public);
        let mut area = Reader::new(reader.sized(MAX_SECRET.saturating_mul(4))?);
        let (_index, _hash, attributes) = (area.u32()?, area.u16()?, area.u32()?);
        let (_policy, size) = (area.sized(MAX_SECRET)?, area.u16()?);
        let by = if attributes & AUTHREAD == 0 { OWNER } else { index };
        if MAX_CERTIFICATE < usize::from(size) {
            return Err(Malformed("a certificate is larger than there can be").into());
        }
        let mut bytes = Vec::new();
        let mut offset = 0;
        while offset < size {
            let chunk = NV_CHUNK.min(size.saturating_sub(offset));
            let what = Writer::default().u16(chunk).u16(offset);
            let read = self.run(NV_READ, &[by, index], &[Authorization::Password], what)?;
            let read = Reader::new(&read.parameters).sized(usize::from(NV_CHUNK))?.to_vec();
            if read.len() != usize::from(chunk) {
                return Err(Malformed("it gives less of an index than there is").into());
            }
            bytes.extend_from_slice(&read);
            offset = offset.saturating_add(chunk);
        }
        let padding = X509Certificate::from_der(&bytes).map(|(padding, _)| padding.len());
        let padding = padding.map_err(|_other| Malformed("its EK's certificate is malformed"))?;
        bytes.truncate(bytes.len().saturating_sub(padding));
        Ok(Some(bytes))
    }

    /// The EK: the one that somebody made before, if it is by `template`, or else a new one.
    pub(super) fn endorsement_key(
        &mut self,
        template: &EkTemplate,
    ) -> Result<(u32, Public), DeviceError> {
        let kept = self.run(READ_PUBLIC, &[template.persistent], &[], Writer::default());
        match kept {
            Ok(kept) => {
                let public = Public::read(&mut Reader::new(&kept.parameters));
                if let Ok(public) = public
                    && public.area().starts_with(&template.common())
                {
                    return Ok((template.persistent, public));
                }
            }
            Err(DeviceError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        self.create_primary(&template.area())
    }

    /// Makes a primary key of the endorsement hierarchy.
    pub(super) fn create_primary(&mut self, area: &[u8]) -> Result<(u32, Public), DeviceError> {
        // Neither password nor data for the key; nothing about PCRs at its creation.
        let sensitive = Writer::default().sized(&[]).sized(&[]).finish();
        let parameters = Writer::default().sized(&sensitive).sized(area).sized(&[]).u32(0);
        let made =
            self.run(CREATE_PRIMARY, &[ENDORSEMENT], &[Authorization::Password], parameters)?;
        let public = Public::read(&mut Reader::new(&made.parameters))?;
        Ok((made.handle, public))
    }

    /// What is hidden in a credential and its seed, for this AK and this EK.
    pub(super) fn activate(
        &mut self,
        ak: u32,
        ek: u32,
        template: &EkTemplate,
        (credential, seed): (&[u8], &[u8]),
    ) -> Result<Zeroizing<Vec<u8>>, DeviceError> {
        let by = if template.has_policy() {
            Authorization::Policy(self.endorsement_session()?)
        } else {
            Authorization::Password
        };
        let parameters = Writer::default().sized(credential).sized(seed);
        let both = [Authorization::Password, by];
        let found = self.run(ACTIVATE_CREDENTIAL, &[ak, ek], &both, parameters)?;
        if let Authorization::Policy(ended) = by {
            self.made.retain(|made| *made != ended);
        }
        let parameters = Zeroizing::new(found.parameters);
        Ok(Zeroizing::new(Reader::new(&parameters).sized(MAX_SECRET)?.to_vec()))
    }

    /// A session that keeps PolicyA: the endorsement hierarchy's password is known.
    fn endorsement_session(&mut self) -> Result<u32, DeviceError> {
        let start = Writer::default().sized(&[0; 16]).sized(&[]).u8(POLICY_SESSION);
        let start = start.u16(NULL).u16(Hash::Sha256.number());
        let session = self.run(START_AUTH_SESSION, &[NOBODY, NOBODY], &[], start)?.handle;
        let nothing = Writer::default().sized(&[]).sized(&[]).sized(&[]).u32(0);
        self.run(POLICY_SECRET, &[ENDORSEMENT, session], &[Authorization::Password], nothing)?;
        Ok(session)
    }

    /// A quote of the PCRs in `selection` by the key `ak`, with `extra` in it; and the signature.
    pub(super) fn quote(
        &mut self,
        ak: u32,
        extra: &[u8],
        selection: &Selection,
    ) -> Result<(Vec<u8>, Vec<u8>), DeviceError> {
        let parameters = selection.write(Writer::default().sized(extra).u16(NULL));
        let quoted = self.run(QUOTE, &[ak], &[Authorization::Password], parameters)?;
        let mut reader = Reader::new(&quoted.parameters);
        let attest = reader.sized(MAX_ATTEST)?.to_vec();
        Ok((attest, reader.rest().to_vec()))
    }

    /// What is in the PCRs in `selection`. A TPM gives eight at a time.
    pub(super) fn read_pcrs(&mut self, selection: &Selection) -> Result<Pcrs, DeviceError> {
        let mut values = BTreeMap::new();
        let mut left = selection.pcrs.clone();
        while !left.is_empty() {
            let wanted = Selection { bank: selection.bank, pcrs: left.clone() };
            let read = self.run(PCR_READ, &[], &[], wanted.write(Writer::default()))?;
            let mut reader = Reader::new(&read.parameters);
            let _changes = reader.u32()?;
            let given = Selection::read(&mut reader)?;
            let is_part = given.bank == selection.bank && given.pcrs.is_subset(&left);
            let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
            if !is_part || given.pcrs.is_empty() || count != given.pcrs.len() {
                return Err(Malformed("it has not the PCRs that were asked for").into());
            }
            for pcr in &given.pcrs {
                values.insert(*pcr, reader.sized(MAX_SECRET)?.to_vec());
            }
            left = left.difference(&given.pcrs).copied().collect::<BTreeSet<_>>();
        }
        Ok(Pcrs { bank: selection.bank, values })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use tpm2_protocol::frame::TpmCommand;

    use super::super::template::{TEMPLATES, ak_template};
    use super::*;

    /// The first command of `work`, to a TPM that refuses it.
    fn first(work: impl FnOnce(&mut Tpm) -> Result<(), DeviceError>) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpm");
        let listener = UnixListener::bind(&path).unwrap();
        let tpm = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut command = vec![0; 4_096];
            let length = stream.read(&mut command).unwrap();
            stream.write_all(&[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]).unwrap();
            command[..length].to_vec()
        });
        let refused = Tpm::visit(&Address::Unix(path), |tpm| Ok(work(tpm)?)).unwrap_err();
        assert!(refused.to_string().contains("0x101: it has failed"), "{refused}");
        tpm.join().unwrap()
    }

    #[test]
    fn commands_are_what_another_reader_takes_for_them() {
        let selection = Selection { bank: Hash::Sha256, pcrs: (0..24).collect() };
        let [rsa, p256, p384] = &TEMPLATES;
        let commands = [
            (NV_READ_PUBLIC, first(|tpm| tpm.certificate(rsa.certificate).map(drop))),
            (
                READ_PUBLIC,
                first(|tpm| tpm.run(READ_PUBLIC, &[1], &[], Writer::default()).map(drop)),
            ),
            (CREATE_PRIMARY, first(|tpm| tpm.create_primary(&rsa.area()).map(drop))),
            (CREATE_PRIMARY, first(|tpm| tpm.create_primary(&p256.area()).map(drop))),
            (CREATE_PRIMARY, first(|tpm| tpm.create_primary(&p384.area()).map(drop))),
            (CREATE_PRIMARY, first(|tpm| tpm.create_primary(&ak_template(&[7; 32])).map(drop))),
            (START_AUTH_SESSION, first(|tpm| tpm.endorsement_session().map(drop))),
            (
                ACTIVATE_CREDENTIAL,
                first(|tpm| {
                    let credential = Writer::default().sized(&[1; 32]).bytes(&[2; 34]).finish();
                    tpm.activate(0x8000_0000, 0x8000_0001, p384, (&credential, &[3; 100])).map(drop)
                }),
            ),
            (QUOTE, first(|tpm| tpm.quote(0x8000_0000, &[9; 32], &selection).map(drop))),
            (PCR_READ, first(|tpm| tpm.read_pcrs(&selection).map(drop))),
        ];
        for (Code(code, name), bytes) in commands {
            assert_eq!(bytes[6..10], code.to_be_bytes(), "{name}");
            let command = TpmCommand::cast(&bytes);
            command.and_then(TpmCommand::validate).unwrap_or_else(|error| {
                panic!("{name}: {error:?}: {}", hex::encode(&bytes));
            });
        }
    }
}
