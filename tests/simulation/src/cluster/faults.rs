//! What goes wrong around the daemons, as far as a run's plan allows it.

use super::World;
use super::stage::with;

/// Something happens.
pub(super) fn strike(world: &mut World) {
    let mix = world.plan.mix;
    match world.random.below(8) {
        0 if mix.kills => kill(world),
        1 if mix.pauses => pause(world),
        2 if mix.cuts => cut(world),
        3 if mix.islands => island(world),
        4 if mix.restarts => restart(world),
        5 if mix.slow => {
            world.slow_until_ms = world.now_ms + world.random.below(5_000);
            world.note(format!(
                "the database is slow until {}",
                world.slow_until_ms
            ));
        }
        6 if mix.moves => stop(world),
        _ => with(&world.shared, |stage| stage.receivers.change()),
    }
}

fn some_daemon(world: &mut World) -> Option<u64> {
    let numbers: Vec<u64> = world.daemons.keys().copied().collect();
    let at = world.random.below(numbers.len() as u64);
    numbers.get(usize::try_from(at).unwrap()).copied()
}

/// A time around a lease: faults that end before it differ from those that don't.
fn around_a_lease_ms(world: &mut World) -> u64 {
    let lease_ms = world.plan.lease_ms();
    match world.random.below(3) {
        0 => world.random.below(lease_ms),
        1 => lease_ms + world.random.below(lease_ms),
        _ => world.random.below(4 * lease_ms),
    }
}

fn kill(world: &mut World) {
    let Some(number) = some_daemon(world) else {
        return;
    };
    let daemon = world.daemons.remove(&number).expect("a daemon");
    with(&world.shared, |stage| {
        stage.oracle.killed(daemon.setup.life);
    });
    drop(daemon);
    let after_ms = if world.random.one_in(2) {
        around_a_lease_ms(world)
    } else {
        100
    };
    world.starts.insert(number, world.now_ms + after_ms);
}

fn pause(world: &mut World) {
    let Some(number) = some_daemon(world) else {
        return;
    };
    let until_ms = world.now_ms + around_a_lease_ms(world);
    let daemon = world.daemons.get_mut(&number).expect("a daemon");
    if daemon.is_paused() {
        return;
    }
    daemon.paused_until_ms = until_ms;
    let life = daemon.setup.life;
    with(&world.shared, |stage| {
        stage.oracle.tally.pauses += 1;
        stage
            .oracle
            .note(format!("{life} is paused until {until_ms}"));
    });
}

fn cut(world: &mut World) {
    let Some(number) = some_daemon(world) else {
        return;
    };
    let life = world.daemons[&number].setup.life;
    let all = world.random.one_in(3);
    with(&world.shared, |stage| {
        let count = stage.database.cut(life, all);
        stage.oracle.tally.cuts += count as u64;
        stage
            .oracle
            .note(format!("{count} connections of {life} are cut"));
    });
}

/// Nothing passes between a daemon and the database for a while. If it lasts, the connections end.
fn island(world: &mut World) {
    let Some(number) = some_daemon(world) else {
        return;
    };
    let life = world.daemons[&number].setup.life;
    let until_ms = world.now_ms + around_a_lease_ms(world);
    world.islands.insert(life, until_ms);
    world.note(format!("{life} can't reach the database until {until_ms}"));
    if world.random.one_in(2) {
        cut(world);
    }
}

fn restart(world: &mut World) {
    let back_ms = world.now_ms + world.random.below(2 * world.plan.lease_ms());
    with(&world.shared, |stage| {
        stage.database.restart(back_ms);
        stage.oracle.tally.restarts += 1;
        stage
            .oracle
            .note(format!("the database ends, and is back at {back_ms}"));
    });
}

fn stop(world: &mut World) {
    let Some(number) = some_daemon(world) else {
        return;
    };
    let daemon = world.daemons.get_mut(&number).expect("a daemon");
    if daemon.is_stopping || daemon.engine().is_none() {
        return;
    }
    daemon.stop();
    let life = daemon.setup.life;
    with(&world.shared, |stage| {
        stage.oracle.tally.stops += 1;
        stage.oracle.note(format!("{life} is told to stop"));
    });
}

/// All faults are over.
pub(super) fn end_all(world: &mut World) {
    world.note("all faults are over".to_owned());
    world.islands.clear();
    world.slow_until_ms = 0;
    for daemon in world.daemons.values_mut() {
        if daemon.is_paused() {
            daemon.paused_until_ms = world.now_ms;
        }
    }
    with(&world.shared, |stage| stage.receivers.heal());
}
