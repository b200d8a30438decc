//! `claviger policy`: what policies say, before they are in force.

mod authorize;
mod check;
mod diff;
mod explain;
mod graph;
mod known;
mod reload;
mod status;
mod suggest;
mod svg;
mod test;

use std::path::Path;

use clap::Subcommand;
use claviger_policy::{PolicySet, Source};

use crate::console::Console;
use crate::failure::Failure;

/// Checks, tests, compares and explains policies in a folder
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compiles policies, and proves that the invariants beside them hold
    #[command(
        long_about = "Compiles the policies in a folder as a server would, and proves that what \
        its `invariants.toml` says holds of them: for every identity that is registered or named \
        there, for whoever else there may be, for every purpose, and in any circumstances (risk, \
        time, evidence, transport). An invariant that does not hold is shown by a question that \
        the policies permit; one that can't be shown to hold, and not to fail either, fails, too.\n\n\
        An invariant has a name and one of\n\n  \
        never      = { from = '…', to = '…' }             nobody of these reaches any of those\n  \
        never-both = { targets = ['…', '…'] }             nobody reaches two of these\n  \
        only       = { from = ['…'], to = '…' }           nobody else reaches any of those\n  \
        always     = { from = '…', to = '…', purpose = '…' }  each of these reaches each of those\n  \
        at-most    = { from = '…', services = 3 }         nobody of these reaches more\n\n\
        where from, to and targets are a SPIFFE ID, one that ends in `/*`, `Group::\"name\"`, \
        `stage = \"build\"` (or owner, tenant, ring, purposes, data_scopes), `tool:NAME`, `*`, or \
        a list of them.\n\n\
        Exit codes: 0 everything holds, 1 policies are wrong or an invariant does not hold.\n\n\
        Example:\n  claviger policy check /etc/claviger/policies\n  \
        claviger policy check /etc/claviger/policies --live"
    )]
    Check(check::Check),
    /// Decides the cases of every `*.test.toml`, and compares
    #[command(
        long_about = "Decides the cases of every `*.test.toml` in a folder, and compares. A case \
        is\n\n  \
        [[case]]\n  \
        name = \"the ranker reads features\"\n  \
        principal = \"spiffe://example.org/rank\"\n  \
        action = \"connect\"\n  \
        resource = \"spiffe://example.org/features\"\n  \
        purpose = \"rank\"\n  \
        context = { risk = 10, tier = \"affirming\" }\n  \
        expect = \"permit\"                 # or deny, observe\n  \
        because = \"rag.cedar#rank-reads\"   # if it matters which policy\n\n\
        The context may hold risk, tier, selectors, resource = { risk, tier, selectors }, time \
        (seconds since 1970), requester, evidence = { kind, bond, tier, age_seconds }, transport = \
        { tls, group, post_quantum }, parameters, ttl_seconds, audience, dns_names and run.\n\n\
        Exit codes: 0 all cases passed, 1 one failed or there is none.\n\n\
        Example:\n  claviger policy test examples/policies/rag-pipeline"
    )]
    Test(test::Test),
    /// Shows which paths one set of policies has and another has not
    #[command(
        long_about = "Shows who reaches whom, or which tool, for which purpose, by one set of \
        policies and not by another. `*` stands for any purpose that neither speaks of.\n\n\
        Exit codes: 0 they are the same, 1 they differ, 2 one of them is wrong.\n\n\
        Example:\n  claviger policy diff /etc/claviger/policies new-policies"
    )]
    Diff(diff::Diff),
    /// Draws who reaches whom, or says how many services each reaches
    #[command(long_about = "Draws who reaches whom, for which purpose and how: by certificates \
        (connect), by one-time keys (psk), by calling a tool (call). Identities that no policy can \
        tell apart are one node. A dashed edge could not be ruled out, and no question was found \
        that is permitted. With --against, edges that other policies do not have are green.\n\n\
        With --blast, a table says how many services each identity reaches: what is in danger if it \
        falls into wrong hands.\n\n\
        Example:\n  claviger policy graph examples/policies/rag-pipeline --format svg --write rag.svg\n  \
        claviger policy graph examples/policies/rag-pipeline --blast")]
    Graph(graph::Graph),
    /// Decides one question, and says what would have to change for a permit
    #[command(
        long_about = "Decides one question, shows the policies that made it so, and, of a denial, \
        the smallest change by which it would be permitted: of the question, of what is registered, \
        a policy less, and, if nothing else helps, a policy more. What is shown was proved by \
        asking again.\n\n\
        Exit codes: 0 permitted or observed, 1 denied.\n\n\
        Example:\n  claviger policy explain examples/policies/rag-pipeline \\\n    \
        --principal spiffe://example.org/rag/evaluate --action connect \\\n    \
        --resource spiffe://example.org/rag/features --purpose write"
    )]
    Explain(Box<explain::Explain>),
    /// Asks the agent on this machine for a decision, as this process
    #[command(
        long_about = "Asks the agent on this machine, as this process, whether it may connect to \
        somebody, may be connected to, or may call a tool. The agent decides by the policies that \
        its server signed, whether or not the server is there.\n\n\
        Exit codes: 0 permitted or observed, 1 denied, or nothing is decided.\n\n\
        Example:\n  claviger policy authorize --resource spiffe://example.org/db --purpose query\n  \
        claviger policy authorize --action call:execute_trade --purpose rebalance \\\n    \
        --parameters '{\"amount\": 5}'"
    )]
    Authorize(authorize::Authorize),
    /// Says which policies are in force, and whether they are those in the server's folder
    #[command(
        long_about = "Says which policies a server has in force, since when, and, if those in its \
        folder are wrong, why it stays with the old ones.\n\n\
        Exit codes: 0 what lies in the folder is in force, 1 it is refused.\n\n\
        Example:\n  claviger policy status"
    )]
    Status(status::Status),
    /// Makes the server read its policy folder again, now
    #[command(
        long_about = "Makes the server read its policy folder again, now. It does so by itself when \
        something changes in the folder; this is for folders whose changes the kernel does not \
        tell of, such as network file systems, and for scripts that want to know the outcome.\n\n\
        Exit codes: 0 what lies in the folder is in force, 1 it is refused.\n\n\
        Example:\n  claviger policy reload"
    )]
    Reload(reload::Reload),
    /// Proposes policies for what was denied or only observed
    #[command(
        long_about = "Proposes the fewest policies for what the audit log says was denied or only \
        observed, and holds them against the record. Nothing is proposed that a policy forbids, nor \
        for an identity in quarantine. What is printed is Cedar: read it, and keep what you mean.\n\n\
        Example:\n  claviger policy suggest /etc/claviger/policies > suggested.cedar"
    )]
    Suggest(suggest::Suggest),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run(console).await,
            Self::Test(test) => test.run(console),
            Self::Diff(diff) => diff.run(console).await,
            Self::Graph(graph) => graph.run(console).await,
            Self::Explain(explain) => explain.run(console),
            Self::Authorize(authorize) => authorize.run(console).await,
            Self::Status(status) => status.run(console).await,
            Self::Reload(reload) => reload.run(console).await,
            Self::Suggest(suggest) => Box::pin(suggest.run(console)).await,
        }
    }
}

/// The policies in a folder.
fn compile(dir: &Path) -> Result<PolicySet, Failure> {
    Source::read(dir).and_then(PolicySet::compile).map_err(|error| Failure::because(&error))
}
