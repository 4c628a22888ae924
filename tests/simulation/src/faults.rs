//! Faults around the daemon, as far as a run's plan allows them.

use crate::plan::{DAY_MS, HOUR_MS, SECOND_MS};
use crate::run::World;
use stormhook_testkit::disk::Faults;
use stormhook_testkit::random::Random;

/// Begins or ends one fault.
pub(crate) fn strike(world: &mut World) {
    let mix = world.plan.mix;
    match world.random.below(7) {
        0 if mix.disk => {
            let faults = disk_faults(&mut world.random, mix.forgetful);
            world.oracle().note(format!("the disk: {faults:?}"));
            world.disk.fail(faults);
        }
        1 if mix.full => {
            world.oracle().note("the disk is full");
            world.disk.fill_up(true);
        }
        2 if mix.clock => {
            let by_ms = jump_ms(&mut world.random);
            world.jump(by_ms);
            world.environment().set_wall(world.wall());
        }
        3 | 4 => world.partners.change(&mut world.random),
        5 if mix.crashes => {
            // Most commits take about twenty writes and syncs.
            let left = 1 + world.random.below(60);
            world.disk.power_for(Some(left));
        }
        _ => heal_disk(world),
    }
}

/// Ends all faults of the disk.
pub(crate) fn heal_disk(world: &World) {
    world.disk.fail(Faults::default());
    world.disk.fill_up(false);
}

/// Faults while the daemon is not running.
pub(crate) fn between_lives(world: &mut World) {
    world.disk.power_for(None);
    if world.random.one_in(2) {
        heal_disk(world);
    }
    if world.plan.mix.clock && world.random.one_in(3) {
        let by_ms = jump_ms(&mut world.random);
        world.jump(by_ms);
    }
}

fn disk_faults(random: &mut Random, forgetful: bool) -> Faults {
    let mut often = |n: u64| {
        if random.one_in(2) {
            0
        } else {
            1 + random.below(n)
        }
    };
    Faults {
        reads: often(400),
        writes: often(200),
        lengths: often(4),
        syncs: often(10),
        forgetful,
    }
}

fn jump_ms(random: &mut Random) -> i64 {
    let most = [5 * SECOND_MS, 300 * SECOND_MS, 10 * HOUR_MS, 3 * DAY_MS];
    let most = most[usize::try_from(random.below(4)).unwrap()];
    let ms = i64::try_from(1 + random.below(most)).unwrap();
    if random.one_in(2) { ms } else { -ms }
}
