//! Where the job's token comes from.

use std::env;
use std::path::PathBuf;

use clap::Args;
use claviger_attestors::oidc::GithubTokens;
use claviger_core::evidence::Binding;
use zeroize::Zeroizing;

use super::github;
use crate::failure::Failure;
use crate::files;

/// The variable that is looked at without being named: GitLab puts a token wherever it is told to.
const DEFAULT: &str = "CLAVIGER_OIDC_TOKEN";

/// What GitHub tells a job that may ask for tokens.
const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// The longest token, in bytes.
const MAX_TOKEN: u64 = 16 << 10;

/// Where the token comes from.
#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    /// The file that holds the token; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token_env")]
    token_file: Option<PathBuf>,

    /// The environment variable that holds the token. Without this and --token-file it is
    /// CLAVIGER_OIDC_TOKEN, and if that is not there, GitHub is asked for one
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,

    /// For whom GitHub makes the token: the `audience` of `[attestors.oidc.NAME]` in the server's
    /// configuration
    #[arg(long, env = "CLAVIGER_AUDIENCE", value_name = "NAME")]
    audience: Option<String>,
}

/// The tokens of this job.
#[derive(Debug)]
pub(crate) enum Tokens {
    /// The one that the job was given.
    Given(Given),
    /// As many as it takes.
    Github(GithubTokens),
}

/// A token that is not shown.
pub(crate) struct Given(Zeroizing<String>);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given(..)")
    }
}

impl TokenArgs {
    /// Finds out where tokens come from.
    pub(crate) fn open(&self) -> Result<Tokens, Failure> {
        if let Some(path) = &self.token_file {
            let text = Zeroizing::new(files::read(path, MAX_TOKEN)?);
            return given(&text, &path.display().to_string());
        }
        if let Some(name) = &self.token_env {
            let token = secret(name).ok_or_else(|| {
                Failure::usage(format_args!("the environment variable `{name}` is not set"))
                    .try_this(format_args!(
                        "in GitLab, declare it under the job's `id_tokens:`; elsewhere, `export {name}`"
                    ))
            })?;
            return given(token.as_bytes(), name);
        }
        if let Some(token) = secret(DEFAULT) {
            return given(token.as_bytes(), DEFAULT);
        }
        let (Some(url), Some(request_token)) = (secret(GITHUB_URL), secret(GITHUB_TOKEN)) else {
            return Err(Failure::usage("there is no token").try_this(format_args!(
                "in GitHub Actions, give the job `permissions: {{ id-token: write }}`; in GitLab, \
                 declare {DEFAULT} under the job's `id_tokens:`; elsewhere, use `--token-file`"
            )));
        };
        let audience = self.audience.as_deref().ok_or_else(|| {
            Failure::usage("GitHub has to be told for whom the token is").try_this(
                "use `--audience`, with the `audience` of `[attestors.oidc.NAME]` in the server's \
                 configuration",
            )
        })?;
        let tokens = GithubTokens::open(&url, request_token, audience);
        Ok(Tokens::Github(tokens.map_err(|error| Failure::because(&error))?))
    }
}

impl Tokens {
    /// A token; bound as `binding` says, if its issuer does that. Logs show nothing of it.
    pub(crate) async fn token(
        &self,
        binding: Option<&Binding>,
    ) -> Result<Zeroizing<String>, Failure> {
        let token = match self {
            Self::Given(Given(token)) => token.clone(),
            Self::Github(tokens) => {
                tokens.token(binding).await.map_err(|error| Failure::because(&error))?
            }
        };
        github::mask(&token);
        Ok(token)
    }

    /// Whether each token can be made for a key.
    pub(crate) const fn can_be_bound(&self) -> bool {
        matches!(self, Self::Github(_))
    }
}

fn given(text: &[u8], place: &str) -> Result<Tokens, Failure> {
    let token = str::from_utf8(text).map(str::trim).unwrap_or_default();
    let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || !printable || token.split('.').count() != 3 {
        return Err(Failure::usage(format_args!("what is in `{place}` is no token"))
            .try_this("an OIDC token is three parts of base64url with dots between them"));
    }
    Ok(Tokens::Given(Given(Zeroizing::new(token.to_owned()))))
}

/// The variable's value, unless it is empty or no text.
fn secret(name: &str) -> Option<Zeroizing<String>> {
    let value = env::var_os(name)?.into_string().ok().map(Zeroizing::new)?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_one_word_of_three_parts() {
        let tokens = given(b"e30.e30.c2ln\n", "x").unwrap();
        assert_eq!(*tokens.token(None).await.unwrap(), "e30.e30.c2ln");
        assert!(!format!("{tokens:?}").contains("e30") && !tokens.can_be_bound());
        for bad in [&b""[..], b"a.b", b"a.b.c d", b"a.b.\xff", b"<html>"] {
            let error = given(bad, "FILE").unwrap_err().to_string();
            assert!(error.contains("`FILE`") && error.contains("hint: "), "{error}");
        }
    }
}
