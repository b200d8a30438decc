//! How a server and its agent bear load: how much they can do, a soak at 80 % of that, ten times as much
//! for a while, and what is left of it afterwards.
//!
//! `tests/fault/load/run` runs it. One unit of work is what a connection takes: a one-time key is issued and
//! redeemed, both durably.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and prints what it found"
)]

mod clients;
mod footprint;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use claviger_tests::process::{Claviger, Deployment, my_uid};

use clients::Clients;
use footprint::Footprint;

const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

/// As many ask at a time while the capacity is measured.
const MEASURED_WITH: usize = 32;

/// How many times the capacity a flood asks for.
const FLOOD: f64 = 10.0;

/// How long somebody tries who was refused in the soak.
const PATIENCE: Duration = Duration::from_secs(10);

/// So low that the flood meets it.
const LIMITS: &str = "[limits]\nrequests = 128\n";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let long = std::env::args().any(|arg| arg == "--long");
    let (soak, flood) = if long { (1_800, 60) } else { (40, 15) };
    claviger_runtime::descriptors::raise_limit().unwrap();
    let claviger = Claviger::at(binary());
    let deployment = Deployment::start_configured(&claviger, &claviger, LIMITS).await;
    for id in [CLIENT, SERVER] {
        let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        deployment.admin(&args).await;
    }
    let clients = Clients::of(&deployment.agent_socket());
    let mut verdicts = Verdicts::default();

    let warm = clients.as_fast_as_possible(MEASURED_WITH, Duration::from_secs(3)).await;
    assert_eq!(warm.failed(), 0, "{warm}");
    let capacity = clients.as_fast_as_possible(MEASURED_WITH, Duration::from_secs(6)).await;
    println!("capacity: {capacity}");
    verdicts.enter("nothing is refused below the limits", capacity.all_well());

    let rate = capacity.per_second() * 0.8;
    let watched = [deployment.server_pid(), deployment.agent_pid()];
    let (soaked, prints) = tokio::join!(
        clients.at_rate(rate, Duration::from_secs(soak), PATIENCE),
        Footprint::watch(watched, Duration::from_secs(soak)),
    );
    println!("soak of {soak} s at {rate:.0} a second (80 %): {soaked}");
    verdicts.enter("a soak at 80 % of capacity fails nobody", soaked.all_well());
    for (name, print) in ["server", "agent"].into_iter().zip(&prints) {
        println!("{name}: {print}");
        let kept = if long { 0 } else { soaked.done() / 3 };
        verdicts.enter(&format!("the {name}'s memory stays flat"), print.memory_is_flat(kept));
        verdicts
            .enter(&format!("the {name}'s descriptors stay flat"), print.descriptors_are_flat());
    }

    let rate = FLOOD * capacity.per_second();
    let flooded = clients.at_rate(rate, Duration::from_secs(flood), Duration::ZERO).await;
    println!("flood of {flood} s at {rate:.0} a second ({FLOOD} times the capacity): {flooded}");
    verdicts.enter("some of a flood is refused", flooded.refused() > 0);
    verdicts.enter("and nobody otherwise than with a word to come back", flooded.only_refused());
    verdicts.enter("who is refused learns it within two seconds", flooded.refusals_are_fast());
    let served = flooded.per_second() / capacity.per_second();
    verdicts
        .enter(&format!("a third of the capacity is still served ({served:.2})"), 0.33 <= served);
    verdicts.enter("redemptions succeed before issuing does", flooded.redemptions_go_first());

    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = clients.as_fast_as_possible(MEASURED_WITH, Duration::from_secs(6)).await;
    println!("afterwards: {after}");
    verdicts.enter("afterwards nobody is refused", after.all_well());
    let again = after.per_second() / capacity.per_second();
    verdicts.enter(&format!("and the capacity is there again ({again:.2})"), 0.5 <= again);
    verdicts.finish()
}

/// The binary that `CLAVIGER` names, or the one that was built beside this program.
fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the one setting of a suite")]
    let named = std::env::var("CLAVIGER").map(PathBuf::from);
    named.unwrap_or_else(|_unset| {
        let deps = std::env::current_exe().unwrap();
        deps.ancestors().nth(2).unwrap().join("claviger")
    })
}

/// What held, and what did not.
#[derive(Debug, Default)]
struct Verdicts {
    passed: usize,
    failed: usize,
}

impl Verdicts {
    fn enter(&mut self, what: &str, holds: bool) {
        println!("  {}  {what}", if holds { "ok   " } else { "FAIL " });
        *(if holds { &mut self.passed } else { &mut self.failed }) += 1;
    }

    fn finish(self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
