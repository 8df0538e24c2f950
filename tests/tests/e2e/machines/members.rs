//! Members of etcd keep the contract: the suite, on the control plane of a cluster that a test has.
//!
//! With one machine etcd is asked for no list, so that a member of any name can be taken up, which is what is kept of it in the cluster.
//! Those of several machines, which etcd lets in and takes out, are shown by the tests of control planes.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::suite::{Breakage, Case, Change, Gap, Limits, Outside, Setup, Subject, run};
use ksail_kinds::{EtcdMemberSpec, Spec as _};
use ksail_model::{Address, Identity, Mark, Ownership, Path};
use ksail_provider::{CallContext, CreateRequest, Provider, Target};
use ksail_provider_docker::{DockerProvider, Endpoint};
use tokio_util::sync::CancellationToken;

use super::World;
use crate::docker::name;
use crate::support::docker_socket;
use crate::support::engine::Engine;

/// How long an engine that is silent keeps it.
const SILENCE: Duration = Duration::from_secs(600);
const CALL: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Members {
    socket: PathBuf,
    cluster: String,
    control_plane: String,
    folder: Arc<tempfile::TempDir>,
}

fn spec(address: &str) -> EtcdMemberSpec {
    EtcdMemberSpec { peer: EtcdMemberSpec::peer_at(address), alarm: EtcdMemberSpec::NO_ALARM.to_owned() }
}

fn target(name: &str) -> Target {
    Target {
        address: Address::new("dev", EtcdMemberSpec::KIND, &["control-plane-0"]),
        kind_version: 1,
        identity: Identity::named(name),
        id: None,
        spec: Some(spec("192.0.2.1").to_value()),
        ownership: Ownership::Owned,
    }
}

impl Members {
    fn provider(&self) -> DockerProvider {
        DockerProvider::new(Endpoint::socket(&self.socket)).in_cluster(&self.cluster)
    }

    /// What kubectl says of what is kept of a member.
    fn kubectl(&self, verb: &str, target: &Target, more: &[&str]) -> Result<String, Gap> {
        let object = format!("configmap/ksail-{}-{}", EtcdMemberSpec::KIND, target.identity.name);
        let mut command = vec!["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--namespace=kube-system"];
        command.extend([verb, object.as_str(), "--ignore-not-found"]);
        command.extend(more);
        let (code, said) = Engine::at(&self.socket).exec(&self.control_plane, &command);
        if code == 0 { Ok(said) } else { Err(Gap::broken(said)) }
    }
}

#[async_trait]
impl Subject for Members {
    fn name(&self) -> String {
        "members of etcd, on docker".to_owned()
    }

    fn kinds(&self) -> Vec<String> {
        vec![EtcdMemberSpec::KIND.to_owned()]
    }

    async fn fresh(&self, _: &str) -> Result<Setup, Gap> {
        let made = target(&name("member"));
        let absent = Target { identity: Identity::named(name("absent")), ..made.clone() };
        let mut case = Case::new(made.clone(), absent);
        case.tells_operation = false;
        let other = spec("192.0.2.2").to_value();
        let changed = vec![Path::key("peer")];
        case.replacement = Some(Change { spec: other, secrets: std::collections::BTreeMap::new(), changed });
        let outside = Kept { members: self.clone(), target: made };
        Ok(Setup { provider: Arc::new(self.provider()), lineage: name("test-"), case, outside: Box::new(outside) })
    }

    fn limits(&self) -> Limits {
        Limits { rounds: 1, settle: Duration::from_millis(500), ..Limits::default() }
    }
}

/// What is kept of the members of one check.
struct Kept {
    members: Members,
    target: Target,
}

#[async_trait]
impl Outside for Kept {
    async fn count(&self, target: &Target) -> Result<usize, Gap> {
        Ok(self.members.kubectl("get", target, &["--output=name"])?.lines().count())
    }

    async fn make_unmarked(&self, _: &Target) -> Result<Option<String>, Gap> {
        Err(Gap::not_applicable("one that nobody has taken up counts as absent: it came with its machine"))
    }

    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap> {
        let (lineage, cancel) = (mark.lineage.clone(), CancellationToken::new());
        let context = CallContext { lineage, operation: None, timeout: CALL, cancel };
        let secrets = std::collections::BTreeMap::new();
        let request = CreateRequest { target: target.clone(), mark: mark.clone(), secrets };
        self.members.provider().create(&context, &request).await.map(drop).map_err(Gap::broken)
    }

    async fn state(&self, target: &Target) -> Result<String, Gap> {
        self.members.kubectl("get", target, &["--output=jsonpath={.metadata.uid} {.metadata.resourceVersion}"])
    }

    async fn broken(&self, how: Breakage) -> Result<Arc<dyn Provider>, Gap> {
        let path = self.members.folder.path().join(format!("{}.sock", name("s")));
        if how == Breakage::Silent {
            let listener = tokio::net::UnixListener::bind(&path).map_err(Gap::broken)?;
            tokio::spawn(async move {
                tokio::time::sleep(SILENCE).await;
                drop(listener);
            });
        }
        Ok(Arc::new(DockerProvider::new(Endpoint::socket(path)).in_cluster(&self.members.cluster)))
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        self.members.kubectl("delete", &self.target, &[]).map(drop)
    }
}

/// Runs the suite on a cluster with one control plane.
pub(super) fn conform(world: &World) {
    let members = Members {
        socket: docker_socket().expect("the engine"),
        cluster: world.cluster.clone(),
        control_plane: world.control_plane(),
        folder: Arc::new(tempfile::tempdir().expect("a folder")),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let report = runtime.block_on(run(&members));
    runtime.shutdown_background();
    let _ = writeln!(std::io::stdout(), "{report}");
    let failures: Vec<String> = report.failures().map(ToString::to_string).collect();
    assert!(!report.entries().is_empty() && failures.is_empty(), "members do not conform:\n{}", failures.join("\n"));
}
