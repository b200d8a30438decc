//! `claviger ci svid`.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use claviger_attestors::oidc;
use claviger_core::evidence::Binding;
use claviger_core::id::SpiffeId;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Calling;
use crate::ci::call::call;
use crate::ci::github::{self, Handover};
use crate::ci::server::Server;
use crate::ci::token::Tokens;
use crate::console::{self, Console, Format};
use crate::failure::Failure;
use crate::{files, pem, times};

#[derive(Args, Debug)]
pub(crate) struct Svid {
    #[command(flatten)]
    calling: Calling,

    /// Which identity is wanted, if the token earns several
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Gets a JWT-SVID for this audience instead of an X.509-SVID; may be repeated
    #[arg(long, value_name = "AUDIENCE")]
    jwt: Vec<String>,

    /// Writes files into this directory, keys and tokens for the owner only
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    handover: Handover,
}

#[derive(Serialize)]
struct X509Request<'a> {
    csr: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<&'a SpiffeId>,
}

#[derive(Deserialize)]
struct X509Answer {
    spiffe_id: SpiffeId,
    x509_svid: String,
    bundle: String,
    expires_at: u64,
}

#[derive(Serialize)]
struct JwtRequest<'a> {
    audience: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<&'a SpiffeId>,
}

#[derive(Deserialize)]
struct JwtAnswer {
    spiffe_id: SpiffeId,
    jwt_svid: Token,
    expires_at: u64,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Token(String);

/// `{"spiffe_id":"spiffe://…","expires_at":1800000000,"x509_svid":"PEM","x509_svid_key":"PEM",`
/// `"bundle":"PEM"}`, or `{"spiffe_id":…,"expires_at":…,"token":"…"}`.
#[derive(Serialize)]
struct Given {
    spiffe_id: SpiffeId,
    /// Seconds since 1970.
    expires_at: u64,
    #[serde(flatten)]
    credential: Credential,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Credential {
    X509 {
        x509_svid: String,
        #[serde(serialize_with = "in_clear")]
        x509_svid_key: Zeroizing<String>,
        bundle: String,
    },
    Jwt {
        #[serde(serialize_with = "in_clear")]
        token: Zeroizing<String>,
    },
}

impl Svid {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        if self.dir.is_none() && (console.format() != Format::Json || self.handover.is_elsewhere())
        {
            return Err(Failure::usage("an SVID has more than one line")
                .try_this("say where to write files with `--dir`, or use `--output json`"));
        }
        let (server, tokens) = (self.calling.server.open()?, self.calling.token.open()?);
        let given = if self.jwt.is_empty() {
            self.x509(&server, &tokens, console).await?
        } else {
            self.jwt(&server, &tokens, console).await?
        };
        // Before anything else is printed.
        github::mask(given.credential.secret());
        let end = times::show_unsigned(given.expires_at);
        console::remark(format_args!("{} until {end}", given.spiffe_id));
        match &self.dir {
            None => console.answer(&given),
            Some(dir) => self.hand_over(dir, &given, console),
        }
    }

    async fn x509(
        &self,
        server: &Server,
        tokens: &Tokens,
        console: Console,
    ) -> Result<Given, Failure> {
        let failed = |error: rcgen::Error| Failure::because(&error);
        let key = KeyPair::generate().map_err(failed)?;
        let csr = CertificateParams::default().serialize_request(&key).map_err(failed)?;
        let csr = csr.pem().map_err(failed)?;
        let spki = key.subject_public_key_info();
        let binding = server
            .trust_domain()
            .or(self.spiffe_id.as_ref().map(SpiffeId::trust_domain))
            .map(|trust_domain| Binding::new(oidc::KIND, &spki, trust_domain))
            .map(|binding| binding.requesting(self.spiffe_id.clone()));
        if !tokens.can_be_bound() || binding.is_none() {
            console::remark(
                "the token is bound to no key: whoever else sees it could use it first",
            );
        }
        let request = X509Request { csr: &csr, spiffe_id: self.spiffe_id.as_ref() };
        let body = serde_json::to_string(&request).map_err(|error| Failure::because(&error))?;
        let path = ("/v1/svid/x509", body.as_str());
        let asking = call(server, tokens, binding.as_ref(), path, self.calling.patience);
        let answer = console.watch("asking the server", asking).await?;
        let answer = serde_json::from_slice(&answer).map_err(|_no_svid| no_answer())?;
        let X509Answer { spiffe_id, x509_svid, bundle, expires_at } = answer;
        let key = Zeroizing::new(key.serialize_der());
        let x509_svid_key = pem::private_key(&key);
        let credential = Credential::X509 { x509_svid, x509_svid_key, bundle };
        self.check(Given { spiffe_id, expires_at, credential })
    }

