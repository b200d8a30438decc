//! What an attested document says
//! (<https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#attested-data>).

use std::time::Duration;

use claviger_core::time::UnixTime;
use jiff::fmt::strtime;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::{VerifyError, json};

/// How far ahead Azure's clocks may be of ours.
const SKEW: Duration = Duration::from_mins(5);

/// The machine that a verified document describes, and what the document is good for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attested {
    nonce: String,
    #[serde(deserialize_with = "uuid")]
    subscription_id: Uuid,
    #[serde(deserialize_with = "uuid")]
    vm_id: Uuid,
    time_stamp: TimeStamp,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
struct TimeStamp {
    #[serde(deserialize_with = "time")]
    created_on: UnixTime,
    #[serde(deserialize_with = "time")]
    expires_on: UnixTime,
}

impl Attested {
    /// Reads the verified bytes of a document.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if they say something else, or something twice.
    pub fn parse(document: &[u8]) -> Result<Self, VerifyError> {
        json::read(document)
    }

    /// The subscription that the machine belongs to.
    #[must_use]
    pub const fn subscription(&self) -> Uuid {
        self.subscription_id
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> Uuid {
        self.vm_id
    }

    /// Refuses a document that was made for another occasion than `nonce`, or that is not good at
    /// `now`.
    pub(super) fn check_fresh(&self, nonce: &str, now: UnixTime) -> Result<(), VerifyError> {
        if self.nonce != nonce {
            return Err(VerifyError::not_genuine(
                "the document was made for another nonce; its metadata service may have cached it",
            ));
        }
        if self.time_stamp.expires_on < now {
            return Err(VerifyError::not_genuine("the document has expired"));
        }
        if now.after(SKEW) < self.time_stamp.created_on {
            return Err(VerifyError::not_genuine("the document was made in the future"));
        }
        Ok(())
    }
}

/// A UUID as Azure writes it: five groups, in either case.
pub(super) fn parse_uuid(text: &str) -> Option<Uuid> {
    // There are other ways to write one, which Azure has no use for.
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_uuid(&text).ok_or_else(|| serde::de::Error::custom("not a UUID"))
}

/// A time such as `11/28/26 00:16:17 -0000`, after 1970.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    let timestamp = strtime::parse("%m/%d/%y %H:%M:%S %z", &text).and_then(|t| t.to_timestamp());
    let second = timestamp.ok().and_then(|t| u64::try_from(t.as_second()).ok());
    second.map(UnixTime::from_secs).ok_or_else(|| serde::de::Error::custom("not a time"))
}
