//! The contract's suite on a kubeconfig.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::suite::{Case, Change, Gap, Limits, Outside, Setup, Subject, run_all_ways};
use ksail_model::{Identity, Mark, Path, Value};
use ksail_provider::Target;
use serde_json::json;

use crate::support::{OTHERS, World, named, said};

#[derive(Default)]
struct Kubeconfigs {
    next: AtomicU32,
}

struct Place(World);

#[async_trait]
impl Subject for Kubeconfigs {
    fn name(&self) -> String {
        "kubeconfigs".to_owned()
    }

    fn kinds(&self) -> Vec<String> {
        vec!["kubeconfig".to_owned()]
    }

    fn limits(&self) -> Limits {
        // A call takes a few milliseconds, and one that was given up does not write later.
        let [window, settle] = [20, 150].map(Duration::from_millis);
        Limits { window, settle, rounds: 8, ..Limits::default() }
    }

    async fn fresh(&self, _kind: &str) -> Result<Setup, Gap> {
        let world = World::new();
        world.write(OTHERS);
        let target = world.target();
        let spec_with = |field: &str, value: &str| {
            let mut spec = target.spec.clone().unwrap_or_default();
            spec.set(&Path::key(field), Value::from(value));
            Change { spec, secrets: [].into(), changed: vec![Path::key(field)] }
        };
        let mut case = Case::new(target.clone(), Target { identity: Identity::named("absent"), ..target.clone() });
        case.change = Some(spec_with("server", "https://127.0.0.1:7443"));
        case.replacement = Some(spec_with("server", "https://127.0.0.1:8443"));
        let lineage = format!("lineage-{}", self.next.fetch_add(1, Ordering::Relaxed));
        Ok(Setup { provider: Arc::new(world.provider()), lineage, case, outside: Box::new(Place(world)) })
    }
}

impl Place {
    fn make(&self, target: &Target, mark: Option<&Mark>) -> Result<String, Gap> {
        let name = &target.identity.name;
        let extensions = mark.map(|mark| {
            json!([{"name": "ksail.io", "extension": {
                "lineage": mark.lineage, "address": mark.address.as_str(), "operation": mark.operation,
                "generation": mark.generation.to_string(),
            }}])
        });
        let entry = |inner: &str| json!({"name": name, inner: {"extensions": extensions}});
        let text = json!({
            "clusters": [entry("cluster")], "users": [entry("user")], "contexts": [entry("context")],
        });
        std::fs::write(self.0.file(), text.to_string()).map_err(Gap::broken)?;
        Ok(name.clone())
    }
}

#[async_trait]
impl Outside for Place {
    async fn count(&self, target: &Target) -> Result<usize, Gap> {
        let text = std::fs::read_to_string(self.0.file()).map_err(Gap::broken)?;
        let [clusters, users, contexts] = named(&said(&text), &target.identity.name);
        if clusters != users || users != contexts {
            return Err(Gap::broken(format!("{clusters} clusters, {users} users and {contexts} contexts in\n{text}")));
        }
        Ok(contexts)
    }

    async fn make_unmarked(&self, target: &Target) -> Result<Option<String>, Gap> {
        self.make(target, None).map(Some)
    }

    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap> {
        self.make(target, Some(mark)).map(drop)
    }

    async fn state(&self, _target: &Target) -> Result<String, Gap> {
        std::fs::read_to_string(self.0.file()).map_err(Gap::broken)
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        self.0.write(OTHERS);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_conforms() {
    run_all_ways(&Kubeconfigs::default()).await.assert_conforms();
}
