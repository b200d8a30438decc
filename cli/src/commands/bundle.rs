//! `claviger bundle`: the keys that speak for trust domains, ours and others.

mod document;
mod listing;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use claviger_core::bundle::Bundle;
use claviger_core::bundle::json::MAX_DOCUMENT;
use claviger_core::id::TrustDomain;
use claviger_proto::spire::server::bundle::v1::batch_delete_federated_bundle_request::Mode as Wire;
use claviger_proto::spire::server::bundle::v1::{
    BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, CountBundlesRequest,
    GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
};
use claviger_proto::spire::types;

use super::selection;
use crate::admin::{self, Server};
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::files;
use crate::socket::AdminSocket;
use document::BundleFormat;
use listing::{Deleted, Listing, Summary};

/// Shows and sets the keys that speak for trust domains
#[derive(Debug, Subcommand)]
#[command(long_about = "Shows and sets the keys that speak for trust domains: this server's, and \
                        those of others that it federates with.")]
pub(crate) enum Command {
    /// Shows the bundle of the server's trust domain
    #[command(long_about = "Shows the bundle of the server's trust domain: as PEM, or as the JWK \
        Set that SPIFFE defines, which is also what --output json means.\n\n\
        Example:\n  claviger bundle show > ca.pem")]
    Show(Show),
    /// Sets the bundle of another trust domain
    #[command(long_about = "Sets the bundle of another trust domain, or replaces it whole. \
        Processes whose entries federate with it have it at once. PEM holds X.509 authorities \
        only; the JWK Set that SPIFFE defines has the keys for tokens, too.\n\n\
        Example:\n  claviger bundle set --id spiffe://other.org --format spiffe --path other.json")]
    Set(Set),
    /// Lists the bundles of other trust domains
    #[command(long_about = "Lists the bundles of other trust domains: what is in them, or with \
        --format the bundles themselves.\n\n\
        Example:\n  claviger bundle list --id spiffe://other.org --format spiffe")]
    List(List),
    /// Deletes the bundle of another trust domain
    #[command(long_about = "Deletes the bundle of another trust domain. Processes that had it \
        lose it at once. If entries federate with it, --mode says what becomes of them.\n\n\
        Example:\n  claviger bundle delete --id spiffe://other.org --mode dissociate")]
    Delete(Delete),
    /// Counts bundles, the server's own included
    #[command(long_about = "Counts bundles, the server's own included.\n\n\
        Example:\n  claviger bundle count")]
    Count(Count),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(console).await,
            Self::Set(set) => set.run(console).await,
            Self::List(list) => list.run(console).await,
            Self::Delete(delete) => delete.run(console).await,
            Self::Count(count) => count.run(console).await,
        }
    }
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
        let format = self.format.unwrap_or(match console.format() {
            Format::Pretty => BundleFormat::Pem,
            Format::Json => BundleFormat::Spiffe,
        });
        console::line(document::write(&parse(bundle)?, format)?)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    /// Whose bundle it is, as `spiffe://other.org` or `other.org`
    #[arg(long, value_name = "DOMAIN", value_parser = selection::trust_domain)]
    id: TrustDomain,

    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "pem")]
    format: BundleFormat,

    /// Where it is, `-` for standard input
    #[arg(long = "path", value_name = "FILE", default_value = "-")]
    file: PathBuf,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Set {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let most = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX);
        let document = files::read(&self.file, most)?;
        let bundle = document::read(&self.id, self.format, &document).map_err(|failure| {
            failure.within(format_args!("`{}` is no bundle", self.file.display()))
        })?;

        let server = Server::connect(&self.socket, console).await?;
        let doing = format!("set the bundle of `{}`", self.id);
        let request =
            BatchSetFederatedBundleRequest { bundle: vec![(&bundle).into()], output_mask: None };
        let mut client = server.bundles();
        let setting = client.batch_set_federated_bundle(request);
        let answer = server.ask(&doing, setting).await?;
        admin::item(&doing, admin::only(&doing, answer.results)?.status)?;
        console.answer(&Listing { bundles: vec![Summary::of(&bundle)] })
    }
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only that of this trust domain, as `spiffe://other.org` or `other.org`
    #[arg(long, value_name = "DOMAIN", value_parser = selection::trust_domain)]
    id: Option<TrustDomain>,

    /// Prints the bundles themselves
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<BundleFormat>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl List {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let found = match &self.id {
            Some(trust_domain) => vec![one(&server, trust_domain).await?],
            None => all(&server).await?,
        };
        let bundles = found.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        match (self.format, bundles.as_slice()) {
            (None, bundles) => {
                console.answer(&Listing { bundles: bundles.iter().map(Summary::of).collect() })
            }
            (Some(format), [only]) if self.id.is_some() => {
                console::line(document::write(only, format)?)
            }
            (Some(format), several) => console::line(document::write_all(several, format)?),
        }
    }
}

async fn one(server: &Server, trust_domain: &TrustDomain) -> Result<types::Bundle, Failure> {
    let doing = format!("show the bundle of `{trust_domain}`");
    let trust_domain = trust_domain.to_string();
    let request = GetFederatedBundleRequest { trust_domain, output_mask: None };
    server.ask(&doing, server.bundles().get_federated_bundle(request)).await
}

async fn all(server: &Server) -> Result<Vec<types::Bundle>, Failure> {
    admin::pages(async |page_token| {
        let request = ListFederatedBundlesRequest { output_mask: None, page_size: 0, page_token };
        let page =
            server.ask("list bundles", server.bundles().list_federated_bundles(request)).await?;
        Ok((page.bundles, page.next_page_token))
    })
    .await
}

/// What becomes of entries that federate with the trust domain
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Mode {
    /// They prevent the deletion
    Restrict,
    /// They stay, and no longer federate with it
    Dissociate,
    /// They are deleted, too
    Delete,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Whose bundle it is, as `spiffe://other.org` or `other.org`
    #[arg(long, value_name = "DOMAIN", value_parser = selection::trust_domain)]
    id: TrustDomain,

    /// What becomes of entries that federate with it
    #[arg(long, value_enum, value_name = "HOW", default_value = "restrict")]
    mode: Mode,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Delete {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let doing = format!("delete the bundle of `{}`", self.id);
        let mode = match self.mode {
            Mode::Restrict => Wire::Restrict,
            Mode::Dissociate => Wire::Dissociate,
            Mode::Delete => Wire::Delete,
        };
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: vec![self.id.to_string()],
            mode: mode.into(),
        };
        let mut client = server.bundles();
        let deleting = client.batch_delete_federated_bundle(request);
        let answer = server.ask(&doing, deleting).await?;
        admin::item(&doing, admin::only(&doing, answer.results)?.status)?;
        console.answer(&Deleted { deleted: self.id })
    }
}

#[derive(Args, Debug)]
pub(crate) struct Count {
    #[command(flatten)]
    socket: AdminSocket,
}

impl Count {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let request = CountBundlesRequest {};
        let counted = server.ask("count bundles", server.bundles().count_bundles(request)).await?;
        console.answer(&console::Count { count: counted.count, one: "bundle", many: "bundles" })
    }
}

fn parse(wire: types::Bundle) -> Result<Bundle, Failure> {
    Bundle::try_from(wire).map_err(|error| {
        Failure::failed(format_args!("the server sent a bundle that is none: {error}"))
    })
}
