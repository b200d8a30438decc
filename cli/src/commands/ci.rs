//! `claviger ci`: credentials for jobs without an agent beside them.

#[cfg(feature = "shim")]
mod exec;
mod psk;
mod svid;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::ci::server::ServerArgs;
use crate::ci::token::TokenArgs;
use crate::console::Console;
use crate::failure::Failure;

/// Gets credentials for a CI job, in one call and without an agent
#[derive(Debug, Subcommand)]
#[command(after_long_help = "What the server needs: docs/direct-attestation.md. Ready-made \
    pipelines: examples/ci.")]
pub(crate) enum Command {
    /// Gets a one-time key that works in this run of the job only
    #[command(
        long_about = "Gets a TLS 1.3 pre-shared key for one connection to one server, for the \
        OIDC token of this job. The key is bound to this run and attempt: the server that is called \
        knows which, and no other run can use it.\n\n\
        Prints NAME=VALUE lines (CLAVIGER_PSK_IDENTITY, CLAVIGER_PSK, …); one JSON document with \
        `--output json`; with --dir, the key goes to a file and its name is printed. In GitHub \
        Actions, logs are told to hide the key before anything is printed.\n\n\
        Example:\n  claviger ci psk --server https://claviger.example.org:8443 --bundle bundle.pem \\\n    \
        --audience https://claviger.example.org \\\n    \
        --peer spiffe://example.org/artifacts --purpose upload --github-env\n  \
        openssl s_client -connect artifacts:8443 -tls1_3 \\\n    \
        -psk_identity \"$CLAVIGER_PSK_IDENTITY\" -psk \"$CLAVIGER_PSK\""
    )]
    Psk(psk::Psk),
    #[cfg(feature = "shim")]
    /// Runs a program whose connections go out with one-time keys of this run
    #[command(
        long_about = "Opens routes, runs a program that knows nothing of them, and ends when it does, \
        with its exit code. Each connection gets a key of its own, bound to this run and attempt, for \
        an OIDC token of this job. In GitHub Actions there are as many as it takes; where a job has one \
        token, as in GitLab, there is one connection. Only the program, and what comes from it, may use \
        the routes.\n\n\
        Routes are written as for `claviger exec`, in mode `psk`. Exit codes: the program's own, or 128 \
        and the number of the signal that ended it; 125 if there is no way for a route, 126 if the \
        program cannot be run, 127 if it is not there.\n\n\
        Example:\n  claviger ci exec --server https://claviger.example.org:8443 --bundle bundle.pem \\\n    \
        --audience https://claviger.example.org \\\n    \
        --route name=artifacts,listen=127.0.0.1:8000,to=artifacts:8443,\\\n\
        peer=spiffe://example.org/artifacts,mode=psk,purpose=upload \\\n    \
        -- curl -T app.txt http://127.0.0.1:8000/app.txt"
    )]
    Exec(exec::Command),
    /// Gets an SVID for this job
    #[command(
        long_about = "Makes a key and gets an X.509-SVID for it, or gets a JWT-SVID, for the \
        OIDC token of this job. Where GitHub makes the token, it is bound to the key: whoever steals \
        it can't use it.\n\n\
        With --dir, an X.509-SVID goes to the files svid.pem, svid.key and bundle.pem, and a JWT-SVID \
        to svid.jwt; NAME=VALUE lines say where they are. With `--output json`, everything is in one \
        JSON document.\n\n\
        Example:\n  claviger ci svid --server https://claviger.example.org:8443 --bundle bundle.pem \\\n    \
        --audience https://claviger.example.org --dir \"$RUNNER_TEMP/svid\"\n  \
        curl --cert svid/svid.pem --key svid/svid.key --cacert ca.pem https://registry.example.org"
    )]
    Svid(svid::Svid),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            #[cfg(feature = "shim")]
            Self::Exec(exec) => Box::pin(exec.run()).await,
            Self::Psk(psk) => psk.run(console).await,
            Self::Svid(svid) => svid.run(console).await,
        }
    }
}

/// What every call needs.
#[derive(Args, Debug)]
struct Calling {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    token: TokenArgs,

    /// For how long to try again while the server, or the issuer's keys, are away
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = patience)]
    patience: Duration,
}

fn patience(text: &str) -> Result<Duration, String> {
    const MOST: u64 = 600;
    match text.parse() {
        Ok(secs @ 0..=MOST) => Ok(Duration::from_secs(secs)),
        Ok(_) | Err(_) => Err(format!("write a number of seconds up to {MOST}")),
    }
}
