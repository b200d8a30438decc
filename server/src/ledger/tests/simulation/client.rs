//! A client, an acceptor, an operator: whoever asks, and what they may be told.

use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::SeriesEpoch;
use tokio::time::sleep;

use super::super::*;
use super::world::{Held, World, network, wanted};
use crate::ledger::model::key::{Expect, Key, State};
use crate::standings::Change as How;
use crate::storage::Storage;
use crate::storage::fixture::dice::Dice;

/// How much one client does in one life.
const DEEDS: usize = 14;

pub(super) async fn run(world: &World, seed: u64) {
    let mut dice = Dice::new(seed);
    for _deed in 0..DEEDS {
        network(&mut dice).await;
        let Some((at, storage)) = world.any_server(&mut dice) else { continue };
        let storage = &storage;
        match dice.below(100) {
            0..=29 => mint(world, (at, storage), &mut dice).await,
            30..=89 => redeem(world, (at, storage), &mut dice).await,
            90..=91 => quarantine(world, storage, &mut dice).await,
            92..=95 => {
                let seconds = dice.roll() % 90;
                world.note(format!("{seconds} seconds pass"));
                world.clock.advance(seconds);
            }
            // The clocks of several servers agree.
            96 if world.has_several() => {}
            96 => {
                let seconds = dice.roll() % 200;
                world.note(format!("the clock is set back by {seconds} seconds"));
                let now = claviger_core::time::Clock::now(&*world.clock).as_secs();
                world.clock.set(now - seconds);
            }
            // Long enough for whoever looks at the clock from time to time.
            97..=98 => sleep(Duration::from_secs(16)).await,
            _ => fence(world, storage).await,
        }
    }
}

async fn mint(world: &World, (at, storage): (usize, &Storage), dice: &mut Dice) {
    let (now, newest) = (storage.ledger.now().as_secs(), world.shared.borrow().newest);
    let ttl = now - NOW + 1 + dice.roll() % 300;
    let binding = wanted(dice, ttl, newest);
    let epoch = storage.epochs.current().number;
    let who = number_of(&binding.client);
    let changes = who.map(|who| world.shared.borrow().changes[who]);
    let series = binding.series.as_ref().map(|series| series.epoch.get());
    if let Some(series) = series {
        doubt(world, |held| series_of(held).is_some_and(|of| of < series));
        let mut shared = world.shared.borrow_mut();
        shared.newest_asked = shared.newest_asked.max(series);
    }
    let in_quarantine = || {
        storage.standings.of(&binding.client).quarantined
            || who.is_some_and(|who| world.shared.borrow().quarantined[who])
    };
    let was_in = in_quarantine();
    let minted = storage.ledger.mint(issue(binding.clone()), Met::nothing()).await;
    let same_epoch = storage.epochs.current().number == epoch;
    let is_in = in_quarantine();
    let mut shared = world.shared.borrow_mut();
    if let Some(series) = series
        && minted.is_ok()
    {
        if series < newest && same_epoch {
            drop(shared);
            world.fail(&format!("a key of epoch {series} of the series after {newest}"));
        }
        shared.newest = shared.newest.max(series);
        let earlier = |held: &&mut Held| series_of(held).is_some_and(|of| of < series);
        shared.keys.iter_mut().filter(earlier).for_each(|held| held.model.superseded());
    }
    let Ok(minted) = minted else { return };
    // Of a client whose standing changes meanwhile, the key may be void from its beginning.
    let quiet = changes == who.map(|who| shared.changes[who])
        && changes.is_none_or(|(asked, answered)| asked == answered)
        && !was_in
        && !is_in;
    if !quiet || !same_epoch {
        return;
    }
    let number = shared.keys.len();
    shared
        .history
        .push(format!("server {at}: key {number} is minted, for {ttl} seconds from the beginning"));
    let mut model = Key::minted();
    if series.is_some_and(|series| series < shared.newest) {
        model.superseded();
    }
    // A server that has not heard of a change may mint what is void from its beginning.
    let unheard = world.has_several() && changes.is_some_and(|(asked, _)| asked > 0);
    model.in_doubt = unheard || series.is_some_and(|series| series < shared.newest_asked);
    let held = Held { at, minted, binding, epoch, model, winner: None, replayed: false };
    shared.keys.push(held);
}

async fn redeem(world: &World, (at, storage): (usize, &Storage), dice: &mut Dice) {
    let count = world.shared.borrow().keys.len();
    if count == 0 {
        return;
    }
    // The newest are asked for most.
    let number = if dice.is(70) { count - 1 - dice.below(count.min(4)) } else { dice.below(count) };
    let attempt = u8::try_from(dice.below(3)).unwrap();
    let good = dice.is(92);
    let times = if dice.is(15) { 2 } else { 1 };
    // What comes twice may come to two servers.
    let mut doors = vec![(at, storage.clone())];
    doors.extend((1..times).filter_map(|_| world.any_server(dice)));
    let asking = doors.iter().map(|door| ask(world, door, (number, attempt, good)));
    futures_util::future::join_all(asking).await;
    network(dice).await;
}

