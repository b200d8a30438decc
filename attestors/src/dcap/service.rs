//! Asking Intel's Provisioning Certification Service, or a cache of it (PCCS), version 4 of their API.
//!
//! An answer is kept for a day, so that a new TCB recovery is noticed, and longer if the service is gone
//! then: until it expires, which is not looked at here. After a failure there is a pause.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::time::UnixTime;
use percent_encoding::percent_decode_str;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::collateral::Collateral;
use super::config::CollateralConfig;
use super::source::{CollateralError, CollateralSource, Wanted};
use crate::fetch::{Endpoint, EndpointError, Fetch, FetchError, Plain, RootsError};
use crate::json;

/// A service, and what it said.
#[derive(Debug)]
pub struct Service {
    fetch: Fetch,
    url: String,
    root_crl: Endpoint,
    known: Cache<Wanted, Arc<Answer>>,
    /// Whose turn it is to ask.
    turn: Mutex<()>,
}

/// What the service said, the last time it was asked.
#[derive(Debug)]
struct Answer {
    asked: Instant,
    /// What it said then or, if it failed then, before; and when that expires.
    collateral: Option<(Arc<Collateral>, UnixTime)>,
    problem: Option<Arc<ServiceError>>,
}

/// The most families of platforms that are remembered. Nothing is asked about a family unless Intel
/// vouches for a platform of it.
const MAX_KNOWN: usize = 256;
/// How long an answer is kept.
const FRESH: Duration = Duration::from_hours(24);
/// How long nothing is asked after a failure, or if what the service has is out of date.
const PAUSE: Duration = Duration::from_mins(1);

/// Intel's own service, whose root's revocation list is elsewhere.
const INTEL: &str = "api.trustedservices.intel.com";
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

impl Service {
    /// The service at `url`, as `config` says.
    ///
    /// # Errors
    ///
    /// [`OpenServiceError`] if nobody can be asked there.
    pub fn open(url: &str, config: &CollateralConfig) -> Result<Self, OpenServiceError> {
        let service = Endpoint::parse(url, Plain::Loopback)?;
        let url = url.trim_end_matches('/').to_owned();
        let root_crl = match &config.root_crl_url {
            Some(root_crl) => root_crl.clone(),
            None if service.host() == INTEL => INTEL_ROOT_CRL.to_owned(),
            None => format!("{url}/sgx/certification/v4/rootcacrl"),
        };
        let root_crl = Endpoint::parse(&root_crl, Plain::Loopback)?;
        let plain = url.starts_with("http:") && config.ca_file.is_none();
        let fetch = if plain { Fetch::plain()? } else { Fetch::open(config.ca_file.as_deref())? };
        Ok(Self { fetch, url, root_crl, known: Cache::new(MAX_KNOWN), turn: Mutex::new(()) })
    }

    /// What is known, if it is too early to ask.
    fn look_up(&self, wanted: Wanted, now: UnixTime) -> Option<Arc<Answer>> {
        self.known.get(&wanted).filter(|answer| !answer.is_due(now))
    }

    async fn ask(&self, wanted: Wanted) -> Result<(Arc<Collateral>, UnixTime), ServiceError> {
        let fmspc = hex::encode_upper(wanted.fmspc);
        let tee = wanted.tee;
        let signed: SignedTcbInfo;
        let (tcb_info_issuer_chain, qe_identity_issuer_chain);
        let tcb = format!("{tee}/certification/v4/tcb?fmspc={fmspc}");
        (signed, tcb_info_issuer_chain) = self.signed(&tcb, "tcb-info-issuer-chain").await?;
        let enclave: SignedIdentity;
        let qe = format!("{tee}/certification/v4/qe/identity");
        (enclave, qe_identity_issuer_chain) =
            self.signed(&qe, "sgx-enclave-identity-issuer-chain").await?;
        let crl = format!("sgx/certification/v4/pckcrl?ca={}&encoding=der", wanted.ca.name());
        let collateral = Collateral {
            root_ca_crl: self.crl(&self.root_crl).await?,
            pck_crl: self.crl(&self.at(&crl)?).await?,
            tcb_info_issuer_chain,
            tcb_info: signed.tcb_info.get().to_owned(),
            tcb_info_signature: signed.signature,
            qe_identity_issuer_chain,
            qe_identity: enclave.identity.get().to_owned(),
            qe_identity_signature: enclave.signature,
        };
        let dates = collateral.dates().ok_or_else(|| ServiceError::form(&self.url))?;
        Ok((Arc::new(collateral), dates.1))
    }

