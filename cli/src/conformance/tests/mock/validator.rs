//! The mock's validator of JWT-SVIDs.

use claviger_proto::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::Value;
use tonic::Status;

use super::{Fault, ForeignDomain, Mock};
use crate::conformance::jose::{ALGORITHMS, JwkSet, Object, Token, text};
use crate::conformance::spiffe_id;

/// Why a token is refused.
type Refusal = &'static str;

impl Mock {
    pub(super) fn validate(
        &self,
        request: &ValidateJwtsvidRequest,
    ) -> Result<ValidateJwtsvidResponse, Status> {
        let refused = |why: Refusal| match self.fault {
            Some(Fault::ValidateUnauthenticated) => Status::unauthenticated(why),
            _ => Status::invalid_argument(why),
        };
        if request.audience.is_empty() || request.svid.is_empty() {
            return Err(refused("something is left out"));
        }
        let svid = self.compact(&request.svid);
        let token = Token::parse(&svid).map_err(|_why| refused("no token"))?;
        self.judge(&token, &request.audience).map_err(refused)?;
        let claims = match self.fault {
            Some(Fault::ValidatesWithoutClaims) => Struct::default(),
            _ => structure(&token.claims),
        };
        let spiffe_id = token.claim("sub").unwrap_or_default().to_owned();
        Ok(ValidateJwtsvidResponse { spiffe_id, claims: Some(claims) })
    }

    /// The token in compact serialization, if this mock knows another.
    fn compact(&self, svid: &str) -> String {
        let json: Option<Object> = serde_json::from_str(svid).ok();
        let json = json.filter(|_| self.has(Fault::JsonAccepted));
        let member = |name| json.as_ref().and_then(|json| text(json, name));
        match (member("protected"), member("payload"), member("signature")) {
            (Some(header), Some(payload), Some(signature)) => {
                format!("{header}.{payload}.{signature}")
            }
            _ => svid.to_owned(),
        }
    }

    fn judge(&self, token: &Token<'_>, audience: &str) -> Result<(), Refusal> {
        self.header(token)?;
        let sub = token.claim("sub");
        let domain = match sub.map(spiffe_id::parse) {
            Some(Ok(id)) if !id.path.is_empty() => id.trust_domain,
            _ if self.has(Fault::SubAccepted) => ForeignDomain::NAME,
            _ => return Err("sub"),
        };
        self.signature(token, domain)?;
        self.times(token)?;
        self.audiences(token, audience)?;
        let genuine = domain != ForeignDomain::NAME;
        if genuine && self.has(Fault::ValidatesNothingGenuine) { Err("mood") } else { Ok(()) }
    }

    fn header(&self, token: &Token<'_>) -> Result<(), Refusal> {
        let known = |name: &str| {
            ["alg", "kid", "typ"].contains(&name)
                || (name == "x-mock" && self.has(Fault::JwtHeaderExtra))
                || (name != "jwk" && self.has(Fault::HeaderExtraAccepted))
                || (name == "jwk" && self.has(Fault::HeaderJwkAccepted))
        };
        if !token.header.keys().all(|name| known(name)) {
            return Err("header");
        }
        match token.header("typ") {
            None | Some("JWT") => {}
            Some("JOSE") if !self.has(Fault::TypRefused) => {}
            Some(_) if self.has(Fault::TypAccepted) => {}
            Some(_) => return Err("typ"),
        }
        match token.header("alg") {
            Some("none") if self.has(Fault::AlgNoneAccepted) => Ok(()),
            Some("HS256") if self.has(Fault::Hs256Accepted) => Ok(()),
            Some("EdDSA") if self.has(Fault::EdDsaAccepted) => Ok(()),
            Some(alg) if ALGORITHMS.contains(&alg) => Ok(()),
            _ => Err("alg"),
        }
    }

    fn signature(&self, token: &Token<'_>, domain: &str) -> Result<(), Refusal> {
        if ["none", "HS256", "EdDSA"].map(Some).contains(&token.header("alg")) {
            // Accepted by the fault that let it through.
            return Ok(());
        }
        if self.has(Fault::SignatureNotVerified) {
            return Ok(());
        }
        let mut keys = self.material.keys(domain);
        if keys.is_empty() && self.has(Fault::UnknownDomainAccepted) {
            return Ok(());
        }
        if self.has(Fault::AnyBundleAccepted) {
            let all = self.material.jwt_bundles();
            let all = all.iter().filter_map(|(_, json)| JwkSet::parse(json).ok());
            keys = all.flat_map(|set| set.keys().to_vec()).collect();
        }
        if let Some(jwk) = token.header.get("jwk").and_then(Value::as_object) {
            keys = vec![jwk.clone()];
        } else {
            keys.retain(|key| text(key, "kid") == token.header("kid"));
        }
        if keys.iter().any(|key| token.is_signed_by(key) == Some(true)) {
            Ok(())
        } else {
            Err("signature")
        }
    }

    fn times(&self, token: &Token<'_>) -> Result<(), Refusal> {
        let time = |name| token.claims.get(name).map(|time| time.as_f64().unwrap_or(0.0));
        let now = super::super::super::judge::seconds(self.material.now);
        match time("exp") {
            Some(exp) if exp > now || self.has(Fault::ExpiredAccepted) => {}
            None if self.has(Fault::ExpMissingAccepted) => {}
            _ => return Err("exp"),
        }
        match time("nbf") {
            Some(nbf) if nbf > now && !self.has(Fault::EarlyAccepted) => Err("nbf"),
            _ => Ok(()),
        }
    }

    fn audiences(&self, token: &Token<'_>, wanted: &str) -> Result<(), Refusal> {
        let audience = token.audience();
        let fits = match self.fault {
            Some(Fault::AudienceOtherAccepted) => !audience.is_empty(),
            Some(Fault::AudienceMissingAccepted) if audience.is_empty() => true,
            Some(Fault::AudienceCaseIgnored) => {
                audience.iter().any(|one| one.eq_ignore_ascii_case(wanted))
            }
            _ => audience.contains(&wanted),
        };
        if fits { Ok(()) } else { Err("aud") }
    }
}

fn structure(claims: &Object) -> Struct {
    let fields = claims.iter().map(|(name, value)| (name.clone(), kind(value))).collect();
    Struct { fields }
}

fn kind(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(kind).collect() })
        }
        Value::Object(value) => Kind::StructValue(structure(value)),
    };
    prost_types::Value { kind: Some(kind) }
}
