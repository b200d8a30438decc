//! `claviger svid revoke`: the operator withdraws an SVID.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_proto::claviger::admin::v1::RevokeX509svidRequest;
use serde::Serialize;

use crate::admin::Server;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::{files, times};

#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The SVID's certificate in PEM; the first in the file counts, and `-` is standard input
    #[arg(value_name = "FILE")]
    certificate: PathBuf,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Revoke {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let certificate = self.read()?;
        let server = Server::connect(&self.socket, console).await?;
        let request = RevokeX509svidRequest { certificate };
        let mut revocation = server.revocation();
        let revoked = server.ask("revoke the SVID", revocation.revoke_x509svid(request)).await?;
        console.answer(&Revoked {
            serial: revoked.serial,
            spiffe_id: revoked.spiffe_id,
            expires_at: i64::try_from(revoked.expires_at).unwrap_or(i64::MAX),
        })
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let text = files::read(&self.certificate, MAX_FILE)?;
        let blocks = ::pem::parse_many(text).map_err(|error| {
            Failure::usage(format_args!("it is not PEM: {error}"))
                .within(self.certificate.display())
        })?;
        let leaf = blocks.into_iter().find(|block| block.tag() == "CERTIFICATE");
        leaf.map(::pem::Pem::into_contents).ok_or_else(|| {
            Failure::usage("it holds no certificate")
                .within(self.certificate.display())
                .try_this("the file svid.0.pem that `claviger svid fetch --write DIR` made")
        })
    }
}

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;

#[derive(Debug, Serialize)]
struct Revoked {
    serial: String,
    spiffe_id: String,
    expires_at: i64,
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "revoked {} of {}, which would have ended {}",
            self.serial,
            self.spiffe_id,
            times::show(self.expires_at)
        )
    }
}
