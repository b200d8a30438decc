//! Which issuers are believed, and about what: `[attestors.oidc.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::profile::{Profile, owner_claims};
use crate::ConfigProblem;
use crate::fetch::{Endpoint, Plain};
use crate::jwks::audience;

/// The issuers, by the names that the operator gives them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, Issuer>);

/// One issuer, and which of its tokens are accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Issuer {
    /// The `iss` of its tokens, exactly: a slash at the end makes it another.
    pub issuer: String,
    /// The `aud` of the tokens that are for us: exactly, and the only one.
    pub audience: String,
    /// What its tokens say.
    #[serde(default)]
    pub profile: Profile,
    /// Where its keys are, if discovery can't tell.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// A file that holds its keys, if it can't be asked.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// The authorities, in PEM, of its web server. Instead of this machine's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long ago a token may have been made.
    #[serde(default = "Issuer::default_max_age", with = "humantime_serde")]
    pub max_age: Duration,
    /// How long a token may last.
    #[serde(default = "Issuer::default_max_lifetime", with = "humantime_serde")]
    pub max_lifetime: Duration,
    /// How far its clock may be off.
    #[serde(default = "Issuer::default_leeway", with = "humantime_serde")]
    pub leeway: Duration,
    /// The claims that become selectors; the profile's if there is no list.
    #[serde(default)]
    pub claims: Option<Vec<String>>,
    /// The values that a claim may have. All of these claims have to have one.
    #[serde(default)]
    pub require: BTreeMap<String, Vec<String>>,
    /// Whether only tokens that are bound to a key are accepted.
    #[serde(default)]
    pub require_binding: bool,
}

impl Issuer {
    /// The longest name of an issuer, in bytes.
    pub const MAX_NAME: usize = 64;
    /// The most claims that become selectors.
    pub const MAX_CLAIMS: usize = 64;
    /// The furthest that a clock may be off.
    pub const MAX_LEEWAY: Duration = Duration::from_mins(5);
    /// The longest that a token may last: with the leeway, it stays within what the ledger remembers.
    pub const MAX_LIFETIME: Duration = Duration::from_hours(24);

    const fn default_max_age() -> Duration {
        Duration::from_mins(10)
    }

    const fn default_max_lifetime() -> Duration {
        Duration::from_hours(24)
    }

    const fn default_leeway() -> Duration {
        Duration::from_secs(30)
    }

    /// The claims that become selectors.
    pub(super) fn selected(&self) -> Vec<String> {
        match &self.claims {
            Some(claims) => claims.clone(),
            None => self.profile.claims().iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut found = Found::default();
        if self.0.is_empty() {
            found.add(
                "",
                None,
                "name an issuer: `[attestors.oidc.NAME]`; without one, leave it out",
            );
        }
        let mut seen = BTreeSet::new();
        for (name, issuer) in &self.0 {
            found.issuer.clone_from(name);
            if !is_name(name) {
                found.add("", Some(name), "an issuer's name is 1 to 64 of `a-z 0-9 - _`");
            }
            issuer.check(&mut found);
            if !seen.insert((&issuer.issuer, &issuer.audience)) {
                found.add(
                    "audience",
                    Some(&issuer.audience),
                    "two tables have this issuer and this audience, and nothing tells which one \
                     judges a token: give them different audiences",
                );
            }
        }
        found.problems
    }
}

/// What is wrong with the issuer that is looked at, and with those before.
#[derive(Default)]
struct Found {
    issuer: String,
    problems: Vec<ConfigProblem>,
}

impl Found {
    fn add(&mut self, key: &str, value: Option<&str>, advice: &str) {
        let separate = if self.issuer.is_empty() || key.is_empty() { "" } else { "." };
        let key = format!("{}{separate}{key}", self.issuer);
        self.problems.push(ConfigProblem::new(key, value, advice));
    }
}

impl Issuer {
    fn check(&self, found: &mut Found) {
        self.check_addresses(found);
        if !audience::is_sound(&self.audience) {
            found.add(
                "audience",
                Some(&self.audience),
                "an audience is 1 to 512 visible ASCII characters without `#`; take the name of this \
                 server, such as `https://claviger.example.org`",
            );
        }
        self.check_times(found);
        self.check_claims(found);
        self.check_required(found);
    }

