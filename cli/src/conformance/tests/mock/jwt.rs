//! The mock's JWT-SVIDs.

use std::time::Duration;

use claviger_proto::workload::{Jwtsvid, JwtsvidRequest, JwtsvidResponse};
use serde_json::json;
use tonic::Status;

use super::material::JWT_KID;
use super::{Fault, IDS, Mock, OWN};
use crate::conformance::spiffe_id;

impl Mock {
    pub(super) async fn jwt_svids(
        &self,
        request: JwtsvidRequest,
    ) -> Result<JwtsvidResponse, Status> {
        let JwtsvidRequest { audience, spiffe_id } = request;
        self.audience(&audience).await?;
        let mut ids = if spiffe_id.is_empty() {
            IDS.map(str::to_owned).to_vec()
        } else {
            vec![self.requested(&spiffe_id)?]
        };
        if self.has(Fault::JwtFirstIdentityOnly) {
            ids.truncate(1);
        }
        let svids = ids.into_iter().map(|id| self.jwt_svid(id, &audience)).collect();
        Ok(JwtsvidResponse { svids })
    }

    async fn audience(&self, audience: &[String]) -> Result<(), Status> {
        let granted = match self.fault {
            Some(Fault::AudienceMissingGranted) => audience.is_empty(),
            Some(Fault::AudienceEmptyGranted) => audience.iter().any(String::is_empty),
            _ => false,
        };
        if granted || !(audience.is_empty() || audience.iter().any(String::is_empty)) {
            return Ok(());
        }
        if self.has(Fault::AudienceEmptyLate) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Err(Status::invalid_argument("audience must be specified"))
    }

    /// The caller's identity that a request names.
    fn requested(&self, id: &str) -> Result<String, Status> {
        let malformed = |why| Err(Status::invalid_argument(why));
        let own = |same: &dyn Fn(&str) -> bool| IDS.into_iter().find(|own| same(own));
        match self.fault {
            Some(Fault::MalformedIdIsInternal) if id.contains('?') => {
                return Err(Status::internal("cannot parse"));
            }
            Some(Fault::UnderscoreRefused) if id.contains("_body") => return malformed("name"),
            Some(Fault::LongIdRefused) if id.len() > 1024 => return malformed("too long"),
            Some(Fault::PathNormalised) => {
                let clean = id.trim_end_matches("/.").trim_end_matches('/');
                if let Some(own) = own(&|own| own == clean) {
                    return Ok(own.to_owned());
                }
            }
            Some(Fault::PathCaseIgnored) => {
                let same = |own: &str| own.eq_ignore_ascii_case(id);
                if let (Ok(_), Some(own)) = (spiffe_id::parse(id), own(&same)) {
                    return Ok(own.to_owned());
                }
            }
            _ => {}
        }
        if let Err(flaw) = spiffe_id::parse(id) {
            return malformed(flaw.why);
        }
        if self.has(Fault::JwtForNobodyGranted) {
            return Ok(id.to_owned());
        }
        let entitled = own(&|own| own == id);
        let entitled =
            entitled.filter(|id| !self.has(Fault::JwtSecondIdentityDenied) || *id != IDS[1]);
        entitled.map(str::to_owned).ok_or_else(|| match self.fault {
            Some(Fault::JwtForNobodyNotFound) => Status::not_found("no such identity"),
            _ => Status::permission_denied("no identity issued"),
        })
    }

    fn jwt_svid(&self, id: String, audience: &[String]) -> Jwtsvid {
        let now = self.material.now;
        let audience = match self.fault {
            Some(Fault::JwtFirstAudienceOnly) => &audience[..1],
            _ => audience,
        };
        let sub = match self.fault {
            Some(Fault::JwtIdFieldOther) => "spiffe://example.org/other",
            _ => &id,
        };
        let claims = json!({ "sub": sub, "aud": audience, "exp": now + 300, "iat": now });
        let mut header = json!({ "alg": "ES256", "kid": JWT_KID, "typ": "JWT" });
        if self.has(Fault::JwtHeaderExtra) {
            header["x-mock"] = json!(true);
        }
        let key = match self.fault {
            Some(Fault::JwtUnpublishedKey) => &self.material.hidden,
            _ => &self.material.jwt,
        };
        let mut svid = key.sign(&header.to_string(), &claims.to_string()).unwrap();
        if self.has(Fault::JwtPadded) {
            svid.push_str("==");
        }
        let hint = match self.fault {
            Some(Fault::JwtHintsEqual) => OWN.to_owned(),
            _ => String::new(),
        };
        Jwtsvid { spiffe_id: id, svid, hint }
    }
}
