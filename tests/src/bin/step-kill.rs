//! Plans and applies a small platform on a simulated outside in a folder, and dies at a given step.
//!
//! `step-kill FOLDER (first|changed|destroy) [STEP]`: beside the steps of the state, the begin, effect and end of each provider
//! call are steps. Without a step nothing dies. What it ends with: 0 converged, 2 not converged (with why); a death is an abort.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ksail_conformance::world::{SimulatedConnector, World};
use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, FieldSchema, ForceOn, Identity, KindSchema, Lifecycle,
    Origin, Origins, Ownership, Path, ProviderConfig, Reference, Schemas, Strength, Value,
};
use ksail_tests::stepped::{Asked, Failure, Stack, compare, end};

struct Kinds(Vec<KindSchema>);

impl Kinds {
    fn new() -> Self {
        let kind = |kind, is_host, may_coexist| KindSchema {
            kind,
            version: 1,
            fields: vec![FieldSchema::new("size").forces_replacement()],
            may_coexist,
            is_host,
            holds_data: None,
            repeat_safe: true,
            lands_within: std::time::Duration::ZERO,
            normalises: false,
            estimate: Duration::from_secs(1),
            keeps: &[],
            follows: None,
        };
        let fixed = Err("its name is fixed");
        Self(vec![kind("host", true, fixed), kind("thing", false, fixed), kind("twin", false, Ok(()))])
    }
}

impl Schemas for Kinds {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        self.0.iter().find(|schema| schema.kind == kind)
    }
}

fn address(kind: &str, name: &str) -> Address {
    Address::new("dev", kind, &[name])
}

fn declared(kind: &str, name: &str, size: i64) -> Declaration {
    Declaration {
        address: address(kind, name),
        kind_version: 1,
        provider: "sim".to_owned(),
        identity: Identity::named(name),
        spec: Value::map([("size", size)]),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

/// The declaration, with a need for another's id.
fn of(mut declaration: Declaration, kind: &str, name: &str, on_replace: ForceOn) -> Declaration {
    let to = address(kind, name);
    declaration.edges.push(Edge {
        to: to.clone(),
        condition: Condition::Ready,
        strength: Strength::Hard,
        on_replace,
        origin: Origin::Derived { why: "it needs it".into() },
    });
    declaration.spec.set(&Path::key("of"), Value::Ref(Reference { address: to, path: Path::key("id") }));
    declaration
}

fn on(mut declaration: Declaration, host: &str) -> Declaration {
    declaration.host = Some(address("host", host));
    declaration
}

/// A host with contents, what stands on them, one that is made first and one that is made anew; changed, everything of that
/// is replaced, moved, updated or gone.
fn graph(changed: bool) -> DeclaredGraph {
    let size = if changed { 2 } else { 1 };
    let twin = |number: i64| {
        let mut twin = declared("twin", "twin", number);
        twin.identity = Identity::named(format!("twin-{number}"));
        twin.lifecycle.create_before_destroy = true;
        twin
    };
    let mut all = vec![
        declared("host", "engine", size),
        on(declared("thing", "network", 1), "engine"),
        on(of(declared("thing", "registry", 1), "thing", "network", ForceOn::Replace), "engine"),
        of(declared("thing", "user", 1), "thing", "registry", ForceOn::Nothing),
        of(of(declared("thing", "anew", size), "twin", "twin", ForceOn::Nothing), "thing", "user", ForceOn::Nothing),
        twin(size),
        declared("thing", if changed { "moved" } else { "old" }, 1),
        declared("thing", if changed { "late" } else { "early" }, 1),
    ];
    // It keeps its name through the move.
    for declaration in &mut all {
        if matches!(declaration.address.name(), "old" | "moved") {
            declaration.identity = Identity::named("steady");
        }
    }
    let mut graph = DeclaredGraph {
        declarations: all.into_iter().map(|declaration| (declaration.address.clone(), Arc::new(declaration))).collect(),
        providers: BTreeMap::from([("sim".to_owned(), ProviderConfig::default())]),
        ..DeclaredGraph::default()
    };
    if changed {
        let origin = Origin::Derived { why: "a test moves it".into() };
        graph.moved.push(ksail_model::Move { from: address("thing", "old"), to: address("thing", "moved"), origin });
    }
    graph
}

async fn run() -> Result<u64, Failure> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let world = World::in_folder(asked.folder.join("world"), "engine")?;
    let hooked = Arc::clone(&asked.steps);
    world.set_hook(Some(Arc::new(move |_, _, _| hooked.step())));
    let declared = if asked.goal == "destroy" { DeclaredGraph::default() } else { graph(asked.goal == "changed") };
    let stack = Stack {
        declared,
        schemas: Arc::new(Kinds::new()),
        connector: Arc::new(SimulatedConnector::of("sim", &world)),
        lineage: "lineage-1".to_owned(),
        timeout: Duration::from_secs(5),
    };
    let passed = asked.run(&stack).await?;
    compare(world.things()?.into_iter().map(|thing| thing.name).collect(), &stack.declared)?;
    Ok(passed)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end(run().await)
}
