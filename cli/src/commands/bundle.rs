//! `claviger bundle`: the keys that speak for the trust domain.

use clap::{Args, Subcommand, ValueEnum};
use claviger_core::bundle::{Bundle, json};
use claviger_proto::spire::server::bundle::v1::GetBundleRequest;

use crate::admin::Server;
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::pem;
use crate::socket::AdminSocket;

/// Shows the keys that speak for the trust domain
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the bundle of the server's trust domain
    #[command(long_about = "Shows the bundle of the server's trust domain: as PEM, or as the JWK \
        Set that SPIFFE defines, which is also what --output json means.\n\n\
        Example:\n  claviger bundle show > ca.pem")]
    Show(Show),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(console).await,
        }
    }
}

/// How a bundle is written
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum BundleFormat {
    /// Certificates, one after the other
    Pem,
    /// A JWK Set (SPIFFE Trust Domain and Bundle)
    Spiffe,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// How to write it
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<BundleFormat>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Show {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = GetBundleRequest { output_mask: None };
        let bundle = server.ask("show the bundle", server.bundles().get_bundle(request)).await?;
        let bundle = Bundle::try_from(bundle).map_err(|error| {
            Failure::failed(format_args!("the server sent a bundle that is none: {error}"))
        })?;
        let format = self.format.unwrap_or(match console.format() {
            Format::Pretty => BundleFormat::Pem,
            Format::Json => BundleFormat::Spiffe,
        });
        match format {
            BundleFormat::Pem => console::line(as_pem(&bundle).trim_end()),
            BundleFormat::Spiffe => console::line(as_jwks(&bundle)?),
        }
    }
}

fn as_pem(bundle: &Bundle) -> String {
    bundle.x509_authorities.iter().map(|authority| pem::certificate(&authority.der)).collect()
}

fn as_jwks(bundle: &Bundle) -> Result<String, Failure> {
    json::write(bundle).map_err(|error| {
        Failure::failed(format_args!("cannot write the bundle as a JWK Set: {error}"))
            .try_this("--format pem")
    })
}
