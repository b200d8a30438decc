//! The server's side: every part by its own verifier, over one binding.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::{AttestedNode, Bond};
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use serde::Deserialize;

use super::{KIND, MAX_PARTS, Wire, WireAnswer, WireChallenge, WirePart};
use crate::{Challenged, ConfigProblem, NodeClaim, NodeVerifier, VerifyError};

/// `[attestors.composite]` in the server's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The sets of kinds that admit a node together, such as `[["k8s_psat", "x509pop"]]`.
    pub combinations: Vec<BTreeSet<String>>,
}

impl Config {
    /// Everything wrong with it, where the server judges `kinds`.
    #[must_use]
    pub fn problems(&self, kinds: &[&str]) -> Vec<ConfigProblem> {
        let problem = |value: String, advice: String| {
            ConfigProblem::new("combinations", Some(&value), advice)
        };
        let mut problems = Vec::new();
        if self.combinations.is_empty() {
            let advice = "admits nobody; name sets of kinds, or leave the table out";
            problems.push(problem("[]".to_owned(), advice.to_owned()));
        }
        for set in &self.combinations {
            if !(2..=MAX_PARTS).contains(&set.len()) {
                let advice = format!("a combination has 2 to {MAX_PARTS} kinds");
                problems.push(problem(format!("{set:?}"), advice));
            }
            for kind in set.iter().filter(|kind| !kinds.contains(&kind.as_str())) {
                let advice = format!(
                    "is no kind of evidence that this server judges; configure \
                     `attestors.{kind}`, or choose among {}",
                    kinds.join(", ")
                );
                problems.push(problem(kind.clone(), advice));
            }
        }
        problems
    }
}

/// Judges evidence of several kinds. Its parts are judged by `members`.
#[derive(Debug)]
pub struct Verifier {
    combinations: Vec<BTreeSet<String>>,
    members: Arc<Vec<Box<dyn NodeVerifier>>>,
}

impl Verifier {
    /// Admits the combinations of `config`, whose parts `members` judge.
    #[must_use]
    pub fn new(config: Config, members: Arc<Vec<Box<dyn NodeVerifier>>>) -> Self {
        Self { combinations: config.combinations, members }
    }

    /// The verifier of each part, if the parts together are a combination that admits.
    fn members(&self, parts: &[WirePart]) -> Result<Vec<&dyn NodeVerifier>, VerifyError> {
        if MAX_PARTS < parts.len() || !parts.is_sorted_by(|a, b| a.kind < b.kind) {
            return Err(VerifyError::Malformed);
        }
        let kinds: BTreeSet<_> = parts.iter().map(|part| part.kind.clone()).collect();
        if !self.combinations.contains(&kinds) {
            return Err(VerifyError::not_genuine("no combination has just these kinds"));
        }
        let member = |part: &WirePart| {
            let member = self.members.iter().find(|member| member.kind() == part.kind);
            let missing = || VerifyError::not_genuine("a part is of a kind that nobody judges");
            member.map(|member| &**member).ok_or_else(missing)
        };
        parts.iter().map(member).collect()
    }
}

#[async_trait]
impl NodeVerifier for Verifier {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let wire: Wire = serde_json::from_slice(claim.evidence)
            .map_err(|_not_the_format| VerifyError::Malformed)?;
        let members = self.members(&wire.evidence)?;
        let mut attested = Vec::with_capacity(members.len());
        for (index, (part, member)) in wire.evidence.iter().zip(members).enumerate() {
            let evidence = decode(&part.payload)?;
            let claim = NodeClaim { evidence: &evidence, ..claim };
            let mut node = Part { index, node: &mut *node };
            attested.push(member.verify(claim, &mut node).await?);
        }
        let id = id(&claim, &attested)?;
        let selectors: Selectors =
            attested.iter().flat_map(|part| part.selectors().iter().cloned()).collect();
        let reattestable = attested.iter().all(AttestedNode::reattestable);
        // A part that anybody can present is no worse for the company, and no better either.
        let bound = attested.iter().all(|part| part.appraisal().bond == Bond::Key);
        let bond = if bound { Bond::Key } else { Bond::Bearer };
        let parts: Vec<_> = attested.iter().map(|part| part.appraisal().clone()).collect();
        let trust = parts.iter().map(|part| part.trust);
        let trust = trust.reduce(|all, part| all.worst(&part)).unwrap_or_default();
        let run = attested.iter().find_map(AttestedNode::run).cloned();
        let node = AttestedNode::assertion(KIND, id, selectors, reattestable, bond);
        Ok(node.trusted(trust).of_parts(parts).in_run(run))
    }
}

