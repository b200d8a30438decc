//! How a server and its agent bear load: how much they can do, a soak at 80 % of that in which the server
//! stands still for a moment, ten times as much for a while, and what is left of it afterwards.
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
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use clients::{Clients, Outcomes};
use footprint::Footprint;

const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

/// As many ask at a time while the capacity is measured.
const MEASURED_WITH: usize = 32;

/// How many times the capacity a flood asks for.
const FLOOD: f64 = 10.0;

/// How long somebody tries who was refused in the soak.
const PATIENCE: Duration = Duration::from_secs(30);

/// For so long the server stands still in the middle of the soak: what has piled up then is to be worked off,
/// and not to pile up further.
const HICCUP: Duration = Duration::from_secs(2);

/// How often a soak is tried.
const ATTEMPTS: u32 = 3;

/// So many requests at a time that the flood meets the limit, and rates beyond what any machine can do.
const LIMITS: &str = "[limits]\nrequests = 128\n\
                      [limits.rates]\nall = 1000000\ncaller = 1000000\nidentity = 1000000\n";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let long = std::env::args().any(|arg| arg == "--long");
    let (span, flood) = if long { (1_800, 60) } else { (40, 15) };
    let (span, flood) = (Duration::from_secs(span), Duration::from_secs(flood));
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
    let capacity = capacity_of(&clients).await;
    println!("capacity: {capacity}");
    verdicts.enter("nothing is refused below the limits", capacity.all_well());

    let (soaked, prints, now) = soak(&clients, &deployment, span, &capacity).await;
    verdicts.enter("a soak at 80 % of capacity fails nobody", soaked.all_well());
    for (name, print) in ["server", "agent"].into_iter().zip(&prints) {
        println!("{name}: {print}");
        let kept = if long { 0 } else { soaked.done() / 3 };
        verdicts.enter(&format!("the {name}'s memory stays flat"), print.memory_is_flat(kept));
        verdicts
            .enter(&format!("the {name}'s descriptors stay flat"), print.descriptors_are_flat());
    }

    let rate = FLOOD * now.per_second();
    let flooded = clients.at_rate(rate, flood, Duration::ZERO).await;
    println!(
        "flood of {} s at {rate:.0} a second ({FLOOD} times the capacity): {flooded}",
        flood.as_secs()
    );
    verdicts.enter("some of a flood is refused", flooded.refused() > 0);
    verdicts.enter("and nobody otherwise than with a word to come back", flooded.only_refused());
    verdicts.enter("who is refused learns it within two seconds", flooded.refusals_are_fast());
    verdicts.enter("redemptions succeed before issuing does", flooded.redemptions_go_first());

    sleep(Duration::from_secs(2)).await;
    let after = capacity_of(&clients).await;
    println!("afterwards: {after}");
    // The machine's own speed is not the same all the time.
    let served = flooded.per_second() / now.per_second().min(after.per_second());
    let named = format!("a third of the capacity was still served ({served:.2})");
    verdicts.enter(&named, 0.33 <= served);
    verdicts.enter("afterwards nobody is refused", after.all_well());
    let again = after.per_second() / capacity.per_second();
    verdicts.enter(&format!("and the capacity is there again ({again:.2})"), 0.5 <= again);
    verdicts.finish()
}

/// How much can be done just now.
async fn capacity_of(clients: &Clients) -> Outcomes {
    clients.as_fast_as_possible(MEASURED_WITH, Duration::from_secs(6)).await
}

/// Asks for so long for 80 % of the `capacity`: what came of it, how much the server and the agent took, and
/// what the capacity is then.
///
/// A machine that has others on it may become slower meanwhile. Then that was more than 80 %, which says
/// nothing, so it is done again; what has become slower itself has it happen again, and is found out.
async fn soak(
    clients: &Clients,
    deployment: &Deployment,
    span: Duration,
    capacity: &Outcomes,
) -> (Outcomes, [Footprint; 2], Outcomes) {
    let mut before = capacity.per_second();
    let watched = [deployment.server_pid(), deployment.agent_pid()];
    let mut more = ATTEMPTS;
    loop {
        more -= 1;
        let rate = before * 0.8;
        let (soaked, prints, ()) = tokio::join!(
            clients.at_rate(rate, span, PATIENCE),
            Footprint::watch(watched, span),
            hiccup(deployment.server_pid(), span / 4),
        );
        println!("soak of {} s at {rate:.0} a second (80 %): {soaked}", span.as_secs());
        let now = capacity_of(clients).await;
        if soaked.all_well() || more == 0 || before * 0.9 <= now.per_second() {
            return (soaked, prints, now);
        }
        before = now.per_second();
        println!("  capacity has fallen to {before:.0} a second meanwhile: once more");
    }
}

/// Has a process stand still for a moment, after so long.
async fn hiccup(pid: u32, after: Duration) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    sleep(after).await;
    kill_process(pid, Signal::STOP).unwrap();
    sleep(HICCUP).await;
    kill_process(pid, Signal::CONT).unwrap();
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
