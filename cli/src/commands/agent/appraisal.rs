//! `claviger agent appraisal`.

use std::fmt;

use clap::Args;
use claviger_core::evidence::{Appraisal, Bond};
use claviger_core::id::SpiffeId;
use claviger_proto::claviger::admin::v1::GetAppraisalRequest;
use serde::Serialize;

use crate::admin::Server;
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

#[derive(Args, Debug)]
pub(crate) struct Appraise {
    /// Which agent
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: SpiffeId,

    /// Prints it as a signed attestation result
    #[arg(long)]
    jwt: bool,

    /// What the result is to carry so that whoever relies on it sees that it is fresh: 8 to 64 bytes, in
    /// hexadecimal digits
    #[arg(long, value_name = "HEX", requires = "jwt", value_parser = nonce)]
    nonce: Option<Nonce>,

    /// How long the result lasts at most; an hour, if not given, and never longer than the agent's SVID
    #[arg(long, value_name = "SECONDS", requires = "jwt")]
    #[arg(value_parser = clap::value_parser!(u32).range(5..))]
    ttl: Option<u32>,

    #[command(flatten)]
    socket: AdminSocket,
}

/// The bytes of a nonce.
#[derive(Clone, Debug)]
struct Nonce(Vec<u8>);

fn nonce(text: &str) -> Result<Nonce, String> {
    let bytes = hex::decode(text).unwrap_or_default();
    let fits = (8..=64).contains(&bytes.len());
    fits.then_some(Nonce(bytes)).ok_or_else(|| "write 16 to 128 hexadecimal digits".to_owned())
}

impl Appraise {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = GetAppraisalRequest {
            agent_id: self.spiffe_id.to_string(),
            sign: self.jwt,
            nonce: self.nonce.map(|Nonce(bytes)| bytes).unwrap_or_default(),
            ttl: self.ttl.unwrap_or_default(),
        };
        let doing = format!("show the appraisal of agent {}", self.spiffe_id);
        let answer = server.ask(&doing, server.admin().get_appraisal(request)).await?;
        if self.jwt {
            return match console.format() {
                Format::Pretty => console::line(answer.token),
                Format::Json => console.answer(&Signed {
                    spiffe_id: self.spiffe_id,
                    expires_at: answer.expires_at,
                    token: answer.token,
                }),
            };
        }
        let appraisal = serde_json::from_slice(&answer.appraisal).map_err(|error| {
            Failure::failed(format_args!("the server sent an appraisal that is none: {error}"))
        })?;
        console.answer(&Shown::new(self.spiffe_id, answer.appraised_at, appraisal))
    }
}

/// `{"spiffe_id","expires_at","token"}`.
#[derive(Debug, Serialize)]
struct Signed {
    spiffe_id: SpiffeId,
    /// Seconds since 1970.
    expires_at: u64,
    token: String,
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

/// `{"spiffe_id","appraised_at","status","appraisal":{…}}`.
#[derive(Debug, Serialize)]
struct Shown {
    spiffe_id: SpiffeId,
    /// Seconds since 1970.
    appraised_at: u64,
    status: &'static str,
    appraisal: Appraisal,
}

impl Shown {
    fn new(spiffe_id: SpiffeId, appraised_at: u64, appraisal: Appraisal) -> Self {
        let status = appraisal.tier().name();
        Self { spiffe_id, appraised_at, status, appraisal }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}, ", self.spiffe_id, self.status)?;
        write!(f, "as judged at {}", times::show_unsigned(self.appraised_at))?;
        write(f, &self.appraisal)
    }
}

/// One appraisal, and those of its parts.
fn write(f: &mut fmt::Formatter<'_>, appraisal: &Appraisal) -> fmt::Result {
    let Appraisal { kind, bond, source, trust, measured, parts } = appraisal;
    let bond = match bond {
        Bond::Key => "bound to the agent's key",
        Bond::Bearer => "bound to nothing: whoever has it can present it",
    };
    write!(f, "\n\n{kind}: {}, {bond}", appraisal.tier().name())?;
    if !source.is_empty() {
        write!(f, "; by {source}")?;
    }
    let claims = trust.claims().map(|(aspect, claim)| {
        [aspect.name().to_owned(), claim.tier().name().to_owned(), aspect.says(claim).to_owned()]
    });
    let measured = measured.iter().map(|(name, value)| [name.clone(), value.clone()]);
    let (claims, measured): (Vec<_>, Vec<_>) = (claims.collect(), measured.collect());
    if !claims.is_empty() {
        write!(f, "\n\n{}", console::table(["CLAIM", "TIER", "WHICH SAYS"], claims))?;
    }
    if !measured.is_empty() {
        write!(f, "\n\n{}", console::table(["MEASURED", "VALUE"], measured))?;
    }
    parts.iter().try_for_each(|part| write(f, part))
}

#[cfg(test)]
mod tests {
    use claviger_core::evidence::TrustClaim;

    use super::*;

    fn shown() -> Shown {
        let mut tpm = Appraisal::new("tpm", Bond::Key);
        tpm.trust.hardware = TrustClaim::AFFIRMING;
        tpm.trust.executables = TrustClaim::UNRECOGNISED;
        tpm.measured.insert("pcr4".to_owned(), "00ff".to_owned());
        let mut token = Appraisal::new("k8s_psat", Bond::Bearer);
        token.source = "token review".to_owned();
        let mut both = Appraisal::new("composite", Bond::Bearer);
        (both.trust, both.parts) = (tpm.trust, vec![token, tpm]);
        let id = "spiffe://a.org/spire/agent/composite/1".parse().unwrap();
        Shown::new(id, 1_800_000_000, both)
    }

    #[test]
    fn people_read_what_each_claim_says_part_by_part() {
        let want = "\
spiffe://a.org/spire/agent/composite/1
warning, as judged at 2027-01-15T08:00:00Z

composite: warning, bound to nothing: whoever has it can present it

CLAIM        TIER       WHICH SAYS
executables  warning    some are not recognised
hardware     affirming  genuine and supported

k8s_psat: none, bound to nothing: whoever has it can present it; by token review

tpm: warning, bound to the agent's key

CLAIM        TIER       WHICH SAYS
executables  warning    some are not recognised
hardware     affirming  genuine and supported

MEASURED  VALUE
pcr4      00ff";
        assert_eq!(shown().to_string(), want);
    }

    #[test]
    fn json_has_the_appraisal_as_the_audit_log_has_it() {
        let json = serde_json::to_value(shown()).unwrap();
        assert_eq!(json["status"], "warning");
        assert_eq!(json["appraised_at"], 1_800_000_000);
        let tpm = serde_json::json!({
            "kind": "tpm",
            "bond": "key",
            "trust": {"executables": 33, "hardware": 2},
            "measured": {"pcr4": "00ff"},
        });
        assert_eq!(json["appraisal"]["parts"][1], tpm);
    }

    #[test]
    fn a_nonce_has_8_to_64_bytes() {
        assert_eq!(nonce("5ad76b5fc4a69a2a").unwrap().0.len(), 8);
        for wrong in ["", "5ad76b5fc4a69a", "x", &"00".repeat(65)] {
            assert!(nonce(wrong).unwrap_err().contains("16 to 128"), "{wrong}");
        }
    }
}
