//! Machines that are not AMD's: reports, the certificates of their keys, and who certifies those.

pub(crate) mod pki;

use std::fs;

use aws_lc_rs::rand::SystemRandom;
use claviger_core::evidence::{AttestedNode, BindingDigest};
use tempfile::TempDir;

use super::{Collector, CollectorConfig, Config, Product, Report, Verifier};
use crate::dsse::{Algorithm, Envelope, SigningKey};
use crate::fixture::World;
use crate::references::{self, PAYLOAD_TYPE};
use crate::tsm::fixture::{Answer, FakeKernel};
use crate::{NodeCollector, VerifyError};
use pki::Issue;

/// The GUIDs by which a host tells certificates apart.
pub(crate) const VCEK: [u8; 16] = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes();
pub(crate) const VLEK: [u8; 16] = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1_u128.to_be_bytes();

/// A table of certificates as a host hands it out.
pub(crate) fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut begin = (entries.len() + 1) * 24;
    let mut bytes = Vec::new();
    for (guid, content) in entries {
        bytes.extend([&guid[..], &number(begin), &number(content.len())].concat());
        begin += content.len();
    }
    bytes.extend([0; 24]);
    bytes.extend(entries.iter().flat_map(|(_, content)| content.iter()));
    bytes
}

/// A machine whose processor is of some product, and which has a key of some kind.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) product: Product,
    /// Whether its key is one that was lent to a cloud.
    pub(crate) vlek: bool,
    pub(crate) cpu: [u8; 3],
    pub(crate) version: u32,
    pub(crate) chip_id: [u8; 64],
    /// The versions of its firmware, all four of them.
    pub(crate) tcb: [u8; 8],
}

impl Machine {
    pub(crate) const MILAN: Self = Self {
        product: Product::Milan,
        vlek: false,
        cpu: [0x19, 1, 1],
        version: 3,
        chip_id: [0xc1; 64],
        tcb: [4, 0, 0, 0, 0, 0, 24, 219],
    };
    pub(crate) const GENOA: Self = Self {
        product: Product::Genoa,
        cpu: [0x19, 0x11, 1],
        version: 5,
        tcb: [9, 0, 0, 0, 0, 0, 23, 72],
        ..Self::MILAN
    };
    pub(crate) const TURIN: Self = Self {
        product: Product::Turin,
        cpu: [0x1a, 2, 1],
        version: 5,
        chip_id: {
            let mut id = [0; 64];
            id[0] = 0x55;
            id[7] = 0x4d;
            id
        },
        tcb: [1, 2, 3, 4, 0, 0, 0, 80],
        ..Self::MILAN
    };
    /// A cloud's, which masks its chips.
    pub(crate) const CLOUD: Self = Self { vlek: true, chip_id: [0; 64], ..Self::MILAN };

    /// The certificate of its key, in the making.
    pub(crate) fn issue(&self) -> Issue {
        Issue::endorsement(self)
    }

    pub(crate) fn endorsement(&self) -> Vec<u8> {
        self.issue().sign()
    }

    /// A report that carries `data`, signed by its key.
    pub(crate) fn report(&self, data: &[u8; 64]) -> Vec<u8> {
        self.report_edited(data, |_| {})
    }

    /// The same, of what `edit` makes of it before it is signed.
    pub(crate) fn report_edited(&self, data: &[u8; 64], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut report = vec![0; Report::SIZE];
        let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x000, &self.version.to_le_bytes());
        put(0x008, &0x3_0000_u64.to_le_bytes());
        put(0x034, &1_u32.to_le_bytes());
        put(0x048, &(u32::from(self.vlek) << 2).to_le_bytes());
        put(0x050, data);
        put(0x090, &MEASUREMENT);
        put(0x0c0, &[0x0d; 32]);
        put(0x140, &[0x1d; 32]);
        put(0x160, &[0xff; 32]);
        for at in [0x038, 0x180, 0x1e0, 0x1f0] {
            put(at, &self.tcb);
        }
        if 3 <= self.version {
            put(0x188, &self.cpu);
        }
        put(0x1a0, &self.chip_id);
        put(0x1e8, &[22, 55, 1, 0, 22, 55, 1, 0]);
        edit(&mut report);
        sign(&mut report);
        report
    }

    /// The answer of an honest node.
    pub(crate) fn answer(&self, data: &[u8; 64]) -> Vec<u8> {
        answer(&self.report(data), &self.endorsement())
    }
}