    fn at(&self, path: &str) -> Result<Endpoint, ServiceError> {
        Ok(Endpoint::parse(&format!("{}/{path}", self.url), Plain::Loopback)?)
    }

    /// A signed document, and the chain of its signer, which is in a header.
    async fn signed<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        header: &'static str,
    ) -> Result<(T, String), ServiceError> {
        let endpoint = self.at(path)?;
        let (body, chain) = self.fetch.get_with_header(&endpoint, header).await?;
        let form = || ServiceError::form(&endpoint);
        let document = json::read(&body).map_err(|_malformed| form())?;
        let chain = chain.ok_or_else(form)?;
        let chain = percent_decode_str(&chain).decode_utf8().map_err(|_not_text| form())?;
        Ok((document, chain.into_owned()))
    }

    /// A revocation list: Intel has it in DER or PEM, caches have it in hexadecimal digits.
    async fn crl(&self, endpoint: &Endpoint) -> Result<Vec<u8>, ServiceError> {
        const SEQUENCE: u8 = 0x30;
        const HYPHEN: u8 = b'-';

        let body = self.fetch.get(endpoint, &[]).await?;
        let der = match body.first() {
            Some(&SEQUENCE) => Some(body.to_vec()),
            Some(&HYPHEN) => pem::parse(&*body).ok().map(pem::Pem::into_contents),
            _ => hex::decode(body.trim_ascii()).ok(),
        };
        der.ok_or_else(|| ServiceError::form(endpoint))
    }
}

impl Answer {
    /// Whether it is time to ask again.
    fn is_due(&self, now: UnixTime) -> bool {
        let age = self.asked.elapsed();
        let expired = self.collateral.as_ref().is_none_or(|(_, end)| *end <= now);
        FRESH <= age || (PAUSE <= age && (expired || self.problem.is_some()))
    }

    fn conclude(&self) -> Result<Option<Arc<Collateral>>, CollateralError> {
        match (&self.collateral, &self.problem) {
            (Some((collateral, _)), _) => Ok(Some(Arc::clone(collateral))),
            (None, Some(problem)) => {
                let problem: Arc<ServiceError> = Arc::clone(problem);
                Err(CollateralError::Service(problem))
            }
            (None, None) => Ok(None),
        }
    }
}

#[async_trait]
impl CollateralSource for Service {
    async fn collateral(
        &self,
        wanted: Wanted,
        now: UnixTime,
    ) -> Result<Option<Arc<Collateral>>, CollateralError> {
        if let Some(answer) = self.look_up(wanted, now) {
            return answer.conclude();
        }
        // Everybody else waits for the one that asks.
        let _turn = self.turn.lock().await;
        if let Some(answer) = self.look_up(wanted, now) {
            return answer.conclude();
        }
        let answer = match self.ask(wanted).await {
            Ok(found) => Answer { asked: Instant::now(), collateral: Some(found), problem: None },
            Err(problem) => {
                let before = self.known.get(&wanted);
                let collateral = before.and_then(|answer| answer.collateral.clone());
                warn!(
                    %wanted,
                    error = %super::describe(&problem),
                    known = collateral.is_some(),
                    "cannot learn what Intel says about a platform"
                );
                let problem = Some(Arc::new(problem));
                Answer { asked: Instant::now(), collateral, problem }
            }
        };
        let answer = Arc::new(answer);
        self.known.insert(wanted, Arc::clone(&answer));
        answer.conclude()
    }
}

/// What the service says of versions. What is signed is the text between the braces.
#[derive(Deserialize)]
struct SignedTcbInfo {
    #[serde(rename = "tcbInfo")]
    tcb_info: Box<RawValue>,
    #[serde(with = "hex::serde")]
    signature: Vec<u8>,
}

/// What the service says of a quoting enclave.
#[derive(Deserialize)]
struct SignedIdentity {
    #[serde(rename = "enclaveIdentity")]
    identity: Box<RawValue>,
    #[serde(with = "hex::serde")]
    signature: Vec<u8>,
}

/// Why the service said nothing of use.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the address of the service cannot be used")]
    Endpoint(#[from] EndpointError),
    #[error("what `{0}` answers is not what version 4 of Intel's API has there")]
    Form(String),
}

impl ServiceError {
    fn form(endpoint: &impl ToString) -> Self {
        Self::Form(endpoint.to_string())
    }
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum OpenServiceError {
    /// The address can't be used.
    #[error("the address of the service of collateral cannot be used")]
    Endpoint(#[from] EndpointError),
    /// Nobody could be believed.
    #[error("the service of collateral cannot be asked")]
    Roots(#[from] RootsError),
}
