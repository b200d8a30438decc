//! The node's side: every part from its own collector, over one binding.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::Binding;
use zeroize::{Zeroize, Zeroizing};

use super::{KIND, Wire, WireAnswer, WireChallenge, WirePart};
use crate::{CollectError, NodeCollector, Presentation};

/// Presents evidence of several kinds at once.
#[derive(Debug)]
pub struct Collector(Vec<Box<dyn NodeCollector>>);

impl Collector {
    /// Presents what `members` gather, each of another kind.
    #[must_use]
    pub fn new(mut members: Vec<Box<dyn NodeCollector>>) -> Self {
        members.sort_by_key(|member| member.kind());
        Self(members)
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let mut parts = Vec::with_capacity(self.0.len());
        let mut wire = Wire { evidence: Vec::with_capacity(self.0.len()) };
        for member in &self.0 {
            let part = member.present(binding).await?;
            let payload = STANDARD.encode(part.evidence());
            wire.evidence.push(WirePart { kind: member.kind().to_owned(), payload });
            parts.push(part);
        }
        let evidence = serialize(&wire, wire.evidence.iter().map(|part| part.payload.len()).sum());
        wire.evidence.iter_mut().for_each(|part| part.payload.zeroize());
        Ok(Box::new(Parts { parts, evidence: evidence? }))
    }
}

/// One presentation of them.
#[derive(Debug)]
struct Parts {
    parts: Vec<Box<dyn Presentation>>,
    evidence: Evidence,
}

#[async_trait]
impl Presentation for Parts {
    fn evidence(&self) -> &[u8] {
        &self.evidence.0
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let wire: WireChallenge = serde_json::from_slice(challenge)
            .map_err(|_not_the_format| CollectError::Unexpected)?;
        let challenge =
            STANDARD.decode(wire.challenge).map_err(|_not_base64| CollectError::Unexpected)?;
        let part = self.parts.get_mut(wire.index).ok_or(CollectError::Unexpected)?;
        let answer = part.answer(&challenge).await?;
        let mut wire = WireAnswer { answer: STANDARD.encode(&*answer) };
        let answer = serialize(&wire, wire.answer.len());
        wire.answer.zeroize();
        Ok(answer?.0)
    }
}

/// JSON that may hold secrets.
struct Evidence(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evidence({} bytes)", self.0.len())
    }
}

/// `wire` as JSON; its values have `size` bytes. It is written to where there is room for it, so
/// that no copy of a secret is left behind by growing.
fn serialize(wire: &impl serde::Serialize, size: usize) -> Result<Evidence, CollectError> {
    /// More than all that surrounds the values.
    const AROUND: usize = 1_024;

    let mut json = Zeroizing::new(Vec::with_capacity(size.saturating_add(AROUND)));
    serde_json::to_writer(&mut *json, wire).map_err(|source| CollectError::Unavailable {
        what: "the evidence cannot be written as JSON".to_owned(),
        source: Some(source.into()),
    })?;
    Ok(Evidence(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows its kind, and answers a challenge with its kind and the challenge.
    #[derive(Debug)]
    struct Simple(&'static str);

    #[async_trait]
    impl NodeCollector for Simple {
        fn kind(&self) -> &'static str {
            self.0
        }

        async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
            assert_eq!(binding, &to_the_whole());
            Ok(Box::new(Self(self.0)))
        }
    }

    #[async_trait]
    impl Presentation for Simple {
        fn evidence(&self) -> &[u8] {
            self.0.as_bytes()
        }

        async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
            Ok(Zeroizing::new([self.0.as_bytes(), challenge].concat()))
        }
    }

    fn to_the_whole() -> Binding {
        Binding::new(KIND, b"key", &"example.org".parse().unwrap())
    }

    async fn presented() -> Box<dyn Presentation> {
        let collector = Collector::new(vec![Box::new(Simple("b")), Box::new(Simple("a"))]);
        assert_eq!(collector.kind(), "composite");
        collector.present(&to_the_whole()).await.unwrap()
    }

    #[tokio::test]
    async fn the_parts_stand_in_the_order_of_their_kinds() {
        let presented = presented().await;
        assert_eq!(
            str::from_utf8(presented.evidence()).unwrap(),
            r#"{"evidence":[{"kind":"a","payload":"YQ=="},{"kind":"b","payload":"Yg=="}]}"#
        );
        assert!(!format!("{presented:?}").contains("YQ"), "it may be a secret");
    }

    #[tokio::test]
    async fn the_part_that_is_asked_answers() {
        let mut presented = presented().await;
        let answer = presented.answer(br#"{"index":1,"challenge":"MQ=="}"#).await.unwrap();
        assert_eq!(str::from_utf8(&answer).unwrap(), r#"{"answer":"YjE="}"#);
    }

    #[tokio::test]
    async fn a_challenge_for_no_part_is_not_answered() {
        let mut presented = presented().await;
        for challenge in [
            r#"{"index":2,"challenge":"MQ=="}"#,
            r#"{"index":-1,"challenge":"MQ=="}"#,
            r#"{"index":0,"challenge":"?"}"#,
            r#"{"index":0,"challenge":"","more":1}"#,
            "",
        ] {
            let error = presented.answer(challenge.as_bytes()).await.unwrap_err();
            assert!(matches!(error, CollectError::Unexpected), "{challenge}: {error}");
        }
    }
}
