//! A machine that has something to show for itself, as often as it is asked.

use std::error::Error;

use claviger_attestors::{CollectError, NodeCollector, Presentation};
use claviger_core::evidence::Binding;
use claviger_proto::spire::server::agent::v1::attest_agent_request::Step;
use tonic::async_trait;
use zeroize::Zeroizing;

use crate::config::Source;

/// Evidence of a kind of its own, which takes a conversation.
#[derive(Debug)]
pub(crate) struct Machine;

impl Machine {
    pub(super) const KIND: &str = "again";
    pub(super) const EVIDENCE: &[u8] = b"good machine";
    pub(super) const CHALLENGE: &[u8] = b"are you?";

    /// The answer to the challenge.
    pub(super) fn answer() -> Option<Step> {
        Some(Step::ChallengeResponse(b"I am".to_vec()))
    }
}

impl Source for Machine {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn open(&self) -> Result<Box<dyn NodeCollector>, Box<dyn Error + Send + Sync>> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl NodeCollector for Machine {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    async fn present(&self, _binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Presentation for Machine {
    fn evidence(&self) -> &[u8] {
        Self::EVIDENCE
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        match challenge {
            Self::CHALLENGE => Ok(Zeroizing::new(b"I am".to_vec())),
            _ => Err(CollectError::Unexpected),
        }
    }
}
