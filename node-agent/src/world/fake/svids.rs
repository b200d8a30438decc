//! SVIDs of every kind, and what can be wrong with them.

use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::id::SpiffeId;
use claviger_core::jose::PublicKey;
use claviger_core::svid::SvidTtl;
use claviger_core::svid::jwt::{Audience, JwtSvidContents};
use claviger_core::svid::wit::WitSvidContents;
use claviger_core::time::{Clock, SystemClock};
use claviger_proto::spire::server::svid::v1 as svid;
use claviger_proto::spire::server::svid::v1::svid_server::Svid;
use claviger_proto::spire::types;
use tonic::{Code, Request, Response, Status, async_trait};

use super::{FakeServer, FakeState, unimplemented};
use crate::world::token_key::TokenKey;

/// How the server answers who asks for a JWT-SVID.
#[derive(Clone, Debug, Default)]
pub(crate) enum Jwts {
    /// As it should.
    #[default]
    Sound,
    /// Not at all.
    Silence,
    /// It does not want to.
    Refusal(Code),
    /// With a token for somebody else.
    OtherSubject,
    /// With a token for other ears.
    OtherAudience,
    /// With a token that its published keys did not sign.
    OtherKey,
}

impl FakeServer {
    /// From now on, who asks for a JWT-SVID is answered so.
    pub(crate) fn answer_jwts(&self, jwts: Jwts) {
        self.state().jwts = jwts;
    }

    /// JWT-SVIDs last this long from now on.
    pub(crate) fn set_jwt_ttl(&self, ttl: Duration) {
        self.state().jwt_ttl = ttl;
    }

    /// Has new keys sign tokens from now on, and the old ones not relied on any more.
    pub(crate) fn taint_token_keys(&self) {
        self.change_bundle(|state| {
            for (name, keys) in [("jwt", &mut state.jwt_keys), ("wit", &mut state.wit_keys)] {
                keys.iter_mut().for_each(|key| key.tainted = true);
                keys.push(TokenKey::new(&format!("{name}-{}", keys.len() + 1)));
            }
        });
    }

    /// A JWT-SVID of `id`, as the server signs it.
    pub(crate) fn jwt(&self, id: &str, audience: &str) -> String {
        self.state().jwt(&id.parse().unwrap(), vec![audience.to_owned()])
    }
}

impl FakeState {
    fn entry(&self, id: &str) -> Option<&Entry> {
        let newest = self.log.iter().rev().find(|(entry, _)| entry.as_str() == id);
        newest.and_then(|(_, entry)| entry.as_ref())
    }

    fn jwt(&self, id: &SpiffeId, audience: Vec<String>) -> String {
        let mut contents = JwtSvidContents {
            subject: id.clone(),
            audience: Audience::new(audience).unwrap(),
            ttl: SvidTtl::HOUR,
            jti: false,
        };
        match self.jwts {
            Jwts::OtherSubject => contents.subject = id.trust_domain().join("/other").unwrap(),
            Jwts::OtherAudience => {
                let names = [contents.audience.names(), &["more".to_owned()]].concat();
                contents.audience = Audience::new(names).unwrap();
            }
            Jwts::Sound | Jwts::Silence | Jwts::Refusal(_) | Jwts::OtherKey => {}
        }
        let now = SystemClock.now();
        let jti = self.counts.jwts.to_string();
        let claims = contents.claims(now, now.after(self.jwt_ttl), None, Some(&jti));
        let strange = TokenKey::new("jwt-1");
        let sound = self.jwt_keys.last().unwrap();
        let key = if matches!(self.jwts, Jwts::OtherKey) { &strange } else { sound };
        key.token(JwtSvidContents::KIND, &claims)
    }

    fn wit(&self, id: &SpiffeId, public_key: &[u8]) -> String {
        let key = PublicKey::from_spki(public_key).unwrap();
        let contents = WitSvidContents { subject: id.clone(), key, ttl: SvidTtl::HOUR };
        let now = SystemClock.now();
        let claims = contents.claims(now, now.after(self.workload_ttl), None);
        self.wit_keys.last().unwrap().token(WitSvidContents::KIND, &claims)
    }
}

