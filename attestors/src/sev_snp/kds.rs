//! AMD's key distribution service, which has the certificate of every chip's key (publication 57230,
//! chapter 4). It answers few requests at a time, so what it said is kept, and what it did not say is
//! not asked again at once.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::product::Product;
use super::report::Report;
use super::tcb::Component;
use crate::CollectError;
use crate::fetch::{Endpoint, EndpointError, Fetch, Plain, RootsError};

/// How long nothing is asked after the service did not answer.
const PAUSE: Duration = Duration::from_secs(30);

/// Fetches the certificates of the chip that this machine runs on.
#[derive(Debug)]
pub(super) struct Kds {
    base: String,
    fetch: Fetch,
    last: Mutex<Option<Last>>,
}

/// What was asked last, and what came of it.
#[derive(Debug)]
struct Last {
    url: String,
    certificate: Option<Vec<u8>>,
    at: Instant,
}

impl Kds {
    /// The service at `base`, usually `https://kdsintf.amd.com`.
    pub(super) fn open(base: &str) -> Result<Self, RootsError> {
        let fetch = if base.starts_with("http:") { Fetch::plain()? } else { Fetch::open(None)? };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, fetch, last: Mutex::new(None) })
    }

    /// The certificate of the VCEK that signed `report`.
    pub(super) async fn vcek(&self, report: &Report<'_>) -> Result<Vec<u8>, CollectError> {
        let product = report.product().ok_or_else(|| {
            unavailable(
                "the report does not say what processor it is from; name the certificate's \
                         file in `certificate-path`",
            )
        })?;
        let url = format!("{}{}", self.base, path(report, product));
        // Held while the service is asked: whoever else wants the same waits for the same answer.
        let mut last = self.last.lock().await;
        if let Some(known) = last.as_ref().filter(|known| known.url == url) {
            match &known.certificate {
                Some(certificate) => return Ok(certificate.clone()),
                None if known.at.elapsed() < PAUSE => {
                    return Err(unavailable("AMD's key distribution service did not answer"));
                }
                None => {}
            }
        }
        let answer = self.ask(&url).await;
        let certificate = answer.as_ref().ok().cloned();
        *last = Some(Last { url, certificate, at: Instant::now() });
        answer
    }

    async fn ask(&self, url: &str) -> Result<Vec<u8>, CollectError> {
        let endpoint = endpoint(url).map_err(|source| CollectError::Unavailable {
            what: "`kds` is not where AMD's key distribution service is".to_owned(),
            source: Some(source.into()),
        })?;
        let fetched = self.fetch.get(&endpoint, &[]).await;
        let certificate = fetched.map_err(|source| CollectError::Unavailable {
            what: "AMD's key distribution service does not hand out the certificate of this chip; \
                   perhaps it is asked too often: name the certificate's file in `certificate-path`"
                .to_owned(),
            source: Some(source.into()),
        })?;
        Ok(certificate.to_vec())
    }
}

pub(super) fn endpoint(url: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(url, Plain::Loopback)
}

/// Where the service has the certificate: by chip and by the versions of its firmware. A chip of
/// Turin's has an id of eight bytes.
fn path(report: &Report<'_>, product: Product) -> String {
    let chip = match product {
        Product::Milan | Product::Genoa => report.chip_id.as_slice(),
        Product::Turin => report.chip_id.first_chunk::<8>().map_or(&[][..], <[u8; 8]>::as_slice),
    };
    let versions = report.reported_tcb.components(product).map(|(part, version)| {
        let name = match part {
            Component::Fmc => "fmcSPL",
            Component::Bootloader => "blSPL",
            Component::Tee => "teeSPL",
            Component::Snp => "snpSPL",
            Component::Microcode => "ucodeSPL",
        };
        format!("{name}={version:02}")
    });
    let versions = versions.collect::<Vec<_>>().join("&");
    format!("/vcek/v1/{}/{}?{versions}", product.name(), hex::encode(chip))
}

fn unavailable(what: &str) -> CollectError {
    CollectError::Unavailable { what: what.to_owned(), source: None }
}