/// The identity of a node that is all of `attested`: it can't be earned with fewer.
fn id(claim: &NodeClaim<'_>, attested: &[AttestedNode]) -> Result<SpiffeId, VerifyError> {
    let mut context = Context::new(&SHA256);
    for part in attested {
        // A SPIFFE ID holds no line breaks.
        context.update(part.id().to_string().as_bytes());
        context.update(b"\n");
    }
    let digest = hex::encode(context.finish());
    let id = claim.trust_domain.join(&format!("/spire/agent/{KIND}/{digest}"));
    id.map_err(|_too_long| VerifyError::not_genuine("the name of the trust domain is too long"))
}

/// The node, as the verifier of one part sees it.
struct Part<'a> {
    index: usize,
    node: &'a mut dyn Challenged,
}

#[async_trait]
impl Challenged for Part<'_> {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let wire = WireChallenge { index: self.index, challenge: STANDARD.encode(challenge) };
        let wire = serde_json::to_vec(&wire).map_err(|_never| VerifyError::Silent)?;
        let answer = self.node.answer(wire).await?;
        let answer: WireAnswer =
            serde_json::from_slice(&answer).map_err(|_not_the_format| VerifyError::Malformed)?;
        decode(&answer.answer)
    }
}

fn decode(base64: &str) -> Result<Vec<u8>, VerifyError> {
    STANDARD.decode(base64).map_err(|_not_base64| VerifyError::Malformed)
}

#[cfg(test)]
mod tests {
    use claviger_core::evidence::{Binding, KeyDigest, Tier, TrustClaim, TrustVector};
    use claviger_core::id::TrustDomain;
    use claviger_core::time::UnixTime;

    use super::*;
    use crate::NoConversation;

    /// Believes `yes`, and that what it asked comes back.
    #[derive(Debug)]
    struct Simple {
        kind: &'static str,
        bond: Bond,
        asks: bool,
    }

    #[async_trait]
    impl NodeVerifier for Simple {
        fn kind(&self) -> &'static str {
            self.kind
        }

