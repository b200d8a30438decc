//! The mock's WIT-SVIDs.

use claviger_proto::workload::{Witsvid, WitsvidResponse};
use serde_json::{Value, json};
use tonic::Status;

use super::material::WIT_KID;
use super::{Fault, IDS, Mock};
use crate::conformance::forge::Signer;
use crate::conformance::spiffe_id;

impl Mock {
    pub(super) fn wit_svids(&self, requested: &str) -> Result<WitsvidResponse, Status> {
        let ids = if requested.is_empty() {
            IDS.map(str::to_owned).to_vec()
        } else if let Err(flaw) = spiffe_id::parse(requested) {
            return Err(Status::invalid_argument(flaw.why));
        } else if IDS.contains(&requested) || self.has(Fault::WitForNobodyGranted) {
            vec![requested.to_owned()]
        } else {
            return Err(Status::permission_denied("no identity issued"));
        };
        Ok(WitsvidResponse { svids: ids.into_iter().map(|id| self.wit_svid(id)).collect() })
    }

    fn wit_svid(&self, id: String) -> Witsvid {
        let key = Signer::generate().unwrap().jwk();
        let header = self.wit_header();
        let claims = self.wit_claims(&id, &key);
        let signer = match self.fault {
            Some(Fault::WitSignedByAnother) => &self.material.hidden,
            _ => &self.material.wit,
        };
        let wit_svid = signer.sign(&header.to_string(), &claims.to_string()).unwrap();
        let wit_svid_key = match self.fault {
            Some(Fault::WitKeyNoJwk) => "no key".to_owned(),
            _ => {
                let mut private = key;
                // Nobody signs with it here.
                private["d"] = json!("AA");
                private.to_string()
            }
        };
        Witsvid { spiffe_id: id, wit_svid, wit_svid_key, hint: String::new() }
    }

    fn wit_header(&self) -> Value {
        let mut header = json!({ "alg": "ES256", "kid": WIT_KID, "typ": "wit+jwt" });
        match self.fault {
            Some(Fault::WitWithoutKid) => {
                header.as_object_mut().unwrap().remove("kid");
            }
            Some(Fault::WitUnpublishedKid) => header["kid"] = json!("wit-2"),
            Some(Fault::WitTypJwt) => header["typ"] = json!("JWT"),
            Some(Fault::WitAlgEdDsa) => header["alg"] = json!("EdDSA"),
            _ => {}
        }
        header
    }

    fn wit_claims(&self, id: &str, key: &Value) -> Value {
        let now = self.material.now;
        let mut jwk = key.clone();
        jwk["alg"] = json!("ES256");
        match self.fault {
            Some(Fault::WitCnfWithoutAlg) => {
                jwk.as_object_mut().unwrap().remove("alg");
            }
            Some(Fault::WitCnfOfAnother) => {
                jwk = self.material.hidden.jwk();
                jwk["alg"] = json!("ES256");
            }
            _ => {}
        }
        let mut claims = json!({
            "sub": id, "cnf": { "jwk": jwk }, "exp": now + 300, "nbf": now - 10, "iat": now,
        });
        match self.fault {
            Some(Fault::WitSubOther) => claims["sub"] = json!("spiffe://example.org/other"),
            Some(Fault::WitWithoutCnf) => {
                claims.as_object_mut().unwrap().remove("cnf");
            }
            Some(Fault::WitExpired) => claims["exp"] = json!(now - 1),
            Some(Fault::WitEarly) => claims["nbf"] = json!(now + 600),
            Some(Fault::WitAud) => claims["aud"] = json!(["somebody"]),
            _ => {}
        }
        claims
    }
}
