//! `claviger`, the one binary: server, agent, and the operator's command line.
//!
//! | to find | look in |
//! |---|---|
//! | what can be typed | [`args`], and each file of [`commands`] for its noun |
//! | server and agent together, to try things out | [`dev`] |
//! | the main job, shown end to end | [`demo`] |
//! | the SPIFFE conformance suite | [`conformance`] |
//! | talking to a server and to an agent | [`admin`], [`workload`], [`connection`] |
//! | where their sockets are | [`socket`] |
//! | SPIRE's spelling of flags | [`spelling`] |
//! | what is printed, and how it ends when it fails | [`console`], [`failure`], [`status`] |
//! | certificates and keys as files | [`pem`], [`files`] |
//! | what a token says | [`jws`] |
//! | credentials for CI jobs | `ci` |
//! | a program with its routes around it | `exec` |

mod admin;
mod args;
#[cfg(feature = "ci")]
mod ci;
mod commands;
mod conformance;
mod connection;
mod console;
#[cfg(all(feature = "server", feature = "agent", feature = "shim"))]
mod demo;
#[cfg(all(feature = "server", feature = "agent"))]
mod dev;
#[cfg(feature = "shim")]
mod exec;
mod failure;
mod files;
mod jws;
mod pem;
#[cfg(any(feature = "server", feature = "agent", feature = "shim"))]
mod run;
mod socket;
mod spelling;
mod status;
mod times;
mod workload;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = match args::Args::try_parse_from(spelling::with_two_hyphens(std::env::args_os())) {
        Ok(args) => args,
        // Help and versions arrive as errors, too; each knows its stream and its exit code.
        Err(usage) => {
            drop(usage.print());
            return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match args.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