        async fn verify(
            &self,
            claim: NodeClaim<'_>,
            node: &mut dyn Challenged,
        ) -> Result<AttestedNode, VerifyError> {
            if claim.evidence != b"yes" {
                return Err(VerifyError::not_genuine("not yes"));
            }
            if self.asks && node.answer(self.kind.into()).await? != self.kind.as_bytes() {
                return Err(VerifyError::not_genuine("another answer"));
            }
            let id = claim.trust_domain.join(&format!("/spire/agent/{}/1", self.kind)).unwrap();
            let selectors = [format!("{}:one:1", self.kind).parse().unwrap()].into();
            let trust = TrustVector {
                hardware: if self.asks { TrustClaim::AFFIRMING } else { TrustClaim::NONE },
                executables: if self.kind == "c" {
                    TrustClaim::VULNERABLE
                } else {
                    TrustClaim::APPROVED_BOOT
                },
                ..TrustVector::default()
            };
            let node = AttestedNode::assertion(self.kind, id, selectors, true, self.bond);
            Ok(node.trusted(trust))
        }
    }

    /// Sends back what it is asked, and remembers which part was asked.
    struct Echo(Vec<usize>);

    #[async_trait]
    impl Challenged for Echo {
        async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
            let wire: WireChallenge = serde_json::from_slice(&challenge).unwrap();
            self.0.push(wire.index);
            Ok(serde_json::to_vec(&WireAnswer { answer: wire.challenge }).unwrap())
        }
    }

    fn verifier() -> Verifier {
        let member =
            |kind, bond, asks| -> Box<dyn NodeVerifier> { Box::new(Simple { kind, bond, asks }) };
        let members = vec![
            member("a", Bond::Bearer, false),
            member("b", Bond::Key, true),
            member("c", Bond::Key, true),
        ];
        let sets: [&[&str]; 2] = [&["a", "b"], &["b", "c"]];
        let combinations = sets.map(|set| set.iter().map(ToString::to_string).collect()).to_vec();
        Verifier::new(Config { combinations }, Arc::new(members))
    }

    async fn present(
        parts: &[(&str, &str)],
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let part = |(kind, payload): &(&str, &str)| WirePart {
            kind: (*kind).to_owned(),
            payload: STANDARD.encode(payload),
        };
        let wire = Wire { evidence: parts.iter().map(part).collect() };
        let evidence = &serde_json::to_vec(&wire).unwrap();
        let trust_domain: &TrustDomain = &"example.org".parse().unwrap();
        let binding = &Binding::new(KIND, b"key", trust_domain);
        let (key, now) = (&KeyDigest::of_spki(b"key"), UnixTime::from_secs(1));
        let claim = NodeClaim { evidence, key, binding, trust_domain, caller: None, now };
        verifier().verify(claim, node).await
    }

    #[tokio::test]
    async fn all_parts_together_earn_one_identity() {
        let mut node = Echo(Vec::new());
        let weak = present(&[("a", "yes"), ("b", "yes")], &mut node).await.unwrap();
        assert_eq!(node.0, [1], "only the second part asks");
        assert_eq!(weak.appraisal().bond, Bond::Bearer);
        let kinds: Vec<_> = weak.appraisal().parts.iter().map(|part| &part.kind).collect();
        assert_eq!(kinds, ["a", "b"]);
        assert_eq!(weak.selectors().len(), 2);
        let strong = present(&[("b", "yes"), ("c", "yes")], &mut node).await.unwrap();
        assert_eq!(node.0, [1, 0, 1]);
        assert_eq!(strong.appraisal().bond, Bond::Key);
        // Of each claim the worst that a part makes.
        let trust = |node: &AttestedNode| {
            let TrustVector { hardware, executables, .. } = node.appraisal().trust;
            (hardware.value(), executables.value(), node.appraisal().tier())
        };
        assert_eq!(trust(&weak), (2, 3, Tier::Affirming));
        assert_eq!(trust(&strong), (2, 32, Tier::Warning));
        assert_ne!(strong.id(), weak.id());
        assert!(strong.id().path().starts_with("/spire/agent/composite/"));
    }

    #[tokio::test]
    async fn one_part_that_is_wrong_spoils_all() {
        for parts in [[("a", "no"), ("b", "yes")], [("a", "yes"), ("b", "no")]] {
            let error = present(&parts, &mut Echo(Vec::new())).await.unwrap_err();
            assert!(matches!(error, VerifyError::NotGenuine(_)), "{error}");
        }
        let silent = present(&[("a", "yes"), ("b", "yes")], &mut NoConversation).await;
        assert!(matches!(silent, Err(VerifyError::Silent)), "{silent:?}");
    }

    #[tokio::test]
    async fn only_what_is_configured_is_a_combination() {
        let refused: [&[(&str, &str)]; 6] = [
            &[],
            &[("a", "yes")],
            &[("a", "yes"), ("c", "yes")],
            &[("a", "yes"), ("b", "yes"), ("c", "yes")],
            &[("b", "yes"), ("a", "yes")],
            &[("b", "yes"), ("b", "yes")],
        ];
        for parts in refused {
            let error = present(parts, &mut Echo(Vec::new())).await.unwrap_err();
            let expected = matches!(error, VerifyError::NotGenuine(_) | VerifyError::Malformed);
            assert!(expected, "{parts:?}: {error}");
        }
    }

    #[test]
    fn combinations_have_to_make_sense() {
        let problems = |sets: &[&[&str]]| {
            let set = |set: &&[&str]| set.iter().map(ToString::to_string).collect();
            let config = Config { combinations: sets.iter().map(set).collect() };
            config.problems(&["a", "b"]).len()
        };
        assert_eq!(problems(&[&["a", "b"]]), 0);
        assert_eq!(problems(&[]), 1);
        assert_eq!(problems(&[&["a"]]), 1);
        assert_eq!(problems(&[&["a", "z"], &["b", "y"]]), 2);
    }
}
