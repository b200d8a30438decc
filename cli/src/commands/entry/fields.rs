//! What an entry says, as flags.

use clap::Args;
use claviger_core::id::TrustDomain;
use claviger_core::svid::{DnsName, SvidTtl};
use claviger_proto::spire::types;
use claviger_proto::spire::types::entry::AdditionalAttributes;

use crate::commands::selection;

/// What may be said about an entry beyond who gets it.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "SPIRE's entries have these five")]
pub(crate) struct Fields {
    /// A DNS name for the X.509-SVID; may be repeated
    #[arg(long = "dns-name", aliases = ["dnsName", "dns"], value_name = "NAME")]
    dns_names: Vec<DnsName>,

    /// How long an X.509-SVID lasts; the server decides if not given
    #[arg(long, alias = "x509SVIDTTL", value_name = "SECONDS", value_parser = ttl)]
    x509_svid_ttl: Option<SvidTtl>,

    /// How long a JWT-SVID lasts; the server decides if not given
    #[arg(long, alias = "jwtSVIDTTL", value_name = "SECONDS", value_parser = ttl)]
    jwt_svid_ttl: Option<SvidTtl>,

    /// A foreign trust domain whose bundle the process gets too; may be repeated
    #[arg(long, alias = "federatesWith", value_name = "DOMAIN", value_parser = selection::trust_domain)]
    federates_with: Vec<TrustDomain>,

    /// The identity may use the server's admin API
    #[arg(long)]
    admin: bool,

    /// The identity is a server that signs below this one
    #[arg(long)]
    downstream: bool,

    /// The SVID may be exported to a secret store
    #[arg(long, alias = "storeSVID")]
    store_svid: bool,

    /// The agent asks for an X.509-SVID when the process does, and not beforehand
    #[arg(long, alias = "disableX509SVIDPrefetch")]
    disable_x509_svid_prefetch: bool,

    /// Every JWT-SVID has an id of its own (`jti`), and is given out once
    #[arg(long, alias = "jwtSVIDIncludeJTI")]
    jwt_svid_include_jti: bool,

    /// When the entry ends, in seconds since 1970; never if not given
    #[arg(
        long,
        alias = "entryExpiry",
        value_name = "UNIX",
        default_value_t = 0,
        hide_default_value = true
    )]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    entry_expiry: i64,

    /// Tells a process with several identities what this one is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    hint: String,
}

impl From<Fields> for types::Entry {
    /// The entry without its name, identity, parent and selectors.
    fn from(fields: Fields) -> Self {
        let attributes = AdditionalAttributes {
            disable_x509_svid_prefetch: fields.disable_x509_svid_prefetch,
            jwt_svid_include_jti: fields.jwt_svid_include_jti,
        };
        Self {
            x509_svid_ttl: seconds(fields.x509_svid_ttl),
            jwt_svid_ttl: seconds(fields.jwt_svid_ttl),
            federates_with: fields.federates_with.iter().map(ToString::to_string).collect(),
            admin: fields.admin,
            downstream: fields.downstream,
            expires_at: fields.entry_expiry,
            dns_names: fields.dns_names.iter().map(ToString::to_string).collect(),
            store_svid: fields.store_svid,
            hint: fields.hint,
            additional_attributes: (attributes != AdditionalAttributes::default())
                .then_some(attributes),
            ..Self::default()
        }
    }
}

/// 0 on the wire leaves it to the server. A lifetime is at most thirty days, so it always fits.
fn seconds(ttl: Option<SvidTtl>) -> i32 {
    ttl.map_or(0, |ttl| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX))
}

fn ttl(text: &str) -> Result<SvidTtl, String> {
    let secs: u32 = text.parse().map_err(|error| format!("{error}"))?;
    secs.try_into().map_err(|error| format!("{error}"))
}
