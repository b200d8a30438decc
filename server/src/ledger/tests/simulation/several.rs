//! Two or three servers at a time over one store. Each lives, is cut off from the store for a while, crashes or
//! stops, and begins again; clients ask whichever is there. In the end all of them are asked about each other's
//! keys.

use claviger_runtime::tasks::Drain;
use futures_util::future::{join_all, select};
use tokio::time::{sleep, timeout};

use super::super::*;
use super::client;
use super::store::{Flaky, Line};
use super::world::{CLIENTS, Counts, World, new_runtime};
use crate::storage::directory::{ClaimError, DataDirectory};
use crate::storage::fixture::dice::Dice;

/// How long a world lasts.
const LASTS: Duration = Duration::from_secs(120);

/// Runs all of `world`.
pub(super) fn run(mut world: World) -> Counts {
    let count = 2 + world.dice.below(2);
    world.servers.replace(vec![None; count]);
    for number in 0..count {
        std::fs::create_dir(world.dir.path().join(number.to_string())).unwrap();
    }
    let mut seeds = || world.dice.roll();
    let (servers, clients): (Vec<_>, Vec<_>) =
        ((0..count).map(|_| seeds()).collect(), (0..2 * CLIENTS).map(|_| seeds()).collect());
    let runtime = new_runtime();
    runtime.block_on(async {
        let servers = servers.into_iter().enumerate().map(|(at, seed)| lives(&world, at, seed));
        let clients = join_all(clients.into_iter().map(|seed| client::run(&world, seed)));
        let all = select(Box::pin(join_all(servers)), Box::pin(clients));
        drop(timeout(LASTS, all).await);
    });
    world.servers.replace(vec![None; count]);
    // Whatever still runs crashes now.
    drop(runtime);
    let runtime = new_runtime();
    if let Err(broken) = runtime.block_on(finale(&mut world, count)) {
        world.fail(&broken);
    }
    runtime.block_on(audit::check::check_all(&*world.store)).unwrap();
    world.shared.into_inner().counts
}

/// A server that has begun, and its line to the store.
async fn begin(world: &World, at: usize, dice: Dice) -> (Life, Arc<Flaky>) {
    let store = Arc::new(Flaky::over(Arc::new(world.store.join()), dice, true));
    let dir = world.dir.path().join(at.to_string());
    // Who still waits for an answer of the one before has a handle to its directory.
    while matches!(DataDirectory::claim(&dir), Err(ClaimError::InUse { .. })) {
        sleep(Duration::from_millis(100)).await;
    }
    let shared = Arc::<Flaky>::clone(&store);
    let life = match Life::shared(shared, &dir, &world.clock).await {
        Ok(life) => life,
        Err(error) => world.fail(&format!("server {at} cannot be opened: {error:?}")),
    };
    let (mut listener, storage) = (life.storage.journal.listen(), life.storage.clone());
    life.tasks.spawn("other servers", |stop| async move {
        while let Some(group) = stop.run_until_cancelled(listener.next()).await {
            let Some(group) = group? else { return Ok(()) };
            storage.take_in(&group).await?;
            listener.taken_in();
        }
        Ok(())
    });
    let number = life.storage.epochs.current().number;
    world.note(format!("server {at} begins in epoch {number}"));
    world.epoch_is(number);
    (life, store)
}

/// The lives of one server, one after the other, without end.
async fn lives(world: &World, at: usize, seed: u64) {
    let mut dice = Dice::new(seed);
    loop {
        let (life, store) = begin(world, at, Dice::new(dice.roll())).await;
        store.fail(*dice.one(&[0, 0, 6, 30]));
        world.servers.borrow_mut()[at] = Some(life.storage.clone());
        let lasts = Duration::from_millis(200 + dice.roll() % 30_000);
        // It may end by itself, when its store fails.
        let ended = life.tasks.token();
        let going =
            select(Box::pin(ended.cancelled()), Box::pin(cuts(world, at, &store, &mut dice)));
        drop(timeout(lasts, going).await);
        world.servers.borrow_mut()[at] = None;
        let crashes = dice.is(60) || life.tasks.token().is_cancelled();
        world.note(format!("server {at} {}", if crashes { "crashes" } else { "stops" }));
        store.line_is(if crashes { Line::Dead } else { Line::Up });
        store.fail(0);
        {
            let counts = &mut world.shared.borrow_mut().counts;
            counts.crashes += usize::from(crashes);
            counts.stops += usize::from(!crashes);
        }
        let ended = life.ended().await;
        if ended != Drain::Clean {
            world.fail(&format!("server {at} does not stop: {ended:?}"));
        }
        sleep(Duration::from_millis(dice.roll() % 3_000)).await;
    }
}

/// The line is cut now and then, and mended.
async fn cuts(world: &World, at: usize, store: &Flaky, dice: &mut Dice) {
    loop {
        sleep(Duration::from_millis(dice.roll() % 8_000)).await;
        world.note(format!("server {at} is cut off"));
        world.shared.borrow_mut().counts.cuts += 1;
        store.line_is(Line::Cut);
        sleep(Duration::from_millis(dice.roll() % 12_000)).await;
        world.note(format!("server {at} is back"));
        store.line_is(Line::Up);
    }
}

/// Everybody is there. What any of them mints, any other redeems, once; and the log says what was told.
async fn finale(world: &mut World, count: usize) -> Result<(), String> {
    let mut lives = Vec::new();
    for at in 0..count {
        let dice = Dice::new(world.dice.roll());
        lives.push(begin(world, at, dice).await.0);
    }
    for (from, minting) in lives.iter().enumerate() {
        let ledger = &minting.storage.ledger;
        let binding = binding(ledger.now().as_secs() - NOW + 60);
        let minted = ledger.mint(issue(binding.clone()), Met::nothing()).await;
        let minted = minted.map_err(|error| format!("server {from} mints nothing: {error}"))?;
        for (at, asked) in lives.iter().enumerate() {
            let attempt = AttemptId::from_bytes([u8::from(at != 0); 16]);
            let ledger = &asked.storage.ledger;
            let answer = async {
                let found = ledger.find(minted.identity).await?;
                let grant = redemption(binding.clone(), PskProof::IdentityOnly);
                ledger.redeem(found, grant, attempt).await
            };
            let said = match answer.await {
                Ok(redeemed) if redeemed.base.0.ct_eq(&minted.base.0) => "yes",
                Ok(_) => "another key",
                Err(Refused::Replayed) => "no",
                Err(refused) => refused.reason(),
            };
            // The first one has it, whichever server minted it; all others are told so everywhere.
            if said != if at == 0 { "yes" } else { "no" } {
                return Err(format!("a key of server {from} at server {at}: {said}"));
            }
        }
    }
    world.judge(&lives[0].storage).await?;
    for (at, life) in lives.into_iter().enumerate() {
        match life.ended().await {
            Drain::Clean => {}
            forced @ Drain::Forced { .. } => {
                return Err(format!("server {at} does not stop: {forced:?}"));
            }
        }
    }
    Ok(())
}
