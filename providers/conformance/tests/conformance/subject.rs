//! The simulated provider as a subject of the suite.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::suite::{Breakage, Case, Change, Gap, Limits, Outside, Setup, Subject};
use ksail_conformance::world::{Connection, SimulatedProvider, Thing, World};
use ksail_model::{Address, Fingerprint, Identity, Mark, Ownership, Path, Secret, Value};
use ksail_provider::{Provider, SecretText, Target};

use crate::planted::{Bad, Flaw};

/// The text that no reply, error or log may hold.
pub(crate) const CANARY: &str = "canary-\"fe1f\"-0001";
const NEXT_CANARY: &str = "canary-\"fe1f\"-0002";

pub(crate) struct Simulated {
    /// The folder of the world, if it is not in memory.
    pub(crate) folder: Option<PathBuf>,
    /// What is wrong with the provider, if anything.
    pub(crate) flaw: Option<Flaw>,
    places: AtomicUsize,
}

impl Simulated {
    pub(crate) fn in_memory() -> Self {
        Self { folder: None, flaw: None, places: AtomicUsize::new(0) }
    }

    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::in_memory() }
    }

    pub(crate) fn flawed(flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..Self::in_memory() }
    }
}

/// The provider as it is tested.
fn provider(good: SimulatedProvider, flaw: Option<Flaw>) -> Arc<dyn Provider> {
    let world = good.world().clone();
    let good: Arc<dyn Provider> = Arc::new(good);
    match flaw {
        Some(flaw) => Arc::new(Bad { good, world, flaw }),
        None => good,
    }
}

pub(crate) fn secret(path: &str, text: &str, fingerprint: &str) -> (Value, BTreeMap<Path, SecretText>) {
    let fingerprint = Some(Fingerprint(fingerprint.to_owned()));
    let value = Value::from(Secret { fingerprint, ..Secret::env("PASSWORD") });
    (value, BTreeMap::from([(Path::parse(path).unwrap(), SecretText::new(text.to_owned()))]))
}

pub(crate) fn target(kind: &str, name: &str, spec: Value, ownership: Ownership) -> Target {
    Target {
        address: Address::new("dev", kind, &[name]),
        kind_version: 1,
        identity: Identity::named(format!("dev-{name}")),
        id: None,
        spec: Some(spec),
        ownership,
    }
}

fn case(kind: &str) -> Case {
    let ownership = if kind == "image" { Ownership::Shared } else { Ownership::Owned };
    let (password, secrets) = secret("password", CANARY, "f1");
    let (next, next_secrets) = secret("password", NEXT_CANARY, "f2");
    let spec = |upstream: &str, size: i64, password: Option<&Value>| {
        Value::map([
            ("upstream", Value::from(upstream)),
            ("size", Value::from(size)),
            ("password", password.cloned().unwrap_or_default()),
        ])
    };
    if ownership == Ownership::Shared {
        let one = |name: &str| target(kind, name, spec("a", 1, None), ownership);
        return Case::new(one("one"), one("absent"));
    }
    let one = |name: &str| target(kind, name, spec("a", 1, Some(&password)), ownership);
    let changed = vec![Path::key("size"), Path::key("password")];
    Case {
        change: Some(Change { spec: spec("a", 2, Some(&next)), secrets: next_secrets.clone(), changed }),
        replacement: Some(Change {
            spec: spec("b", 1, Some(&next)),
            secrets: next_secrets,
            changed: vec![Path::key("upstream")],
        }),
        secrets,
        ..Case::new(one("one"), one("absent"))
    }
}

#[async_trait]
impl Subject for Simulated {
    fn name(&self) -> String {
        "simulated".to_owned()
    }

    fn kinds(&self) -> Vec<String> {
        vec!["mirror".to_owned(), "image".to_owned()]
    }

    fn limits(&self) -> Limits {
        Limits {
            call: Duration::from_secs(5),
            ready: Duration::from_secs(5),
            window: Duration::from_millis(60),
            rounds: 6,
            settle: Duration::from_millis(80),
            check: Duration::from_secs(120),
        }
    }

    async fn fresh(&self, kind: &str) -> Result<Setup, Gap> {
        let place = self.places.fetch_add(1, Ordering::Relaxed);
        let world = match &self.folder {
            None => World::new("scope-1"),
            Some(folder) => World::in_folder(folder.join(place.to_string()), "scope-1").map_err(Gap::broken)?,
        };
        world.all(|all| {
            all.latency = Some(Duration::from_millis(20));
            all.reply_latency = Some(Duration::from_millis(20));
            // The clock of a folder is the machine's, which a paused test does not move.
            all.ready_after = self.folder.is_none().then_some(Duration::from_millis(30));
            // Cancelled calls may land after their caller has left.
            all.lands_late = Some(place.is_multiple_of(2));
            all.attributes = BTreeMap::from([("endpoint".to_owned(), Value::from("localhost:5000"))]);
            all.computed = BTreeMap::from([("subnet".to_owned(), Value::from("10.0.0.0/24"))]);
        });
        Ok(Setup {
            provider: provider(world.provider(), self.flaw),
            lineage: format!("lineage-{place}"),
            case: case(kind),
            outside: Box::new(Listing { world, flaw: self.flaw }),
        })
    }
}

struct Listing {
    world: World,
    flaw: Option<Flaw>,
}

impl Listing {
    fn foreign(target: &Target) -> Thing {
        let fields = Value::map([("upstream", Value::from("elsewhere"))]);
        Thing::foreign(target.address.kind(), &target.identity.name, fields)
    }
}

#[async_trait]
impl Outside for Listing {
    async fn count(&self, target: &Target) -> Result<usize, Gap> {
        Ok(self.world.find(target.address.kind(), &target.identity.name).map_err(Gap::broken)?.len())
    }

    async fn make_unmarked(&self, target: &Target) -> Result<Option<String>, Gap> {
        Ok(Some(self.world.put(Self::foreign(target)).map_err(Gap::broken)?.id))
    }

    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap> {
        let thing = Thing { ownership: target.ownership, preexisting: false, ..Self::foreign(target) };
        self.world.put(thing.marked(mark.clone())).map_err(Gap::broken).map(drop)
    }

    async fn state(&self, target: &Target) -> Result<String, Gap> {
        self.world
            .find(target.address.kind(), &target.identity.name)
            .map(|found| format!("{found:?}"))
            .map_err(Gap::broken)
    }

    async fn broken(&self, how: Breakage) -> Result<Arc<dyn Provider>, Gap> {
        let connection = match how {
            Breakage::Refused => Connection::Refused,
            Breakage::Silent => Connection::Silent,
        };
        Ok(provider(self.world.provider().behind(connection), self.flaw))
    }

    async fn hold_back(&self, target: &Target) -> Result<(), Gap> {
        self.world.at(&target.address, |own| own.held_back = Some("it is held back".to_owned()));
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        for thing in self.world.things().map_err(Gap::broken)? {
            self.world.remove(&thing.kind, &thing.name).map_err(Gap::broken)?;
        }
        Ok(())
    }
}
