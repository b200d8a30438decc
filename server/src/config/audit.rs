//! `[audit]`: who may read the audit log, and who signs that there is only one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use claviger_attestors::fetch::{Endpoint, Plain};
use claviger_core::audit::note::{Kind, VerifierKey};
use claviger_runtime::settings::{AbsolutePath, Section};

/// The most witnesses.
const MAX_WITNESSES: usize = 16;

/// What becomes of the log beside being kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditConfig {
    /// Whether strangers may read it, at the public door.
    pub public: bool,
    /// Who signs its checkpoints, too.
    pub witnesses: Vec<WitnessConfig>,
    /// Who vouches for their HTTPS, in PEM; the machine's authorities if unset.
    pub ca_file: Option<PathBuf>,
}

/// A witness.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WitnessConfig {
    /// Where it takes checkpoints: its submission prefix and `/add-checkpoint`.
    pub endpoint: Endpoint,
    /// What its signatures are verified with.
    pub key: VerifierKey,
}

pub(super) fn read(section: &mut Section<'_>) -> AuditConfig {
    let public = section.value("public").unwrap_or(false);
    let ca_file = section.value::<AbsolutePath>("witness-ca-file").map(|path| path.0);
    let named: BTreeMap<String, String> = section.value("witnesses").unwrap_or_default();
    if MAX_WITNESSES < named.len() {
        section.problem("witnesses", &named.len(), format_args!("name at most {MAX_WITNESSES}"));
    }
    if let (true, Some(ca_file)) = (named.is_empty(), &ca_file) {
        section.problem(
            "witness-ca-file",
            &ca_file.display(),
            "vouches for nobody without witnesses",
        );
    }
    let mut witnesses = Vec::new();
    for (url, key) in named {
        match witness(&url, &key) {
            Ok(witness) => witnesses.push(witness),
            Err(why) => section.problem("witnesses", &format_args!("{url} = {key}"), why),
        }
    }
    AuditConfig { public, witnesses, ca_file }
}

fn witness(url: &str, key: &str) -> Result<WitnessConfig, String> {
    let address = format!("{}/add-checkpoint", url.trim_end_matches('/'));
    let endpoint = Endpoint::parse(&address, Plain::Loopback).map_err(|error| error.to_string())?;
    if endpoint.has_query() {
        return Err("leave the query out".to_owned());
    }
    let parsed: Result<VerifierKey, _> = key.parse();
    let key = parsed.ok().filter(|key| key.kind() == Kind::Witness);
    let key = key.ok_or("say which key it has, as `claviger audit witness` shows it")?;
    Ok(WitnessConfig { endpoint, key })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(audit: &str) -> Result<super::AuditConfig, String> {
        let text = format!(
            "trust-domain = \"example.org\"\ndata-dir = \"/var/lib/x\"\n[audit]\n{audit}\n"
        );
        Config::parse(&text).map(|config| config.audit).map_err(|problems| problems.to_string())
    }

    /// A key of the specification's example, and one of an author.
    const WITNESS: &str = "w+0bdd7180+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
    const AUTHOR: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn witnesses_are_named_by_address_and_key() {
        assert_eq!(parse("").unwrap(), super::AuditConfig::default());
        let key = WITNESS;
        let text = format!("[audit.witnesses]\n\"https://w.example.org/log/\" = \"{key}\"");
        let witness = parse(&text).unwrap().witnesses.remove(0);
        assert_eq!(witness.endpoint.to_string(), "https://w.example.org/log/add-checkpoint");
        assert_eq!(witness.key.to_string(), key);
    }

    #[test]
    fn what_is_no_witness_is_refused() {
        for (text, why) in [
            (format!("[audit.witnesses]\n\"http://w.example.org\" = \"{WITNESS}\""), "https"),
            (format!("[audit.witnesses]\n\"https://w.example.org\" = \"{AUTHOR}\""), "which key"),
            ("[audit.witnesses]\n\"https://w.example.org\" = \"x\"".to_owned(), "which key"),
            ("witness-ca-file = \"/etc/ca.pem\"".to_owned(), "vouches for nobody"),
        ] {
            let problems = parse(&text).unwrap_err();
            assert!(problems.contains(why), "{problems}");
        }
    }
}
