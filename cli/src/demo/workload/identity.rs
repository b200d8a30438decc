//! The program's own X.509-SVID.

use std::sync::Arc;

use bytes::Bytes;
use claviger_core::der;
use claviger_core::id::SpiffeId;
use claviger_core::time::{Clock, SystemClock};
use claviger_proto::workload::{X509svid, X509svidRequest};
use claviger_runtime::tls::{Identity, Svid, TrustBundle};
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status};

use super::{Workload, text};
use crate::console::{Console, Format};
use crate::demo::orders::Report;
use crate::workload::Agent;

/// Who it is, and whom it believes.
pub(super) struct Me {
    pub(super) id: SpiffeId,
    pub(super) identity: Identity,
    pub(super) bundle: TrustBundle,
}

impl Workload<'_> {
    /// Asks the agent who it is.
    pub(super) async fn fetch(&mut self) -> Result<Report, String> {
        let console = Console::new(Format::Json);
        let agent = Agent::at(self.socket, console).await.map_err(text)?;
        let svid = match first(&agent).await {
            Ok(svid) => svid,
            Err(status) if status.code() == Code::PermissionDenied => {
                return Ok(Report::Refused(status.message().to_owned()));
            }
            Err(status) => return Err(status.to_string()),
        };
        let me = Me::new(&svid)?;
        let id = me.id.clone();
        self.me = Some(me);
        Ok(Report::Fetched(id))
    }
}

/// The default identity of the first update.
async fn first(agent: &Agent) -> Result<X509svid, Status> {
    let mut stream = agent.workload_api().fetch_x509svid(X509svidRequest {}).await?.into_inner();
    let update = stream.message().await?.unwrap_or_default();
    update.svids.into_iter().next().ok_or_else(|| Status::internal("the update has no SVID"))
}

impl Me {
    fn new(wire: &X509svid) -> Result<Self, String> {
        let id: SpiffeId = wire.spiffe_id.parse().map_err(text)?;
        let svid = Svid::new(certificates(&wire.x509_svid)?, &wire.x509_svid_key).map_err(text)?;
        if *svid.leaf().id() != id {
            return Err(format!("the certificate is for {}, not for {id}", svid.leaf().id()));
        }
        let authorities = certificates(&wire.bundle)?;
        let bundle = TrustBundle::new(id.trust_domain().clone(), &authorities).map_err(text)?;
        Ok(Self { id, identity: Identity::new(svid), bundle })
    }
}

fn certificates(concatenated: &Bytes) -> Result<Vec<CertificateDer<'static>>, String> {
    let split = der::split(concatenated).map_err(text)?;
    Ok(split.iter().map(|der| CertificateDer::from(der.to_vec())).collect())
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