    fn check_addresses(&self, found: &mut Found) {
        let mut check = |key, text: &str| match Endpoint::parse(text, Plain::Loopback) {
            Err(error) => found.add(key, Some(text), &error.to_string()),
            Ok(address) if key == "issuer" && address.has_query() => {
                found.add(key, Some(text), "an issuer has no query");
            }
            Ok(_) => {}
        };
        check("issuer", &self.issuer);
        if let Some(uri) = &self.jwks_uri {
            check("jwks-uri", uri);
        }
        if self.jwks_uri.is_some() && self.jwks_file.is_some() {
            found.add("jwks-file", None, "set `jwks-uri` or `jwks-file`, not both");
        }
        for (key, path) in [("jwks-file", &self.jwks_file), ("ca-file", &self.ca_file)] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                found.add(key, Some(&path.display().to_string()), "write the file's absolute path");
            }
        }
        if self.ca_file.is_some() && self.jwks_file.is_some() {
            found.add("ca-file", None, "with `jwks-file` nobody is asked; leave `ca-file` out");
        }
    }

    fn check_times(&self, found: &mut Found) {
        let spans = [
            ("max-age", self.max_age, Self::MAX_LIFETIME),
            ("max-lifetime", self.max_lifetime, Self::MAX_LIFETIME),
        ];
        for (key, span, most) in spans {
            if span.as_secs() == 0 || most < span {
                let advice = format!("write a span of 1 s to {} s", most.as_secs());
                found.add(key, Some(&format!("{span:?}")), &advice);
            }
        }
        if Self::MAX_LEEWAY < self.leeway {
            let leeway = format!("{:?}", self.leeway);
            found.add("leeway", Some(&leeway), "a clock may be off by at most 300 s");
        }
    }

    fn check_claims(&self, found: &mut Found) {
        let Some(claims) = &self.claims else { return };
        if Self::MAX_CLAIMS < claims.len() {
            found.add("claims", None, "at most 64 claims become selectors");
        }
        for name in claims {
            if !is_claim(name) {
                found.add(
                    "claims",
                    Some(name),
                    "a claim that becomes a selector is named with 1 to 64 of `A-Z a-z 0-9 . - _ /`, \
                     so that it can be told from its value",
                );
            }
            if RESERVED.contains(&name.as_str()) {
                found.add(
                    "claims",
                    Some(name),
                    "this selector is made by the server, not by the token; leave it out",
                );
            }
        }
    }

    fn check_required(&self, found: &mut Found) {
        for (name, values) in &self.require {
            if values.is_empty() || values.iter().any(String::is_empty) {
                let advice = "list the values that are allowed, each not empty; to allow all, leave \
                              the claim out";
                found.add(&format!("require.{name}"), None, advice);
            }
        }
        let host = Endpoint::parse(&self.issuer, Plain::Loopback);
        let host = host.as_ref().map(Endpoint::host).unwrap_or_default();
        if let Some(owner) = owner_claims(host) {
            if !owner.iter().any(|name| self.require.contains_key(*name)) {
                let advice = format!(
                    "anybody can get a token of this issuer's: say whose are accepted, with at least \
                     one of {}",
                    owner.join(", ")
                );
                found.add("require", None, &advice);
            }
        } else if self.profile == Profile::Generic && self.require.is_empty() {
            found.add(
                "require",
                None,
                "say which of this issuer's tokens are accepted, such as `require = { sub = [\"…\"] }`",
            );
        }
    }
}

/// Selectors that no claim may pass for.
const RESERVED: [&str; 2] = ["fork", "issuer"];

