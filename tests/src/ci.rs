//! A CI system: it signs tokens for jobs, and gives them to whoever asks as GitHub does.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// Whom the tokens are for.
pub const AUDIENCE: &str = "https://claviger.example.org";

/// What every token of GitHub Actions begins with.
pub const GITHUB: &str = "https://token.actions.githubusercontent.com";

/// What signs the tokens of an issuer.
pub struct Issuer {
    pair: EcdsaKeyPair,
    made: Mutex<u64>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer(..)")
    }
}

impl Default for Issuer {
    fn default() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, made: Mutex::default() }
    }
}

impl Issuer {
    /// Its keys, as a JWK Set.
    #[must_use]
    pub fn jwks(&self) -> String {
        // 04 and the two coordinates (SEC 1 §2.3.3).
        let (x, y) = self.pair.public_key().as_ref().split_at(33);
        let (x, y) = (URL_SAFE_NO_PAD.encode(&x[1..]), URL_SAFE_NO_PAD.encode(y));
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k", "x": x, "y": y});
        json!({ "keys": [key] }).to_string()
    }

    /// A token that says `claims`, made now for `audience`.
    ///
    /// # Panics
    ///
    /// If there are no random bytes.
    #[must_use]
    pub fn token(&self, claims: &Value, audience: &str) -> String {
        let mut claims = claims.clone();
        let mut made = self.made.lock().unwrap();
        *made += 1;
        #[expect(clippy::disallowed_methods, reason = "the server compares it with its own clock")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let times = [("iat", now), ("nbf", now), ("exp", now + 300)];
        times.iter().for_each(|(name, time)| claims[name] = json!(time));
        claims["jti"] = json!(format!("token-{made}"));
        claims["aud"] = json!(audience);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "k"});
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The claims of a job that a push to `main` of `acme/app` started on GitHub.
#[must_use]
pub fn github_job(run: u64, attempt: u64) -> Value {
    json!({
        "iss": GITHUB,
        "sub": "repo:acme/app:ref:refs/heads/main",
        "repository": "acme/app",
        "repository_id": "1001",
        "repository_owner": "acme",
        "repository_owner_id": "1000",
        "repository_visibility": "private",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "ref_protected": "true",
        "sha": "0123456789abcdef0123456789abcdef01234567",
        "workflow": "release",
        "workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
        "event_name": "push",
        "actor": "octocat",
        "actor_id": "1",
        "run_id": run.to_string(),
        "run_number": "7",
        "run_attempt": attempt.to_string(),
        "runner_environment": "github-hosted",
    })
}

/// The claims of a job in a pipeline for the default branch of `acme/app` on a GitLab.
#[must_use]
pub fn gitlab_job(pipeline: u64, job: u64) -> Value {
    json!({
        "iss": "https://gitlab.example.org",
        "sub": "project_path:acme/app:ref_type:branch:ref:main",
        "namespace_id": "72",
        "namespace_path": "acme",
        "project_id": "20",
        "project_path": "acme/app",
        "job_project_id": "20",
        "job_project_path": "acme/app",
        "user_login": "dev",
        "pipeline_id": pipeline.to_string(),
        "pipeline_source": "push",
        "job_id": job.to_string(),
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "sha": "0123456789abcdef0123456789abcdef01234567",
        "runner_environment": "self-hosted",
    })
}

/// What a job of GitHub Actions asks for tokens; each says what the job is at the time.
#[derive(Debug)]
pub struct Runner {
    issuer: Arc<Issuer>,
    job: Arc<Mutex<Value>>,
    given: Arc<Mutex<Vec<String>>>,
    /// The job's `ACTIONS_ID_TOKEN_REQUEST_URL`.
    pub url: String,
}

impl Runner {
    /// The job's `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    pub const REQUEST_TOKEN: &str = "request-token";

    /// Listens for a job with these claims.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub async fn start(issuer: Arc<Issuer>, job: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token?api-version=2.0", listener.local_addr().unwrap());
        let (job, given) = (Arc::new(Mutex::new(job)), Arc::default());
        let runner = Self { issuer, job, given, url };
        let (issuer, job, given) =
            (Arc::clone(&runner.issuer), Arc::clone(&runner.job), Arc::clone(&runner.given));
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut lines = BufReader::new(stream).lines();
                let target = lines.next_line().await.unwrap().unwrap();
                let mut authorized = false;
                while let Some(line) =
                    lines.next_line().await.unwrap().filter(|line| !line.is_empty())
                {
                    authorized |= line == format!("authorization: Bearer {}", Self::REQUEST_TOKEN);
                }
                let audience = target.split("audience=").nth(1).unwrap().split(' ').next().unwrap();
                let audience = audience.replace("%3A", ":").replace("%2F", "/").replace("%23", "#");
                let token = issuer.token(&job.lock().unwrap(), &audience);
                given.lock().unwrap().push(token.clone());
                let (status, body) = match authorized {
                    true => ("200 OK", json!({"count": 1, "value": token}).to_string()),
                    false => ("401 Unauthorized", String::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = lines.into_inner();
                drop(stream.write_all((head + &body).as_bytes()).await);
            }
        });
        runner
    }

    /// From now on, tokens say this about the job.
    ///
    /// # Panics
    ///
    /// If a token is being made by somebody who panicked.
    pub fn become_job(&self, job: Value) {
        *self.job.lock().unwrap() = job;
    }

    /// The token that was given last.
    ///
    /// # Panics
    ///
    /// If there was none.
    #[must_use]
    pub fn last_token(&self) -> String {
        self.given.lock().unwrap().last().unwrap().clone()
    }
}

/// What stands in the blocks `|` of a pipeline's file, in their order: scripts for a shell.
#[must_use]
pub fn scripts(pipeline: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut scripts = Vec::new();
    let mut lines = pipeline.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = line.trim_end().ends_with('|') && !line.trim_start().starts_with('#');
        let Some(first) = lines.peek().filter(|_| opens) else { continue };
        let depth = indent(first);
        let mut script = String::new();
        while let Some(line) = lines.next_if(|line| line.trim().is_empty() || depth <= indent(line))
        {
            script.push_str(line.get(depth..).unwrap_or_default());
            script.push('\n');
        }
        scripts.push(script);
    }
    scripts
}

/// The operator's commands in the comments of a pipeline's file: from `# claviger` to a line that does
/// not end with a backslash.
#[must_use]
pub fn operators_commands(pipeline: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in pipeline.lines().filter_map(|line| line.strip_prefix('#')).map(str::trim) {
        if line.starts_with("claviger ") {
            commands.push(String::new());
            goes_on = true;
        }
        if goes_on {
            let part = line.strip_suffix('\\');
            goes_on = part.is_some();
            commands.last_mut().unwrap().push_str(part.unwrap_or(line));
        }
    }
    commands
}
