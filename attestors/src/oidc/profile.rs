//! What the tokens of well-known issuers say.

use claviger_core::psk::{ParseRunError, Run};
use serde::Deserialize;

use crate::jwks::claims::{Claims, spelled};

/// Whose manner of speaking a token has.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// GitHub Actions, also on a GitHub Enterprise Server.
    Github,
    /// GitLab CI/CD, also on a GitLab of one's own.
    Gitlab,
    /// Buildkite.
    Buildkite,
    /// Nobody's in particular: the standard's claims only.
    #[default]
    Generic,
}

/// Whether the code that runs comes from another repository than the one that the token names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fork {
    /// It does.
    True,
    /// It does not.
    False,
    /// The token does not tell.
    Unknown,
}

impl Fork {
    /// Its name in a selector.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        }
    }
}

/// An issuer at which anybody can get a token.
struct Shared {
    host: &'static str,
    /// The claims that say whose a token is.
    owner: &'static [&'static str],
}

/// `job_workflow_ref` and GitLab's `job_project_path` are not among them: strangers can call a public
/// workflow, and a merge request from a fork can run in our project.
const SHARED: [Shared; 4] = [
    Shared {
        host: "token.actions.githubusercontent.com",
        owner: &[
            "repository_owner",
            "repository_owner_id",
            "repository",
            "repository_id",
            "enterprise",
            "enterprise_id",
            "sub",
        ],
    },
    Shared {
        host: "gitlab.com",
        owner: &["namespace_path", "namespace_id", "project_path", "project_id", "sub"],
    },
    Shared { host: "agent.buildkite.com", owner: &["organization_slug", "organization_id", "sub"] },
    Shared { host: "accounts.google.com", owner: &["email", "hd", "sub"] },
];

/// The claims that say whose a token is, if anybody can get one from the issuer at `host`.
#[must_use]
pub(super) fn owner_claims(host: &str) -> Option<&'static [&'static str]> {
    SHARED.iter().find(|shared| shared.host == host).map(|shared| shared.owner)
}

/// What starts a workflow on GitHub that only those who may write to the repository can start, for
/// code that is in it. Whatever else there is, or will be, is not known to.
const GITHUB_OWN: [&str; 9] = [
    "create",
    "deployment",
    "merge_group",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "workflow_dispatch",
];

/// What starts a pipeline on GitLab for a branch or a tag of the project itself.
const GITLAB_OWN: [&str; 6] = ["api", "chat", "push", "schedule", "trigger", "web"];

impl Profile {
    /// The claims that become selectors unless the operator lists others.
    #[must_use]
    pub const fn claims(self) -> &'static [&'static str] {
        match self {
            Self::Github => &[
                "sub",
                "repository",
                "repository_id",
                "repository_owner",
                "repository_owner_id",
                "repository_visibility",
                "ref",
                "ref_type",
                "ref_protected",
                "sha",
                "workflow",
                "workflow_ref",
                "job_workflow_ref",
                "environment",
                "event_name",
                "run_id",
                "run_attempt",
                "actor",
                "actor_id",
                "runner_environment",
            ],
            Self::Gitlab => &[
                "sub",
                "namespace_id",
                "namespace_path",
                "project_id",
                "project_path",
                "job_project_id",
                "job_project_path",
                "pipeline_id",
                "pipeline_source",
                "job_id",
                "ref",
                "ref_type",
                "ref_path",
                "ref_protected",
                "sha",
                "environment",
                "environment_protected",
                "ci_config_ref_uri",
                "user_login",
                "runner_environment",
            ],
            Self::Buildkite => &[
                "sub",
                "organization_slug",
                "organization_id",
                "pipeline_slug",
                "pipeline_id",
                "build_number",
                "build_commit",
                "build_branch",
                "build_tag",
                "build_source",
                "job_id",
                "step_key",
                "agent_id",
                "cluster_id",
                "queue_key",
                "runner_environment",
            ],
            Self::Generic => &["sub"],
        }
    }

    /// Whether the code that runs is the repository's own, as far as a token can tell.
    pub(super) fn fork(self, claims: &Claims) -> Option<Fork> {
        match self {
            Self::Github => Some(github_fork(claims)),
            Self::Gitlab => Some(gitlab_fork(claims)),
            Self::Buildkite => Some(buildkite_fork(claims)),
            Self::Generic => None,
        }
    }

    /// The run that a token is of, as `<issuer>:<run>:<attempt, or job of it>`, if the issuer, which
    /// the configuration calls `issuer`, says so.
    ///
    /// # Errors
    ///
    /// [`ParseRunError`] if what it says can't be a name.
    pub(super) fn run(self, issuer: &str, claims: &Claims) -> Result<Option<Run>, ParseRunError> {
        let Some((id, attempt)) = self.run_and_attempt(claims) else { return Ok(None) };
        // With a colon in a part, two runs could have one name; the empty name is none.
        let ambiguous = id.contains(':') || attempt.contains(':');
        let name = if ambiguous { String::new() } else { format!("{issuer}:{id}:{attempt}") };
        name.parse().map(Some)
    }

    fn run_and_attempt(self, claims: &Claims) -> Option<(String, String)> {
        let claim = |name| claims.find(name).and_then(spelled).filter(|value| !value.is_empty());
        let (id, attempt) = match self {
            Self::Github => (claim("run_id")?.into_owned(), claim("run_attempt")?),
            Self::Gitlab => (claim("pipeline_id")?.into_owned(), claim("job_id")?),
            Self::Buildkite => {
                // A build's number is its pipeline's.
                let of = [claim("organization_slug")?, claim("pipeline_slug")?];
                (format!("{}/{}/{}", of[0], of[1], claim("build_number")?), claim("job_id")?)
            }
            Self::Generic => return None,
        };
        Some((id, attempt.into_owned()))
    }
}

