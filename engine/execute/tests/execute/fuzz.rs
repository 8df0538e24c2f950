//! Lives of stacks: changed declarations, failing providers, kills. Once faults stop, one apply converges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ksail_conformance::faults::{FaultPlan, Faulty};
use ksail_conformance::world::SimulatedConnector;
use ksail_execute::Ending;
use ksail_model::{Declaration, ForceOn};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Stack, With as _, declared};

/// How long all lives take together.
const BUDGET: Duration = Duration::from_secs(15);
/// How many lives there are at most.
const LIVES: u64 = 400;

fn program(rng: &mut fastrand::Rng) -> Vec<Declaration> {
    let mut all: Vec<Declaration> = Vec::new();
    for n in 0..8 {
        if rng.u8(..) < 60 {
            continue;
        }
        let kind = ["thing", "host", "thing", "twin", "thing", "host", "thing", "twin"][n];
        let size = rng.i64(0..2);
        let mut node = declared(&format!("{kind}/n{n}"), json!({"size": size, "v": rng.i64(0..3)}));
        if kind == "twin" {
            node.lifecycle.create_before_destroy = true;
            node = node.named(&format!("n{n}-{size}"));
        }
        for _ in 0..rng.usize(0..3) {
            if let Some(to) = rng.choice(&all).map(|to| to.address.to_string()) {
                node = node.needs(&to);
                let last = node.edges.last_mut().unwrap();
                if rng.bool() {
                    last.on_replace = ForceOn::Replace;
                } else {
                    node.spec.set(
                        &ksail_model::Path::key("of"),
                        ksail_model::Value::Ref(ksail_model::Reference {
                            address: ksail_model::Address::parse(&to).unwrap(),
                            path: ksail_model::Path::key("id"),
                        }),
                    );
                }
            }
        }
        let hosts: Vec<String> =
            all.iter().filter(|host| host.address.kind() == "host").map(|host| host.address.to_string()).collect();
        if kind == "thing"
            && rng.bool()
            && let Some(host) = rng.choice(&hosts)
        {
            node = node.on(host);
        }
        all.push(node);
    }
    all
}

/// A reproducer is told step by step (`KSAIL_FUZZ_SEED=<seed>`).
#[expect(clippy::print_stdout, reason = "shown for a failing seed only")]
fn dump(round: u64, plan: &ksail_plan::Plan, stack: &Stack) {
    println!("round {round}");
    for node in plan.nodes.values() {
        println!("  {} {:?} {:?} {:?}", node.key, node.action, node.reason, node.seen);
    }
    for step in &plan.steps {
        println!("  {:?} {} {:?}", step.what, step.key, step.needs);
    }
    for thing in stack.world.things().unwrap() {
        println!("  there: {} {} in {}: {:?}", thing.name, thing.id, thing.scope, thing.marks);
    }
}

async fn live(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut stack = Stack::new(program(&mut rng));
    stack.limits.attempts = 2;
    stack.limits.call_timeout = Duration::from_millis(500);
    stack.limits.wait_timeout = Duration::from_secs(2);
    let calm = Arc::clone(&stack.connector);
    for round in 0..rng.u64(1..6) {
        stack.world.all(|behaviour| {
            behaviour.latency = Some(Duration::from_millis(3));
            behaviour.ready_after = Some(Duration::from_millis(15));
            behaviour.lands_late = Some(true);
        });
        stack.connector = Arc::new(
            SimulatedConnector::of("sim", &stack.world)
                .decorated(move |_, provider| Arc::new(Faulty::new(provider, FaultPlan::seeded(seed * 31 + round)))),
        );
        stack.declare(program(&mut rng));
        // Hands change and remove things, too.
        if rng.u8(..) < 60
            && let Some(thing) = rng.choice(&stack.world.things().unwrap())
        {
            if rng.bool() {
                stack.world.remove(&thing.kind, &thing.name).unwrap();
            } else {
                stack
                    .world
                    .modify(&thing.kind, &thing.name, |thing| thing.fields = json!({"size": 0, "v": 99}).into())
                    .unwrap();
            }
        }
        let plan = stack.plan().await;
        if std::env::var_os("KSAIL_FUZZ_SEED").is_some() {
            dump(round, &plan, &stack);
        }
        (stack.stop, stack.abort) = (CancellationToken::new(), CancellationToken::new());
        let after = Duration::from_millis(rng.u64(0..120));
        let way = rng.u8(0..5);
        let apply = stack.apply(plan.clone());
        let mut apply = Box::pin(apply);
        let ended = tokio::select! {
            result = &mut apply => Some(result),
            () = tokio::time::sleep(after) => match way {
                0 => { stack.stop.cancel(); Some(apply.as_mut().await) }
                1 => { stack.abort.cancel(); Some(apply.as_mut().await) }
                2 => Some(apply.as_mut().await),
                _ => None,
            },
        };
        drop(apply);
        match ended {
            Some(Ok(summary)) => {
                crate::events::check(&stack.sink.take());
                // The same command goes on.
                if summary.ending == Ending::Interrupted && rng.bool() {
                    (stack.stop, stack.abort) = (CancellationToken::new(), CancellationToken::new());
                    _ = stack.apply(plan).await;
                }
            }
            // Stale because of a fault of a look: nothing was done.
            Some(Err(_)) => {}
            None => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        stack.sink.take();
        // What was sent lands before anybody looks again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(stack.world.duplicates().unwrap().is_empty(), "seed {seed} round {round}");
    }
    (stack.stop, stack.abort) = (CancellationToken::new(), CancellationToken::new());
    stack.connector = calm;
    stack.world.behave();
    stack.clock.pass(60_000);
    // What is starting becomes ready meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let plan = stack.plan().await;
    if std::env::var_os("KSAIL_FUZZ_SEED").is_some() {
        dump(99, &plan, &stack);
    }
    let blocked: Vec<_> =
        plan.nodes.values().filter(|node| matches!(node.action, ksail_plan::Action::Blocked { .. })).collect();
    assert!(blocked.is_empty(), "seed {seed}: {blocked:#?}");
    let summary = stack.apply(plan).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(summary.ending, Ending::Complete, "seed {seed}: {:?}\n{:?}", summary.failed, summary.skipped);
    assert_eq!(stack.snapshot().await, summary.snapshot, "seed {seed}: what is on disk replays to what was");
    stack.converged(&format!("seed {seed}")).await;
}

#[tokio::test(start_paused = true)]
async fn lives_converge() {
    let (begun, first) = (Instant::now(), std::env::var("KSAIL_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()));
    let mut lives = 0;
    for seed in first.unwrap_or(0)..first.map_or(LIVES, |seed: u64| seed + 1) {
        if begun.elapsed() > BUDGET {
            break;
        }
        live(seed).await;
        lives += 1;
    }
    assert!(lives > 20, "{lives} lives within {BUDGET:?}");
}
