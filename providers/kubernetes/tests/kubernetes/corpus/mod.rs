//! Objects of all kinds, awkward on purpose, in files below `tests/corpus/`: what life does to each of them, and what becomes of
//! each of their fields.

mod changes;
mod life;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use ksail_model::Readiness;
use ksail_test_real::tell;
use serde_json::Value as Json;

use crate::cluster::Cluster;
use changes::Outcomes;
use life::life;
use objects::{Case, load};

/// How many objects are worked on at the same time.
const AT_ONCE: usize = 16;
/// How long a CustomResourceDefinition may take to be established.
const SOON: Duration = Duration::from_secs(30);

/// Kinds that can be created and are no objects: a request and its answer, of which nothing stays.
const REQUESTS: [&str; 7] = [
    "Binding",
    "authentication.k8s.io.SelfSubjectReview",
    "authentication.k8s.io.TokenReview",
    "authorization.k8s.io.LocalSubjectAccessReview",
    "authorization.k8s.io.SelfSubjectAccessReview",
    "authorization.k8s.io.SelfSubjectRulesReview",
    "authorization.k8s.io.SubjectAccessReview",
];

/// All kinds that the server brings along and that can be created, by what it says itself: `apps/v1 Deployment`.
async fn creatable(cluster: &Cluster) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let groups = cluster.get("/apis").await.expect("the groups");
    let of_groups = groups["groups"].as_array().into_iter().flatten().flat_map(|group| {
        let versions = group["versions"].as_array().into_iter().flatten();
        versions.filter_map(|version| version["groupVersion"].as_str()).map(|version| format!("/apis/{version}"))
    });
    for path in std::iter::once("/api/v1".to_owned()).chain(of_groups) {
        let version = path.trim_start_matches("/apis/").trim_start_matches("/api/").to_owned();
        if is_custom(&version) {
            continue;
        }
        let Some(list) = cluster.get(&path).await else { continue };
        for resource in list["resources"].as_array().into_iter().flatten() {
            let is_created =
                resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "create"));
            // With a slash it is part of another.
            let name = resource["name"].as_str().unwrap_or_default();
            if is_created && !name.contains('/') {
                found.insert(format!("{version} {}", resource["kind"].as_str().unwrap_or_default()));
            }
        }
    }
    found
}

/// Whether a group's version is of a CustomResourceDefinition.
fn is_custom(version: &str) -> bool {
    version.split_once('/').is_some_and(|(group, _)| group.contains('.') && !group.ends_with(".k8s.io"))
}

fn is_request(kind: &str) -> bool {
    let (version, kind) = kind.split_once(' ').expect("a version and a kind");
    let group = version.split_once('/').map(|(group, _)| format!("{group}.")).unwrap_or_default();
    REQUESTS.contains(&format!("{group}{kind}").as_str())
}

/// A case that others need is made before them, and deleted after them.
struct Ground(Vec<Case>);

impl Ground {
    /// The namespaces, and the definitions of kinds of which there are objects.
    fn of(cluster: &Cluster, objects: &[Case]) -> (Self, Vec<Case>) {
        let used: BTreeSet<&str> = objects.iter().filter_map(|case| case.manifest["kind"].as_str()).collect();
        let is_used = |case: &Case| {
            case.manifest["kind"] == "CustomResourceDefinition"
                && case.manifest["spec"]["names"]["kind"].as_str().is_some_and(|kind| used.contains(kind))
        };
        let mut ground = objects::namespaces(cluster);
        let (definitions, others): (Vec<Case>, Vec<Case>) = objects.iter().cloned().partition(is_used);
        ground.extend(definitions);
        (Self(ground), others)
    }

    async fn make(&self, cluster: &Cluster) {
        for case in &self.0 {
            case.create(cluster).await.unwrap_or_else(|error| panic!("{}: {error}", case.target.address));
            let waited = cluster.wait(&case.target, SOON).await.unwrap();
            assert_eq!(waited.seen.readiness, Readiness::Ready, "{}", case.target.address);
        }
        objects::until_accounts_are_there(cluster).await;
    }

    async fn delete(&self, cluster: &Cluster) {
        let deletions = self.0.iter().rev().map(|case| cluster.delete(&case.target, false));
        let deleted: Vec<_> = futures::stream::iter(deletions).buffer_unordered(AT_ONCE).collect().await;
        for result in deleted {
            result.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_all_kinds_live_as_is_planned_and_so_does_each_of_their_fields() {
    let Some(cluster) = Cluster::real().await else { return };
    let objects = load(&cluster).await;
    let only = std::env::var("KSAIL_TEST_CORPUS").unwrap_or_default();
    let (ground, others) = Ground::of(&cluster, &objects);
    ground.make(&cluster).await;
    let chosen: Vec<&Case> = others.iter().filter(|case| case.target.address.as_str().contains(&only)).collect();
    let lives = chosen.iter().map(|case| life(&cluster, case));
    let results: Vec<Result<Outcomes, String>> = futures::stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let (mut sum, mut failures) = (Outcomes::default(), Vec::new());
    for result in results {
        match result {
            Ok(outcomes) => sum.add(&outcomes),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), chosen.len(), failures.join("\n\n"));
    ground.delete(&cluster).await;
    tell(&format!("{} objects; {sum}", chosen.len()));
    let left = objects::left(&cluster).await;
    assert!(left.is_empty(), "{left:?}");
    // Most changes of most kinds are such that they say something.
    if only.is_empty() {
        assert!(objects.len() >= 190, "{} objects", objects.len());
        assert!(sum.in_place > 1000 && sum.replacing > 100 && sum.refused > 500, "{sum}");
    }
}

#[tokio::test]
async fn every_built_in_kind_that_can_be_created_is_in_the_corpus() {
    let Some(cluster) = Cluster::real().await else { return };
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for case in load(&cluster).await {
        let text = |key: &str| case.manifest[key].as_str().unwrap_or_default().to_owned();
        *count.entry(format!("{} {}", text("apiVersion"), text("kind"))).or_default() += 1;
    }
    let served = creatable(&cluster).await;
    assert!(served.len() > 60, "{served:?}");
    let missing: Vec<&String> =
        served.iter().filter(|kind| !is_request(kind) && !count.contains_key(kind.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let requests = served.iter().filter(|kind| is_request(kind)).count();
    assert_eq!(requests, REQUESTS.len(), "a request is not served any more");
    let unknown: Vec<&String> = count
        .keys()
        .filter(|kind| !served.contains(*kind) && !is_custom(kind.split(' ').next().unwrap_or_default()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn pretty(value: &Json) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