/// What a request shows, and what is known of the key before.
fn show(
    world: &World,
    (number, attempt, good): (usize, u8, bool),
) -> (WireIdentity, PskBinding, PskProof, Key) {
    let mut shared = world.shared.borrow_mut();
    let held = &mut shared.keys[number];
    let transcript = [7; 32];
    let right = binder::compute(&held.minted.base.psk(&held.binding), &transcript);
    let proof = PskProof::Binder { transcript, binder: if good { right } else { [0; 32] } };
    let before = held.model.clone();
    if good {
        held.model.asked(attempt);
    }
    (held.minted.identity, held.binding.clone(), proof, before)
}

/// One request, and whether the answer to it can be.
async fn ask(
    world: &World,
    (at, storage): &(usize, Storage),
    (number, attempt, good): (usize, u8, bool),
) {
    world.epoch_is(storage.epochs.current().number);
    let (identity, binding, proof, before) = show(world, (number, attempt, good));
    let has_expired = binding.not_after < storage.ledger.now();
    let epoch = storage.epochs.current().number;
    let answer = async {
        let found = storage.ledger.find(identity).await?;
        let grant = redemption(binding.clone(), proof);
        storage.ledger.redeem(found, grant, AttemptId::from_bytes([attempt; 16])).await
    };
    let answer = answer.await;
    let may = if good && !has_expired { before.expects(attempt) } else { Expect::No };
    let said = match &answer {
        Ok(_) => "yes".to_owned(),
        Err(refused) => refused.reason().to_owned(),
    };
    world.note(format!(
        "server {at}: attempt {attempt} at key {number}, good {good}: {said}; expected {may:?}"
    ));

    let mut shared = world.shared.borrow_mut();
    let held = &mut shared.keys[number];
    // It may have gone on while the request was on its way.
    let same = storage.epochs.current().number == epoch
        && held.model.state == before.state
        && !held.model.in_doubt
        && storage.ledger.now() <= binding.not_after;
    let broken = match &answer {
        // Whoever has it may hear so again from a server that has not heard that it is over.
        Ok(_) if world.has_several() && held.winner == Some(attempt) => {
            !held.model.redeemed(attempt)
        }
        Ok(_) => may == Expect::No || !held.model.redeemed(attempt),
        Err(refused) if refused.is_unavailable() => {
            shared.counts.unanswered += 1;
            return;
        }
        // The new epoch is durable, though not everybody knows.
        Err(Refused::EpochOver) => false,
        Err(Refused::Unknown) if epoch < held.epoch => {
            if good {
                held.model.refused(attempt);
            }
            false
        }
        Err(refused) => {
            if good {
                held.model.refused(attempt);
            }
            // Whoever was told so finds it so for ever.
            if has_expired && matches!(refused, Refused::Expired | Refused::Unknown) {
                held.model.over(State::Expired);
            }
            let is_replay = matches!(refused, Refused::Replayed);
            held.replayed |= is_replay;
            let spent = matches!(held.model.state, State::Redeemed { by } if by == attempt);
            (good && spent && is_replay)
                || (may == Expect::Yes && same && held.model.expects(attempt) == Expect::Yes)
        }
    };
    if answer.is_ok() {
        shared.keys[number].winner = Some(attempt);
        shared.counts.succeeded += 1;
        shared.counts.elsewhere += usize::from(shared.keys[number].at != *at);
    } else {
        shared.counts.refused += 1;
    }
    drop(shared);
    if broken {
        world.fail(&format!("attempt {attempt} at key {number} is told {said}"));
    }
}

/// Puts one client in quarantine, or ends it.
async fn quarantine(world: &World, storage: &Storage, dice: &mut Dice) {
    let who = dice.below(3);
    let id: SpiffeId = format!("spiffe://example.org/client/{who}").parse().unwrap();
    let is_in = storage.standings.of(&id).quarantined;
    let how = if is_in { How::Lift } else { How::Quarantine };
    doubt(world, |held| held.binding.client == id);
    {
        let mut shared = world.shared.borrow_mut();
        shared.changes[who].0 += 1;
        shared.quarantined[who] |= world.has_several() && !is_in;
    }
    let reason = "test".parse().unwrap();
    let changed = storage.standings.change(&id, how, reason, requester()).await;
    world.note(format!("{id}: {how:?}: {}", changed.is_ok()));
    let mut shared = world.shared.borrow_mut();
    shared.changes[who].1 += 1;
    if changed.is_err() {
        return;
    }
    if is_in && shared.changes[who].0 == shared.changes[who].1 {
        shared.quarantined[who] = false;
    }
    let ends = shared.keys.iter_mut().filter(|held| held.binding.client == id);
    ends.for_each(|held| held.model.over(State::Revoked));
}

async fn fence(world: &World, storage: &Storage) {
    let number = storage.epochs.current().number;
    doubt(world, |_| true);
    let fenced = storage.epochs.fence(number, &Doubt::NoWitness).await;
    world.note(format!("a new epoch after {number}: {}", fenced.is_ok()));
    if let Ok(epoch) = fenced {
        world.epoch_is(epoch.number);
    }
}

/// Something has begun that may end these.
fn doubt(world: &World, which: impl Fn(&Held) -> bool) {
    let mut shared = world.shared.borrow_mut();
    shared.keys.iter_mut().filter(|held| which(held)).for_each(|held| held.model.in_doubt = true);
}

fn series_of(held: &Held) -> Option<u64> {
    held.binding.series.as_ref().map(|SeriesEpoch { epoch, .. }| epoch.get())
}

fn number_of(id: &SpiffeId) -> Option<usize> {
    id.to_string().rsplit_once("/client/")?.1.parse().ok()
}
