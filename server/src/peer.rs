//! Whoever calls by HTTPS with an X.509-SVID, and whether that is still to be believed: the SVID was good
//! when the connection began.

use claviger_core::id::SpiffeId;
use claviger_runtime::tls::Leaf;

use crate::api::Shared;

/// Who showed `leaf`, if it still says so.
///
/// # Errors
///
/// [`Disbelieved`] says why it does not.
pub(crate) async fn believe<'a>(
    shared: &Shared,
    leaf: Option<&'a Leaf>,
) -> Result<&'a SpiffeId, Disbelieved> {
    let leaf = leaf.ok_or(Disbelieved::Nobody)?;
    if leaf.not_after() < shared.now() {
        return Err(Disbelieved::Ended);
    }
    if shared.revocations.is_revoked(leaf.id(), leaf.serial()).await {
        return Err(Disbelieved::Revoked);
    }
    if shared.storage.standings.of(leaf.id()).quarantined {
        return Err(Disbelieved::Quarantined);
    }
    Ok(leaf.id())
}

/// The caller is not believed, or not listened to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Disbelieved {
    #[error("the caller showed no X.509-SVID")]
    Nobody,
    #[error("the caller's X.509-SVID has ended")]
    Ended,
    #[error("the caller's X.509-SVID was revoked")]
    Revoked,
    #[error("the caller is in quarantine")]
    Quarantined,
}