#[async_trait]
impl Svid for FakeServer {
    async fn batch_new_x509svid(
        &self,
        request: Request<svid::BatchNewX509svidRequest>,
    ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
        self.admit(&request)?;
        let mut state = self.state();
        let one = |params: svid::NewX509svidParams| {
            let signed = match state.entry(&params.entry_id) {
                Some(entry) => {
                    state.sign(&params.csr, &entry.spiffe_id.to_string(), state.workload_ttl)
                }
                None => Err(Status::not_found("no such entry")),
            };
            let (code, svid) = match signed {
                Ok(svid) => (0, Some(svid)),
                Err(status) => (status.code().into(), None),
            };
            let status = Some(types::Status { code, message: String::new() });
            svid::batch_new_x509svid_response::Result { status, svid }
        };
        let results: Vec<_> = request.into_inner().params.into_iter().map(one).collect();
        state.counts.svids += results.len();
        Ok(Response::new(svid::BatchNewX509svidResponse { results }))
    }

    async fn mint_x509svid(
        &self,
        _: Request<svid::MintX509svidRequest>,
    ) -> Result<Response<svid::MintX509svidResponse>, Status> {
        unimplemented()
    }

    async fn mint_jwtsvid(
        &self,
        _: Request<svid::MintJwtsvidRequest>,
    ) -> Result<Response<svid::MintJwtsvidResponse>, Status> {
        unimplemented()
    }

    async fn new_jwtsvid(
        &self,
        request: Request<svid::NewJwtsvidRequest>,
    ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.state().counts.jwts += 1;
        let jwts = self.state().jwts.clone();
        match jwts {
            Jwts::Silence => std::future::pending().await,
            Jwts::Refusal(code) => return Err(Status::new(code, "no")),
            Jwts::Sound | Jwts::OtherSubject | Jwts::OtherAudience | Jwts::OtherKey => {}
        }
        if request.audience.iter().any(|name| name == "slow") {
            self.hold().await;
        }
        let state = self.state();
        let id = state.entry(&request.entry_id).map(|entry| entry.spiffe_id.clone());
        let id = id.ok_or_else(|| Status::not_found("no such entry"))?;
        let token = state.jwt(&id, request.audience);
        let svid = Some(types::Jwtsvid { token, ..types::Jwtsvid::default() });
        Ok(Response::new(svid::NewJwtsvidResponse { svid }))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<svid::NewDownstreamX509caRequest>,
    ) -> Result<Response<svid::NewDownstreamX509caResponse>, Status> {
        unimplemented()
    }

    async fn mint_witsvid(
        &self,
        _: Request<svid::MintWitsvidRequest>,
    ) -> Result<Response<svid::MintWitsvidResponse>, Status> {
        unimplemented()
    }

    async fn batch_new_witsvid(
        &self,
        request: Request<svid::BatchNewWitsvidRequest>,
    ) -> Result<Response<svid::BatchNewWitsvidResponse>, Status> {
        self.admit(&request)?;
        let mut state = self.state();
        let one = |params: svid::NewWitsvidParams| {
            let entry = state.entry(&params.entry_id);
            let token = entry.map(|entry| state.wit(&entry.spiffe_id, &params.public_key));
            let code = if token.is_some() { Code::Ok } else { Code::NotFound };
            let status = Some(types::Status { code: code.into(), message: String::new() });
            let svid = token.map(|token| types::Witsvid { token, ..types::Witsvid::default() });
            svid::batch_new_witsvid_response::Result { status, svid }
        };
        let results: Vec<_> = request.into_inner().params.into_iter().map(one).collect();
        state.counts.wits += results.len();
        Ok(Response::new(svid::BatchNewWitsvidResponse { results }))
    }
}