/// GitHub's tokens do not name the repository that a pull request comes from.
fn github_fork(claims: &Claims) -> Fork {
    match claims.find("event_name").and_then(|event| event.as_str()) {
        Some(event) if GITHUB_OWN.contains(&event) => Fork::False,
        _ => Fork::Unknown,
    }
}

/// Since 18.4, GitLab names the project that the code of a merge request comes from and the one whose
/// pipeline it is. Older ones name one of them.
fn gitlab_fork(claims: &Claims) -> Fork {
    let id = |name| claims.find(name).and_then(spelled);
    let (code, source, job) = (id("project_id"), id("source_project_id"), id("job_project_id"));
    let same = |a: &Option<_>, b: &Option<_>| a.is_none() || b.is_none() || a == b;
    if !same(&code, &source) || !same(&source, &job) || !same(&code, &job) {
        return Fork::True;
    }
    if code.is_some() && job.is_some() {
        return Fork::False;
    }
    match claims.find("pipeline_source").and_then(|source| source.as_str()) {
        Some(source) if GITLAB_OWN.contains(&source) => Fork::False,
        _ => Fork::Unknown,
    }
}

/// Buildkite writes the branch of a fork as `owner:branch` if the pipeline says so, and no branch of
/// Git's has a colon. It does not say whether the pipeline says so.
fn buildkite_fork(claims: &Claims) -> Fork {
    match claims.find("build_branch").and_then(|branch| branch.as_str()) {
        Some(branch) if branch.contains(':') => Fork::True,
        _ => Fork::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claims(value: &Value) -> Claims {
        Claims::parse(value.to_string().as_bytes()).unwrap()
    }

    fn fork(profile: Profile, value: &Value) -> &'static str {
        profile.fork(&claims(value)).unwrap().name()
    }

    #[test]
    fn what_only_writers_can_start_is_no_fork() {
        let github = |event: &str| fork(Profile::Github, &json!({"event_name": event}));
        for event in ["push", "workflow_dispatch", "schedule", "release"] {
            assert_eq!(github(event), "false", "{event}");
        }
        for event in [
            "pull_request",
            "pull_request_target",
            "pull_request_review",
            "workflow_run",
            "issue_comment",
            "issues",
            "something_new",
            "Push",
            "",
        ] {
            assert_eq!(github(event), "unknown", "{event}");
        }
        assert_eq!(fork(Profile::Github, &json!({})), "unknown");
        assert_eq!(fork(Profile::Github, &json!({"event_name": ["push"]})), "unknown");
    }

    #[test]
    fn gitlab_names_both_projects() {
        let gitlab = |value: Value| fork(Profile::Gitlab, &value);
        let same = json!({"project_id": "1", "job_project_id": "1", "pipeline_source": "x"});
        assert_eq!(gitlab(same), "false");
        assert_eq!(gitlab(json!({"project_id": "2", "job_project_id": "1"})), "true");
        let meant = json!({"project_id": "1", "job_project_id": "1", "source_project_id": "2"});
        assert_eq!(gitlab(meant), "true");
        let push = json!({"project_id": "2", "source_project_id": "1", "pipeline_source": "push"});
        assert_eq!(gitlab(push), "true");
        // Older ones name one.
        assert_eq!(gitlab(json!({"project_id": "1", "pipeline_source": "push"})), "false");
        for source in ["merge_request_event", "parent_pipeline", "pipeline", "new"] {
            let value = json!({"project_id": "1", "pipeline_source": source});
            assert_eq!(gitlab(value), "unknown", "{source}");
        }
        assert_eq!(gitlab(json!({})), "unknown");
    }

    #[test]
    fn buildkite_marks_some_forks() {
        let buildkite = |branch: &str| fork(Profile::Buildkite, &json!({"build_branch": branch}));
        assert_eq!(buildkite("stranger:main"), "true");
        assert_eq!(buildkite("main"), "unknown");
        assert_eq!(Profile::Generic.fork(&claims(&json!({}))), None);
    }

    #[test]
    fn a_run_has_a_name_of_its_own() {
        let run = |profile: Profile, value: &Value| {
            let run = profile.run("ci", &claims(value));
            run.map(|run| run.map(|run| run.to_string()).unwrap_or_default())
        };
        let github = json!({"run_id": "77", "run_attempt": "2"});
        assert_eq!(run(Profile::Github, &github).unwrap(), "ci:77:2");
        let gitlab = json!({"pipeline_id": "77", "job_id": "9"});
        assert_eq!(run(Profile::Gitlab, &gitlab).unwrap(), "ci:77:9");
        let buildkite = json!({
            "organization_slug": "acme", "pipeline_slug": "app", "build_number": 5, "job_id": "j"
        });
        assert_eq!(run(Profile::Buildkite, &buildkite).unwrap(), "ci:acme/app/5:j");
        let none = [
            (Profile::Generic, github),
            (Profile::Github, json!({"run_id": "77"})),
            (Profile::Github, json!({"run_id": "", "run_attempt": "1"})),
        ];
        for (profile, value) in none {
            assert_eq!(run(profile, &value).unwrap(), "");
        }
        for odd in ["7 7", "7:7", "\u{fc}"] {
            run(Profile::Github, &json!({"run_id": odd, "run_attempt": "1"})).unwrap_err();
        }
    }
}
