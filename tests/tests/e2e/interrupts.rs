//! Ctrl-C: what is in flight is finished, nothing is lost, and the same command goes on.

use rustix::process::Signal;

use crate::support::project::{Project, Running};
use crate::support::{ChosenPorts, signal, wait_until};

/// How often an apply is caught in its middle before the test gives up.
const TRIES: u32 = 20;

/// An apply of the quickstart whose engine stands still in its middle; `None` if it was too fast.
fn caught(project: &Project) -> Option<(Running, i32)> {
    let mut applying = project.start(&["apply", "plan.json", "--parallelism", "1"]);
    wait_until("the engine's creation", || applying.has_said("dev/engine/main: created") || applying.is_over());
    let engine = *project.engine_pids().first()?;
    signal(engine, Signal::STOP);
    std::thread::sleep(std::time::Duration::from_millis(100));
    if applying.is_over() {
        signal(engine, Signal::CONT);
        return None;
    }
    Some((applying, engine))
}

fn interrupted(signals: u32, check: impl Fn(&Project, Running, i32)) {
    for _ in 0..TRIES {
        let _ports = ChosenPorts::lock();
        let project = Project::quickstart();
        project.run(&["plan", "--out", "plan.json"]).code(0);
        let Some((applying, engine)) = caught(&project) else { continue };
        for _ in 0..signals {
            applying.signal(Signal::INT);
            wait_until("an answer to the interrupt", || applying.has_said("interrupted: "));
        }
        check(&project, applying, engine);
        project.run(&["apply", "plan.json"]).code(0);
        assert_eq!(project.engine().addresses("dev").len(), 7);
        assert_eq!(project.history().last().unwrap()["result"], "complete");
        project.is_settled();
        return;
    }
    panic!("an apply could not be caught in its middle {TRIES} times");
}

#[test]
fn the_first_interrupt_finishes_what_is_in_flight() {
    interrupted(1, |project, applying, engine| {
        signal(engine, Signal::CONT);
        applying.end().code(130).says("interrupted");
        project.run(&["plan"]).says("was interrupted or killed");
    });
}

#[test]
fn the_second_interrupt_stops_at_once_and_loses_nothing() {
    interrupted(2, |_, applying, engine| {
        // The engine still stands still: the call in flight is given up, and looked after by the next apply.
        applying.end().code(130);
        signal(engine, Signal::CONT);
    });
}
