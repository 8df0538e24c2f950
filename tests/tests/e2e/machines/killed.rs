//! Applies that are killed at random moments while they make a cluster, and while they take a node away.

use std::time::Duration;

use rustix::process::Signal;

use super::World;
use crate::kills::{kills, seed, wait_for_operation};

/// How often, where `KSAIL_TEST_KILLS` does not say, and within which time after the beginning of an apply.
const OF_CREATION: u32 = 20;
const OF_SCALE_DOWN: u32 = 10;
const CREATED_WITHIN: Duration = Duration::from_secs(8);
const GONE_WITHIN: Duration = Duration::from_millis(800);

impl World {
    /// Applies through at most so many kills, and once more in peace. Answers how many there were.
    pub(super) fn apply_through_kills(&self, random: &mut fastrand::Rng, most: u32, within: Duration) -> u32 {
        let mut killed = 0;
        while killed < most {
            let mut run = self.project.start(&["apply", "--auto-approve"]);
            wait_for_operation(&mut run);
            std::thread::sleep(within.mul_f64(random.f64()));
            run.signal(Signal::KILL);
            let ended = run.end();
            if ended.out.contains("Apply complete") || ended.out.contains("No changes") {
                break;
            }
            killed += 1;
        }
        self.project.apply();
        killed
    }
}

#[test]
fn a_killed_creation_goes_on_where_it_was() {
    let Some(world) = World::example() else { return };
    let (mut random, wanted, mut killed) = (seed(), kills(OF_CREATION), 0);
    while killed < wanted {
        killed += world.apply_through_kills(&mut random, wanted - killed, CREATED_WITHIN);
        world.rests(&world.nodes(2), &|| true);
        // Each node was bootstrapped once: nothing was begun again that went on.
        for node in world.nodes(2) {
            let (_, log) = world.engine.exec(&node, &["cat", "/var/lib/ksail/bootstrap/log"]);
            assert!(!log.contains("[reset]"), "{node}: {log}");
        }
        world.project.run(&["destroy", "--auto-approve"]).code(0);
        world.is_gone();
    }
}

#[test]
fn a_killed_scale_down_goes_on_where_it_was() {
    let Some(world) = World::example() else { return };
    let (mut random, wanted, mut killed) = (seed(), kills(OF_SCALE_DOWN), 0);
    let gone = format!("{}-worker2", world.cluster);
    world.project.apply();
    while killed < wanted {
        world.workers(1);
        killed += world.apply_through_kills(&mut random, wanted - killed, GONE_WITHIN);
        world.rests(&world.nodes(1), &|| true);
        assert!(world.engine.is_running(&gone).is_none() && world.engine.volume(&format!("{gone}-var")).is_none());
        world.workers(2);
        world.project.apply();
        assert_eq!(world.ready_nodes(), world.nodes(2));
    }
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
