//! Trust domains that entries federate with, and whose bundles are not known.

use std::collections::BTreeSet;

use claviger_proto::spire::server::bundle::v1::ListFederatedBundlesRequest;
use claviger_proto::spire::types;

use crate::admin::{self, Server};
use crate::console;
use crate::failure::Failure;

/// Says which bundles are missing. The entries stand, and come to effect when the bundles are set;
/// but a name with a typo would wait forever.
pub(super) async fn warn(server: &Server, entries: &[types::Entry]) -> Result<(), Failure> {
    let wanted: BTreeSet<_> = entries.iter().flat_map(|entry| &entry.federates_with).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let known = known(server).await?;
    for name in wanted.into_iter().filter(|name| !known.contains(*name)) {
        console::remark(format_args!(
            "warning: there is no bundle of `{name}` yet; set it with `claviger bundle set --id \
             spiffe://{name}`"
        ));
    }
    Ok(())
}

/// The names of the trust domains whose bundles are known.
async fn known(server: &Server) -> Result<BTreeSet<String>, Failure> {
    let bundles = admin::pages(async |page_token| {
        let output_mask = Some(types::BundleMask::default());
        let request = ListFederatedBundlesRequest { output_mask, page_size: 0, page_token };
        let page =
            server.ask("list bundles", server.bundles().list_federated_bundles(request)).await?;
        Ok((page.bundles, page.next_page_token))
    });
    Ok(bundles.await?.into_iter().map(|bundle| bundle.trust_domain).collect())
}
