//! The contract's suite on engines, each a real process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::suite::{Case, Change, Gap, Limits, Outside, Setup, Subject, Way, run_way};
use ksail_kinds::{EngineSpec, Spec as _};
use ksail_model::{Identity, Mark, Path};
use ksail_provider::Target;

use crate::{World, free_port, kill_engine, target};

/// The seed of the injected faults.
const SEED: u64 = 0x006b_7361_696c;

#[derive(Default)]
struct Engines {
    next: AtomicU32,
}

struct Place {
    world: World,
}

#[async_trait]
impl Subject for Engines {
    fn name(&self) -> String {
        "engine processes".to_owned()
    }

    fn kinds(&self) -> Vec<String> {
        vec!["engine".to_owned()]
    }

    async fn fresh(&self, _kind: &str) -> Result<Setup, Gap> {
        let world = World::new();
        let lineage = format!("lineage-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let target = target("1.0.0", free_port(), true);
        let absent = Target { identity: Identity::named("dev/absent"), ..target.clone() };
        let spec = EngineSpec { version: "1.0.0".to_owned(), port: free_port(), running: true };
        let mut case = Case::new(target, absent);
        // Another port is reached by a restart, in place.
        case.change =
            Some(Change { spec: spec.to_value(), secrets: [].into(), changed: vec![Path::parse("port").unwrap()] });
        let provider = Arc::new(world.provider.clone());
        Ok(Setup { provider, lineage, case, outside: Box::new(Place { world }) })
    }

    fn limits(&self) -> Limits {
        Limits { rounds: 3, settle: Duration::from_millis(500), ..Limits::default() }
    }
}

impl Place {
    fn folder(&self, target: &Target) -> PathBuf {
        self.world.folder.path().join("state").join(&target.identity.name)
    }

    /// An engine that was made and does not run.
    fn make(&self, target: &Target, mark: Option<&Mark>) -> Result<String, Gap> {
        let (folder, id) = (self.folder(target), uuid::Uuid::new_v4().to_string());
        let file = serde_json::json!({
            "format": 1, "id": id, "nonce": "n", "port": free_port(), "version": "1.0.0", "mark": mark,
        });
        std::fs::create_dir_all(&folder).map_err(Gap::broken)?;
        std::fs::write(folder.join("nonce"), "n").map_err(Gap::broken)?;
        std::fs::write(folder.join("engine.json"), file.to_string()).map_err(Gap::broken)?;
        Ok(id)
    }
}

#[async_trait]
impl Outside for Place {
    async fn count(&self, target: &Target) -> Result<usize, Gap> {
        Ok(usize::from(self.folder(target).join("engine.json").exists()))
    }

    async fn make_unmarked(&self, target: &Target) -> Result<Option<String>, Gap> {
        self.make(target, None).map(Some)
    }

    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap> {
        self.make(target, Some(mark)).map(drop)
    }

    async fn state(&self, target: &Target) -> Result<String, Gap> {
        std::fs::read_to_string(self.folder(target).join("engine.json")).map_err(Gap::broken)
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        let state = self.world.folder.path().join("state");
        let killed = tokio::task::spawn_blocking(move || {
            if state.join("dev/engine/lock").exists() {
                kill_engine(&state.join("dev/engine"));
            }
            match std::fs::remove_dir_all(&state) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        });
        killed.await.map_err(Gap::broken)?.map_err(Gap::broken)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_conforms() {
    let ways = [Way::Direct, Way::Pipe, Way::Faulty(SEED)];
    let runs = ways.map(|way| tokio::spawn(async move { run_way(&Engines::default(), way).await }));
    for run in runs {
        let report = run.await.unwrap();
        println!("{report}");
        report.assert_conforms();
    }
}