    async fn jwt(
        &self,
        server: &Server,
        tokens: &Tokens,
        console: Console,
    ) -> Result<Given, Failure> {
        let request = JwtRequest { audience: &self.jwt, spiffe_id: self.spiffe_id.as_ref() };
        let body = serde_json::to_string(&request).map_err(|error| Failure::because(&error))?;
        let path = ("/v1/svid/jwt", body.as_str());
        let asking = call(server, tokens, None, path, self.calling.patience);
        let answer = console.watch("asking the server", asking).await?;
        let answer = serde_json::from_slice(&answer).map_err(|_may_be_secret| no_answer())?;
        let JwtAnswer { spiffe_id, mut jwt_svid, expires_at } = answer;
        let token = Zeroizing::new(std::mem::take(&mut jwt_svid.0));
        self.check(Given { spiffe_id, expires_at, credential: Credential::Jwt { token } })
    }

    fn check(&self, given: Given) -> Result<Given, Failure> {
        if self.spiffe_id.as_ref().is_some_and(|wanted| *wanted != given.spiffe_id) {
            return Err(Failure::failed("the server's answer is for another identity"));
        }
        Ok(given)
    }

    fn hand_over(&self, dir: &PathBuf, given: &Given, console: Console) -> Result<(), Failure> {
        fs::create_dir_all(dir).map_err(|error| {
            Failure::failed(format_args!("cannot make the directory `{}`: {error}", dir.display()))
        })?;
        let (id, end) = (given.spiffe_id.to_string(), given.expires_at.to_string());
        let mut variables = vec![("CLAVIGER_SPIFFE_ID", id), ("CLAVIGER_SVID_EXPIRES_AT", end)];
        // The key goes first: who reads a new certificate finds its key.
        for (name, file, content, mode) in given.credential.files() {
            let path = dir.join(file);
            files::replace(&path, content.as_bytes(), mode)?;
            variables.push((name, path.display().to_string()));
        }
        if console.format() == Format::Json && !self.handover.is_elsewhere() {
            return console.answer(given);
        }
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.handover.give(&variables)
    }
}

impl Credential {
    fn secret(&self) -> &str {
        match self {
            Self::X509 { x509_svid_key, .. } => x509_svid_key,
            Self::Jwt { token } => token,
        }
    }

    /// What is written: the variable that names the file, the file, what is in it and its mode.
    fn files(&self) -> Vec<(&'static str, &'static str, &str, u32)> {
        match self {
            Self::X509 { x509_svid, x509_svid_key, bundle } => vec![
                ("CLAVIGER_SVID_KEY", "svid.key", x509_svid_key.as_str(), files::SECRET),
                ("CLAVIGER_SVID_CERT", "svid.pem", x509_svid, files::PUBLIC),
                ("CLAVIGER_SVID_BUNDLE", "bundle.pem", bundle, files::PUBLIC),
            ],
            Self::Jwt { token } => {
                vec![("CLAVIGER_JWT_SVID_FILE", "svid.jwt", token.as_str(), files::SECRET)]
            }
        }
    }
}

fn no_answer() -> Failure {
    Failure::failed("what the server answers is not an SVID")
        .try_this("is this a Claviger server, and of this version?")
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.spiffe_id)
    }
}

/// This command is there to give the secret away.
fn in_clear<S: Serializer>(secret: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret)
}
