//! A provider behind a pipe, when one end leaves or stalls.

use std::sync::Arc;
use std::time::Duration;

use ksail_conformance::Method;
use ksail_conformance::world::{Ending, World};
use ksail_model::{Ownership, Value};
use ksail_provider::{CallContext, CallErrorKind, PipeProvider, Provider, Target, serve};
use tokio::io::{AsyncWriteExt as _, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::faults::{context, creation};
use crate::subject::target;

/// What the pipe's streams hold.
const BYTES: usize = 4096;

fn thing(name: &str) -> Target {
    target("network", name, Value::map([("driver", Value::from("bridge"))]), Ownership::Owned)
}

/// A world whose calls take a second, and a pipe to it over one stream for both directions.
fn piped() -> (World, PipeProvider, JoinHandle<std::io::Result<()>>) {
    let world = World::new("s");
    world.all(|all| all.latency = Some(Duration::from_secs(1)));
    let (near, far) = duplex(BYTES);
    let (far_reader, far_writer) = tokio::io::split(far);
    let (near_reader, near_writer) = tokio::io::split(near);
    let provider: Arc<dyn Provider> = Arc::new(world.provider());
    let server = tokio::spawn(async move { serve(provider, far_reader, far_writer).await });
    (world, PipeProvider::new(near_reader, near_writer), server)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_cancelled_at_the_far_side() {
    let (world, near, _server) = piped();
    let (call, request) = (context(), creation(&thing("one")));
    let dropped = tokio::time::timeout(Duration::from_millis(100), near.create(&call, &request)).await;
    assert!(dropped.is_err());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.calls_of(Method::Create)[0].ending, Some(Ending::Failed(CallErrorKind::Indeterminate)));
    assert!(world.things().unwrap().is_empty());
    assert!(near.create(&context(), &creation(&thing("two"))).await.is_ok(), "the pipe goes on");
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_ends_leaves_calls_indeterminate_and_then_unreachable() {
    let (_world, near, server) = piped();
    let (call, request) = (context(), creation(&thing("one")));
    let (made, ()) = tokio::join!(near.create(&call, &request), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.abort();
    });
    assert_eq!(made.unwrap_err().kind, CallErrorKind::Indeterminate);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let error = near.create(&context(), &creation(&thing("two"))).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unreachable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_far_half_ends_when_the_near_one_is_dropped() {
    let (_world, near, server) = piped();
    near.create(&context(), &creation(&thing("one"))).await.unwrap();
    drop(near);
    tokio::time::timeout(Duration::from_secs(1), server).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_never_reads_holds_nobody_past_the_deadline() {
    let (near_writer, _never_read) = duplex(16);
    let (_far_writer, near_reader) = duplex(16);
    let near = PipeProvider::new(near_reader, near_writer);
    let started = Instant::now();
    // More calls than the queue holds.
    let targets: Vec<Target> = (0..600).map(|number| thing(&format!("n{number}"))).collect();
    let call = CallContext { timeout: Duration::from_secs(3), ..context() };
    let calls = targets.iter().map(|of| {
        let (near, call) = (&near, &call);
        async move { near.create(call, &creation(of)).await.unwrap_err().kind }
    });
    let kinds = futures::future::join_all(calls).await;
    assert!(started.elapsed() < Duration::from_millis(4100), "{:?}", started.elapsed());
    assert!(kinds.contains(&CallErrorKind::Indeterminate) && kinds.contains(&CallErrorKind::Unreachable));
    let cancelled = context();
    cancelled.cancel.cancel();
    let error = near.create(&cancelled, &creation(&targets[0])).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_read_ends_the_pipe() {
    let (near_writer, _far_reader) = duplex(BYTES);
    let (mut far_writer, near_reader) = duplex(BYTES);
    let near = PipeProvider::new(near_reader, near_writer);
    let (call, request) = (context(), creation(&thing("one")));
    let (made, ()) = tokio::join!(near.create(&call, &request), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        far_writer.write_all(b"no JSON\n").await.unwrap();
    });
    assert_eq!(made.unwrap_err().kind, CallErrorKind::Indeterminate);
    assert_eq!(near.create(&call, &request).await.unwrap_err().kind, CallErrorKind::Unreachable);
}
