//! The decorator: what each fault does, that a seed decides, and that nothing is doubled by any interleaving.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ksail_conformance::Method;
use ksail_conformance::faults::{Fault, FaultKind, FaultPlan, Faulty, Injected, Rates};
use ksail_conformance::world::World;
use ksail_model::{Mark, Ownership, Value};
use ksail_provider::{CallContext, CallErrorKind, CreateRequest, DeleteRequest, Provider, Target};
use proptest::prelude::{Strategy, prop_assert, proptest};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::subject::target;

pub(crate) fn context() -> CallContext {
    CallContext {
        lineage: "ours".to_owned(),
        operation: Some("op-1".to_owned()),
        timeout: Duration::from_secs(5),
        cancel: CancellationToken::new(),
    }
}

fn thing(number: usize) -> Target {
    target("registry", &format!("r{number}"), Value::map([("size", Value::from(1_i64))]), Ownership::Owned)
}

fn mark(target: &Target) -> Mark {
    let address = target.address.clone();
    Mark { lineage: "ours".to_owned(), address, operation: "op-1".to_owned(), generation: 1 }
}

pub(crate) fn creation(target: &Target) -> CreateRequest {
    CreateRequest { target: target.clone(), mark: mark(target), secrets: BTreeMap::new() }
}

pub(crate) fn deletion(target: &Target) -> DeleteRequest {
    DeleteRequest { target: target.clone(), mark: mark(target), adopted: false, attributes: Value::empty_map() }
}

async fn one(fault: Fault) -> (Option<CallErrorKind>, usize, Duration, BTreeMap<FaultKind, usize>) {
    let world = World::new("s");
    world.all(|all| all.latency = Some(Duration::from_millis(100)));
    let faulty = Faulty::new(Arc::new(world.provider()), FaultPlan::script([(Method::Create, fault)]));
    let started = Instant::now();
    let made = faulty.create(&context(), &creation(&thing(1))).await;
    (made.err().map(|error| error.kind), world.things().unwrap().len(), started.elapsed(), faulty.counts())
}

#[tokio::test(start_paused = true)]
async fn each_fault_does_what_it_says() {
    let ms = Duration::from_millis;
    let table = [
        (Fault::Delay(ms(50)), None, 1, ms(150)),
        (Fault::Unreachable, Some(CallErrorKind::Unreachable), 0, ms(0)),
        (Fault::Transient, Some(CallErrorKind::Transient), 0, ms(0)),
        (Fault::LostReply, Some(CallErrorKind::Indeterminate), 1, ms(100)),
        (Fault::LostRequest, Some(CallErrorKind::Indeterminate), 0, ms(0)),
        (Fault::Hang, Some(CallErrorKind::Indeterminate), 0, ms(5000)),
        (Fault::Cancel(ms(40)), Some(CallErrorKind::Indeterminate), 0, ms(40)),
        (Fault::Cancel(ms(400)), None, 1, ms(100)),
    ];
    for (fault, kind, things, took) in table {
        let (got, there, elapsed, counts) = one(fault).await;
        assert_eq!((got, there), (kind, things), "{fault:?}");
        assert!(elapsed >= took && elapsed < took + ms(20), "{fault:?} took {elapsed:?}");
        assert_eq!(counts, BTreeMap::from([(fault.kind(), 1)]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_ends_when_it_is_cancelled() {
    let faulty = Faulty::new(Arc::new(World::new("s").provider()), FaultPlan::script([(None, Fault::Hang)]));
    let context = context();
    let (cancel, request) = (context.cancel.clone(), creation(&thing(1)));
    let (made, ()) = tokio::join!(faulty.create(&context, &request), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        cancel.cancel();
    });
    assert_eq!(made.unwrap_err().kind, CallErrorKind::Indeterminate);
}

/// Creates and deletes several things at once, under faults, each in its own task; answers what was injected.
async fn storm(seed: u64, backwards: bool) -> Vec<Injected> {
    let plan = FaultPlan::Seeded { seed, rates: Rates { hang: 20, ..Rates::default() } };
    let faulty = Arc::new(Faulty::new(Arc::new(World::new("s").provider()), plan));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let faulty = Arc::clone(&faulty);
        tasks.spawn(async move {
            let number = if backwards { 19 - number } else { number };
            for _ in 0..8 {
                let _ = faulty.create(&context(), &creation(&thing(number))).await;
                let _ = faulty.delete(&context(), &deletion(&thing(number))).await;
            }
        });
    }
    tasks.join_all().await;
    let mut injected = faulty.injected();
    // Only the order between addresses is the scheduler's.
    injected.sort_by_key(|one| (one.address.clone(), one.method));
    injected
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_whatever_the_order() {
    let first = storm(7, false).await;
    assert_eq!(first, storm(7, false).await);
    assert_eq!(first, storm(7, true).await);
    assert_ne!(first, storm(8, false).await);
    let kinds: std::collections::BTreeSet<FaultKind> = first.iter().map(|one| one.fault.kind()).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_repeats_comes_to_an_end() {
    let rates =
        Rates { lost_reply: 500, transient: 500, delay: 0, unreachable: 0, lost_request: 0, ..Rates::default() };
    let rates = Rates { cancel: 0, most_in_a_row: 3, ..rates };
    let faulty = Faulty::new(Arc::new(World::new("s").provider()), FaultPlan::Seeded { seed: 1, rates });
    for _ in 0..5 {
        for _ in 0..3 {
            assert!(faulty.create(&context(), &creation(&thing(1))).await.is_err());
        }
        assert!(faulty.create(&context(), &creation(&thing(1))).await.is_ok());
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Create(usize),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    (proptest::bool::ANY, 0..3_usize).prop_map(|(create, of)| if create { Step::Create(of) } else { Step::Delete(of) })
}

/// Runs every list of steps at once, each step repeated until it is certain; then creates everything.
async fn interleave(seed: u64, lists: Vec<Vec<Step>>) -> (usize, usize) {
    let world = World::new("s");
    world.all(|all| {
        all.latency = Some(Duration::from_millis(3));
        all.reply_latency = Some(Duration::from_millis(3));
        all.lands_late = Some(true);
    });
    let faulty = Arc::new(Faulty::new(Arc::new(world.provider()), FaultPlan::seeded(seed)));
    let mut tasks = tokio::task::JoinSet::new();
    for list in lists {
        let faulty = Arc::clone(&faulty);
        tasks.spawn(async move {
            for step in list {
                let _ = match step {
                    Step::Create(of) => faulty.create(&context(), &creation(&thing(of))).await.map(drop),
                    Step::Delete(of) => faulty.delete(&context(), &deletion(&thing(of))).await.map(drop),
                };
            }
        });
    }
    tasks.join_all().await;
    // What landed late has landed.
    tokio::time::sleep(Duration::from_millis(50)).await;
    faulty.enable(false);
    for of in 0..3 {
        faulty.create(&context(), &creation(&thing(of))).await.unwrap();
    }
    (world.duplicates().unwrap().len(), world.things().unwrap().len())
}

proptest! {
    #[test]
    fn no_interleaving_with_faults_makes_duplicates(
        seed in 0..u64::MAX,
        lists in proptest::collection::vec(proptest::collection::vec(step(), 1..8), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (duplicates, things) = runtime.block_on(interleave(seed, lists));
        prop_assert!(duplicates == 0 && things == 3, "{duplicates} duplicates among {things} things");
    }
}