fn is_name(name: &str) -> bool {
    (1..=Issuer::MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

fn is_claim(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of everything that is wrong with this.
    fn problems(toml: &str) -> Vec<String> {
        let config: Config = toml::from_str(toml).unwrap();
        let problems = config.problems();
        assert!(problems.iter().all(|problem| !problem.advice.is_empty()));
        problems.into_iter().map(|problem| problem.key).collect()
    }

    const GITHUB: &str = r#"
        [github]
        issuer = "https://token.actions.githubusercontent.com"
        audience = "https://claviger.example.org"
        profile = "github"
    "#;

    /// A GitLab of one's own, with this added.
    fn gitlab(more: &str) -> Vec<String> {
        problems(&format!(
            "[ci]\nissuer = \"https://gitlab.example.org\"\naudience = \"claviger\"\n\
             profile = \"gitlab\"\n{more}"
        ))
    }

    #[test]
    fn a_configuration_has_defaults() {
        let toml = format!("{GITHUB}\nrequire = {{ repository_owner = [\"acme\"] }}");
        let config: Config = toml::from_str(&toml).unwrap();
        assert_eq!(config.problems(), []);
        let issuer = &config.0["github"];
        assert_eq!(issuer.max_age, Duration::from_mins(10));
        assert_eq!(issuer.max_lifetime, Duration::from_hours(24));
        assert_eq!(issuer.leeway, Duration::from_secs(30));
        assert!(issuer.selected().contains(&"job_workflow_ref".to_owned()));
        assert_eq!(gitlab("max-age = \"2h\""), Vec::<String>::new());
    }

    #[test]
    fn where_anybody_gets_a_token_an_owner_is_required() {
        assert_eq!(problems(GITHUB), ["github.require"]);
        for not_an_owner in ["job_workflow_ref", "actor", "ref"] {
            let toml = format!("{GITHUB}\nrequire = {{ {not_an_owner} = [\"x\"] }}");
            assert_eq!(problems(&toml), ["github.require"], "{not_an_owner}");
        }
        // Whatever the profile, and whatever follows the host.
        for issuer in ["https://gitlab.com", "https://gitlab.com/", "https://agent.buildkite.com"] {
            let toml =
                format!("[a]\nissuer = \"{issuer}\"\naudience = \"a\"\nprofile = \"gitlab\"");
            assert_eq!(problems(&toml), ["a.require"], "{issuer}");
        }
        let toml = "[a]\nissuer = \"https://issuer.example\"\naudience = \"a\"";
        assert_eq!(problems(toml), ["a.require"]);
    }

    #[test]
    fn empty_lists_are_refused() {
        assert_eq!(gitlab("require = { ref = [] }"), ["ci.require.ref"]);
        assert_eq!(gitlab("require = { ref = [\"\"] }"), ["ci.require.ref"]);
        assert_eq!(problems(""), [""]);
    }

    #[test]
    fn everything_that_is_wrong_is_found() {
        let toml = r#"
            ["Bad Name"]
            issuer = "http://gitlab.example.org"
            audience = "a#b"
            profile = "gitlab"
            jwks-uri = "http://169.254.169.254/keys"
            jwks-file = "keys.json"
            ca-file = "/ca.pem"
            max-age = "0s"
            max-lifetime = "1year"
            leeway = "1h"
            claims = ["fork", "https://claim", ""]
        "#;
        let want = [
            "",
            ".issuer",
            ".jwks-uri",
            ".jwks-file",
            ".jwks-file",
            ".ca-file",
            ".audience",
            ".max-age",
            ".max-lifetime",
            ".leeway",
            ".claims",
            ".claims",
            ".claims",
        ];
        assert_eq!(problems(toml), want.map(|key| format!("Bad Name{key}")));
    }

    #[test]
    fn it_is_clear_which_table_judges_a_token() {
        let table = |name: &str, audience: &str| {
            format!(
                "[{name}]\nissuer = \"https://a.example\"\naudience = \"{audience}\"\n\
                 profile = \"gitlab\"\n"
            )
        };
        assert_eq!(problems(&(table("a", "x") + &table("b", "x"))), ["b.audience"]);
        assert_eq!(problems(&(table("a", "x") + &table("b", "y"))), Vec::<String>::new());
    }

    #[test]
    fn settings_that_nobody_knows_are_refused() {
        for text in ["[a]\nissuer = \"x\"", "[a]\nissuer = \"x\"\naudience = \"y\"\nissuers = 1"] {
            toml::from_str::<Config>(text).unwrap_err();
        }
        let profile = "[a]\nissuer = \"x\"\naudience = \"y\"\nprofile = \"jenkins\"";
        toml::from_str::<Config>(profile).unwrap_err();
    }
}
