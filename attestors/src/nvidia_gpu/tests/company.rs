//! Devices in company with the machine that they are in: all of it holds over one binding, or none.

use std::sync::Arc;

use claviger_core::evidence::Binding;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::possession::Nonce;
use crate::{
    Challenged, CollectError, NodeClaim, NodeCollector, NodeVerifier, Presentation, composite,
};

/// A confidential machine, as far as it matters here: its evidence carries the binding.
#[derive(Debug)]
struct Tee;

const TEE: &str = "tee";

#[async_trait::async_trait]
impl NodeVerifier for Tee {
    fn kind(&self) -> &'static str {
        TEE
    }

    async fn verify(
        &self,
        claim: NodeClaim<'_>,
        node: &mut dyn Challenged,
    ) -> Result<AttestedNode, VerifyError> {
        let nonce = node.nonce()?;
        let report = node.answer(nonce.to_vec()).await?;
        if !claim.binding.digest(&nonce).is(&report) {
            return Err(VerifyError::not_genuine("it is bound to something else"));
        }
        let id = claim.trust_domain.join("/spire/agent/tee/1").unwrap();
        let selectors = ["tee:measured:1".parse().unwrap()].into();
        Ok(AttestedNode::assertion(TEE, id, selectors, true, Bond::Key))
    }
}

/// The node's side of it, which may be bound to something else.
#[derive(Debug)]
struct Machinery(fn(Binding) -> Binding);

#[derive(Debug)]
struct Bound(Binding);

#[async_trait::async_trait]
impl NodeCollector for Machinery {
    fn kind(&self) -> &'static str {
        TEE
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(Bound(self.0(binding.clone()))))
    }
}

#[async_trait::async_trait]
impl Presentation for Bound {
    fn evidence(&self) -> &[u8] {
        b"{}"
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let nonce: Nonce = challenge.try_into().map_err(|_other| CollectError::Unexpected)?;
        Ok(Zeroizing::new(self.0.digest(&nonce).as_bytes().to_vec()))
    }
}

fn verifier(dir: &TempDir, vendor: &Vendor) -> composite::Verifier {
    let devices = Verifier::open(&config(dir, Revocation::NotChecked)).unwrap();
    let members: Vec<Box<dyn NodeVerifier>> =
        vec![Box::new(Tee), Box::new(devices.trusting(vendor.root()))];
    let both = [TEE, KIND].map(ToOwned::to_owned).into();
    composite::Verifier::new(composite::Config { combinations: vec![both] }, Arc::new(members))
}

fn node(machinery: fn(Binding) -> Binding, device: Device) -> composite::Collector {
    let devices = Collector::of(Machine(vec![device]));
    composite::Collector::new(vec![Box::new(Machinery(machinery)), Box::new(devices)])
}

#[tokio::test]
async fn a_machine_and_its_devices_are_one_node() {
    let (dir, vendor) = (tempdir().unwrap(), Vendor::new());
    let collector = node(|binding| binding, vendor.device());
    let node = World::default().attest(&verifier(&dir, &vendor), &collector).await.unwrap();
    assert_eq!(node.appraisal().bond, Bond::Key);
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    for selector in ["tee:measured:1", "nvidia_gpu:image:h100", "nvidia_gpu:driver:570.86.10"] {
        assert!(selectors.contains(&selector.to_owned()), "{selector}: {selectors:?}");
    }
}

#[tokio::test]
async fn neither_of_them_makes_up_for_the_other() {
    let (dir, vendor) = (tempdir().unwrap(), Vendor::new());
    let verifier = verifier(&dir, &vendor);
    let world = World::default();
    let other_machine: fn(Binding) -> Binding =
        |binding| binding.requesting(Some("spiffe://example.org/other".parse().unwrap()));
    let why = reason(world.attest(&verifier, &node(other_machine, vendor.device())).await);
    assert!(why.contains("bound to something else"), "{why}");
    let stranger = Vendor::new().device();
    let why = reason(world.attest(&verifier, &node(|binding| binding, stranger)).await);
    assert!(why.contains("nvidia_gpu.root"), "{why}");
    // Devices alone.
    let alone =
        composite::Collector::new(vec![Box::new(Collector::of(Machine(vec![vendor.device()])))]);
    let why = reason(world.attest(&verifier, &alone).await);
    assert!(why.contains("no combination"), "{why}");
}

/// Evidence that was made for a node alone is worth nothing in company: its binding is another.
#[tokio::test]
async fn devices_that_answered_for_themselves_do_not_count_in_company() {
    #[derive(Debug)]
    struct Alone(Collector);

    #[async_trait::async_trait]
    impl NodeCollector for Alone {
        fn kind(&self) -> &'static str {
            KIND
        }

        async fn present(&self, _: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
            self.0.present(&World::default().binding(KIND)).await
        }
    }

    let (dir, vendor) = (tempdir().unwrap(), Vendor::new());
    let devices = Alone(Collector::of(Machine(vec![vendor.device()])));
    let machinery = Machinery(|binding| binding);
    let collector = composite::Collector::new(vec![Box::new(machinery), Box::new(devices)]);
    let why = reason(World::default().attest(&verifier(&dir, &vendor), &collector).await);
    assert!(why.contains("nvidia_gpu.nonce"), "{why}");
}