/// What every guest here was launched with.
pub(crate) const MEASUREMENT: [u8; 48] = [0xa5; 48];

/// Signs anew what was edited.
pub(crate) fn sign(report: &mut [u8]) {
    let signature = pki::vek().sign(&SystemRandom::new(), &report[..0x2a0]).unwrap();
    let (r, s) = signature.as_ref().split_at(48);
    for (at, number) in [(0x2a0, r), (0x2e8, s)] {
        let digits: Vec<u8> = number.iter().rev().copied().collect();
        report[at..at + 48].copy_from_slice(&digits);
    }
}

/// What a node answers.
pub(crate) fn answer(report: &[u8], endorsement: &[u8]) -> Vec<u8> {
    let (report, endorsement) = (base64(report), base64(endorsement));
    format!(r#"{{"report":"{report}","endorsement":"{endorsement}"}}"#).into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// `B` and zeros.
pub(crate) fn padded(digest: &BindingDigest) -> [u8; 64] {
    let mut data = [0; 64];
    data[..48].copy_from_slice(digest.as_bytes());
    data
}

/// A verifier's settings and the files that they name.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) dir: TempDir,
}

impl Settings {
    /// Those that admit the machines of above, with `more`.
    pub(crate) fn with(more: &str) -> Self {
        let registers = format!(r#"{{"measurement":"{}"}}"#, hex::encode(MEASUREMENT));
        Self::recognising(&registers, more)
    }

    /// Those that recognise software by `registers`.
    pub(crate) fn recognising(registers: &str, more: &str) -> Self {
        let (references, dir) = references(registers);
        let text = format!(
            "reference-values = {{ path = {:?}, keys = [{:?}] }}
            minimum-tcb.milan = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}
            minimum-tcb.genoa = {{ bootloader = 9, tee = 0, snp = 23, microcode = 72 }}
            minimum-tcb.turin = {{ fmc = 1, bootloader = 2, tee = 3, snp = 4, microcode = 80 }}
            {more}",
            references.path, references.keys[0],
        );
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.problems(), []);
        Self { config, dir }
    }

    /// A verifier that trusts the authorities of these tests.
    pub(crate) fn open(&self) -> Verifier {
        Verifier::trusting(pki::roots(), &self.config).unwrap()
    }
}

/// Signed reference values in files, with one image that has these `registers`.
pub(crate) fn references(registers: &str) -> (references::Config, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let payload = format!(
        r#"{{"kind":"sev_snp","expires":"2030-06-30T00:00:00Z",
            "images":[{{"name":"signer","version":"1.4.2","registers":{registers}}}]}}"#
    );
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let (path, public) = (dir.path().join("references.json"), dir.path().join("key.pem"));
    fs::write(&public, key.public_pem().unwrap()).unwrap();
    let envelope = Envelope::seal(PAYLOAD_TYPE, payload.as_bytes(), &[key]).unwrap();
    fs::write(&path, serde_json::to_vec(&envelope).unwrap()).unwrap();
    (references::Config { path, keys: vec![public] }, dir)
}

/// A guest on `machine`, whose host hands out the certificate of its key.
pub(crate) fn guest(machine: Machine) -> Collector {
    let guid = if machine.vlek { VLEK } else { VCEK };
    collector(machine, Some(table(&[(guid, &machine.endorsement())])), &CollectorConfig::default())
}

/// A guest whose host hands out this `auxblob`.
pub(crate) fn collector(
    machine: Machine,
    auxblob: Option<Vec<u8>>,
    config: &CollectorConfig,
) -> Collector {
    let (tsm, _kernel) = FakeKernel::tsm(move |data| Answer {
        provider: "sev_guest\n".to_owned(),
        outblob: machine.report(&data),
        auxblob: auxblob.clone(),
    });
    Collector::asking(tsm, config).unwrap()
}

/// Lets a guest attest by these settings.
pub(crate) async fn attest(
    settings: &Settings,
    collector: &dyn NodeCollector,
) -> Result<AttestedNode, VerifyError> {
    World::default().attest(&settings.open(), collector).await
}
