//! `claviger jwt`: tokens for a workload, and what it is given by others.

mod fetch;
mod mint;
mod validate;

use clap::Subcommand;

use crate::console::Console;
use crate::failure::Failure;

/// Fetches and validates JWT-SVIDs, and has the server mint them
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetches JWT-SVIDs for an audience
    #[command(long_about = "Fetches a JWT-SVID of each identity that this very process is \
        entitled to, and prints the tokens, one on each line. Whoever sees a token can use it \
        with its audience until it expires.\n\n\
        Example:\n  claviger jwt fetch --audience spiffe://example.org/db")]
    Fetch(fetch::Fetch),
    /// Asks whether a JWT-SVID is valid for an audience
    #[command(
        long_about = "Asks the agent whether a JWT-SVID is valid for an audience, and prints \
        whose it is and what it claims. The token is read from standard input, or from a file; it \
        is no argument, which every user of the machine could see. If it is not valid, the exit \
        code is 1.\n\n\
        Example:\n  claviger jwt validate --audience spiffe://example.org/db < token"
    )]
    Validate(validate::Validate),
    /// Has the server sign a JWT-SVID for any workload, without an entry
    #[command(long_about = "Has the server sign a JWT-SVID for any workload of its trust domain, \
        without an entry, and prints the token. For operators, on the server's admin socket. \
        Whoever sees the token can use it with its audience until it expires.\n\n\
        Example:\n  claviger jwt mint --spiffe-id spiffe://example.org/web --audience db --ttl 60")]
    Mint(mint::Mint),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Fetch(fetch) => fetch.run(console).await,
            Self::Validate(validate) => validate.run(console).await,
            Self::Mint(mint) => mint.run(console).await,
        }
    }
}
