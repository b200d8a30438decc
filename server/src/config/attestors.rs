//! `[attestors]`: which kinds of evidence admit a node, or a program that has no agent.

use claviger_attestors::{
    ConfigProblem, aws_iid, aws_nitro, azure_imds, composite, gcp_iit, http_challenge, join_token,
    k8s_psat, nitro_tpm, nvidia_gpu, oidc, sev_snp, sgx, sshpop, tdx, tpm, x509pop,
};
use claviger_runtime::settings::Section;
use serde::de::DeserializeOwned;

/// The kinds of evidence that are judged, beside join tokens. None by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AttestorsConfig {
    /// Certificates of an authority that the operator trusts.
    pub x509pop: Option<x509pop::Config>,
    /// Host certificates of SSH.
    pub sshpop: Option<sshpop::Config>,
    /// What is served under the names of hosts.
    pub http_challenge: Option<http_challenge::Config>,
    /// Tokens of Kubernetes' service accounts.
    pub k8s_psat: Option<k8s_psat::Config>,
    /// Documents of Amazon's instances.
    pub aws_iid: Option<aws_iid::Config>,
    /// Tokens of Google's instances.
    pub gcp_iit: Option<gcp_iit::Config>,
    /// Documents of Azure's instances.
    pub azure_imds: Option<azure_imds::Config>,
    /// Documents of Nitro enclaves.
    pub aws_nitro: Option<aws_nitro::Config>,
    /// Documents of EC2 instances with a NitroTPM.
    pub nitro_tpm: Option<nitro_tpm::Config>,
    /// Reports of AMD's confidential virtual machines.
    pub sev_snp: Option<sev_snp::Config>,
    /// Quotes of Intel's confidential virtual machines.
    pub tdx: Option<tdx::Config>,
    /// Quotes of Intel's enclaves.
    pub sgx: Option<sgx::Config>,
    /// What NVIDIA's GPUs and switches say of themselves.
    pub nvidia_gpu: Option<nvidia_gpu::Config>,
    /// What the TPMs of machines say was booted.
    pub tpm: Option<tpm::Config>,
    /// Tokens of OpenID Connect, such as those of CI jobs.
    pub oidc: Option<oidc::Config>,
    /// Several kinds at once.
    pub composite: Option<composite::Config>,
}

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>) -> AttestorsConfig {
    let mut kinds = Kinds { section, configured: vec![join_token::KIND] };
    let mut config = AttestorsConfig {
        x509pop: kinds.read(x509pop::KIND, x509pop::Config::problems),
        sshpop: kinds.read(sshpop::KIND, sshpop::Config::problems),
        http_challenge: kinds.read(http_challenge::KIND, http_challenge::Config::problems),
        k8s_psat: kinds.read(k8s_psat::KIND, k8s_psat::Config::problems),
        aws_iid: kinds.read(aws_iid::KIND, aws_iid::Config::problems),
        gcp_iit: kinds.read(gcp_iit::KIND, gcp_iit::Config::problems),
        azure_imds: kinds.read(azure_imds::KIND, azure_imds::Config::problems),
        aws_nitro: kinds.read(aws_nitro::KIND, aws_nitro::Config::problems),
        nitro_tpm: kinds.read(nitro_tpm::KIND, nitro_tpm::Config::problems),
        sev_snp: kinds.read(sev_snp::KIND, sev_snp::Config::problems),
        tdx: kinds.read(tdx::KIND, tdx::Config::problems),
        sgx: kinds.read(sgx::KIND, sgx::Config::problems),
        nvidia_gpu: kinds.read(nvidia_gpu::KIND, nvidia_gpu::Config::problems),
        tpm: kinds.read(tpm::KIND, tpm::Config::problems),
        oidc: kinds.read(oidc::KIND, oidc::Config::problems),
        composite: None,
    };
    let parts = kinds.configured.clone();
    let problems = |config: &composite::Config| config.problems(&parts);
    config.composite = kinds.read(composite::KIND, problems);
    config
}

struct Kinds<'a, 'p> {
    section: &'a mut Section<'p>,
    configured: Vec<&'static str>,
}

impl Kinds<'_, '_> {
    /// The settings of one kind, if it is configured; what is wrong with them is reported.
    fn read<C: DeserializeOwned>(
        &mut self,
        kind: &'static str,
        problems: impl FnOnce(&C) -> Vec<ConfigProblem>,
    ) -> Option<C> {
        let config = self.section.value(kind)?;
        self.configured.push(kind);
        for ConfigProblem { key, value, advice } in problems(&config) {
            let key = if key.is_empty() { kind.to_owned() } else { format!("{kind}.{key}") };
            self.section.report(&key, value, advice);
        }
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const MINIMAL: &str = "trust-domain = \"example.org\"\ndata-dir = \"/var/lib/claviger\"\n";

    fn problems(text: &str) -> String {
        Config::parse(&format!("{MINIMAL}{text}")).unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_believed_by_default() {
        let config = Config::parse(MINIMAL).unwrap();
        assert_eq!(config.attestors, super::AttestorsConfig::default());
    }

    #[test]
    fn what_would_admit_anybody_or_nobody_is_refused() {
        let unknown = problems("[attestors.tpm2pop]\n");
        assert!(unknown.contains("attestors.tpm2pop: is not a setting"), "{unknown}");
        let nobody = problems("[attestors.composite]\ncombinations = []\n");
        assert!(nobody.contains("attestors.composite.combinations"), "{nobody}");
        let missing =
            problems("[attestors.composite]\ncombinations = [[\"join_token\", \"x509pop\"]]\n");
        assert!(missing.contains("configure `attestors.x509pop`"), "{missing}");
        let anybody = problems(
            "[attestors.k8s_psat.prod]\nkubeconfig = \"/k\"\nservice-account-allow-list = []\n",
        );
        assert!(
            anybody.contains("attestors.k8s_psat.prod.service-account-allow-list"),
            "{anybody}"
        );
    }
}
