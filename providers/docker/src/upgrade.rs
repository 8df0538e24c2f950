//! Another version of Kubernetes on a machine: what the new node image brings is put on what the machine keeps, kubeadm upgrades what
//! runs there, the pods leave, and only then another container takes the place of the old one. A control plane is never older than the
//! kubelets that it serves.
//!
//! Each part can be begun again: what was brought is known by the image, kubeadm's run is work that outlives its caller, and a node that
//! was emptied bears a sign until it takes pods again.

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateContainerOptions;
use ksail_kinds::{MachineRole, MachineSpec};
use ksail_provider::CallError;

use crate::call::Call;
use crate::control_plane::kubectl;
use crate::drain;
use crate::exec::{look, run};
use crate::machine;
use crate::node_images::{self, SNAPSHOTTER};
use crate::pinned;
use crate::steps::{self, FOLDER, Work};

/// The folder of kubeadm's run, and of what the new image brings.
const WORK: &str = "upgrade";
/// Where a helper sees what the machine keeps.
const KEPT: &str = "/kept";
/// How long a helper stays if nobody takes it away, in seconds.
const HELPER_LASTS: &str = "600";
/// How many lines of what was said a failure tells.
const TOLD: usize = 12;

/// Tells whether the machine is a node: only such a one is upgraded.
const IS_NODE: &str = "[ \"$(cat /var/lib/ksail/bootstrap/exit 2>/dev/null)\" = 0 ] || exit 100";

/// Puts kubeadm and the images of a node image on what a machine keeps. Arguments: the folder, the reference of the node image, the images
/// that the machine has already, a line each. Says the version of Kubernetes.
const BRING: &str = r#"
set -eu
folder=$1 image=$2 have=$3
version=$(kubeadm version -o short)
if [ "$(cat "$folder/brought" 2>/dev/null)" != "$image $version" ]; then
  mkdir -p "$folder"
  rm -f "$folder/brought"
  cp "$(command -v kubeadm)" "$folder/kubeadm"
  containerd >/tmp/containerd.log 2>&1 &
  tries=0
  until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge 300 ]; then echo "containerd does not start in the node image:" >&2; tail -n 5 /tmp/containerd.log >&2; exit 1; fi
    sleep 0.1
  done
  missing=
  for name in $(ctr --namespace=k8s.io images list --quiet); do
    case $name in sha256:* | *@*) continue ;; esac
    if ! printf '%s\n' "$have" | grep -Fqx "$name"; then missing="$missing $name"; fi
  done
  # shellcheck disable=SC2086 # Names without blanks.
  if [ -n "$missing" ]; then ctr --namespace=k8s.io images export "$folder/images.tar" $missing; fi
  printf '%s' "$image $version" >"$folder/brought.new"
  sync "$folder"/*
  mv "$folder/brought.new" "$folder/brought"
fi
echo "$version"
"#;

/// What kubeadm does on a machine: the cluster is upgraded where it is older, and then, or elsewhere, what is the machine's own.
fn program(role: MachineRole, version: &str) -> String {
    let load = format!(
        "set -eu\n{SNAPSHOTTER}images={FOLDER}/{WORK}/images.tar\nif [ -e \"$images\" ]; then\n  ctr --namespace=k8s.io images import --snapshotter \"$snapshotter\" \"$images\"\n  rm \"$images\"\nfi\n"
    );
    let kubeadm = format!("{FOLDER}/{WORK}/kubeadm");
    // Machines in containers do not pass the checks of a kernel's configuration. Certificates stay what they are: the administrator's
    // access is the same on all control planes, and users have it.
    let flags = "--ignore-preflight-errors=SystemVerification --certificate-renewal=false";
    let own = format!("{kubeadm} upgrade node {flags}\n");
    let of_role = match role {
        MachineRole::Worker => own,
        MachineRole::ControlPlane => format!(
            r#"known=$({kubectl} get configmap kubeadm-config --namespace=kube-system --output='jsonpath={{.data.ClusterConfiguration}}' | sed -n 's/^kubernetesVersion: *//p')
if [ "$known" = "{version}" ]; then
  {own}else
  {kubeadm} upgrade apply --yes {flags} {version}
fi
"#,
            kubectl = kubectl()
        ),
    };
    format!("{load}{of_role}")
}

/// Brings a machine that runs as far as it can be brought before its container is changed for one of the new image.
pub(crate) async fn prepare(call: &Call, name: &str, wanted: &MachineSpec) -> Result<(), CallError> {
    let doing = format!("upgrade the node `{name}`");
    if look(call, name, &doing, &["sh", "-c", IS_NODE]).await?.is_none_or(|output| !output.is_success()) {
        return Ok(());
    }
    let version = bring(call, name, &doing, wanted).await?;
    work(call, name, &doing, wanted.role, &version).await?;
    drain::empty(call, &wanted.cluster, name).await
}

/// Sees to it that a machine is upgraded to the version of its container's image: one whose container was lost got another one of the
/// new image without having been prepared for it.
pub(crate) async fn complete(call: &Call, name: &str, machine: &MachineSpec, version: &str) -> Result<(), CallError> {
    let doing = format!("upgrade the node `{name}`");
    if let Work::Done(begun) = steps::state(call, name, &doing, WORK).await?
        && begun.whose == version
    {
        return Ok(());
    }
    let brought = bring(call, name, &doing, machine).await?;
    if brought != version {
        let why = format!("its image `{}` brings {brought}, and {version} is declared", machine.image);
        return Err(call.refused(&doing, &why).hint("declare an image of that version, or the version of the image"));
    }
    work(call, name, &doing, machine.role, version).await
}

async fn work(call: &Call, name: &str, doing: &str, role: MachineRole, version: &str) -> Result<(), CallError> {
    let output = steps::work(call, name, doing, WORK, version, &program(role, version)).await?;
    if output.is_success() {
        return Ok(());
    }
    let told = format!("kubeadm failed:\n{}", output.end(TOLD));
    let hint = format!(
        "`docker exec {name} cat {FOLDER}/{WORK}/log` tells more; the same command tries again, and the node goes on as it was"
    );
    Err(call.refused(doing, &told).hint(hint))
}

/// Puts what the new image brings on what the machine keeps, and answers the version of Kubernetes.
async fn bring(call: &Call, name: &str, doing: &str, wanted: &MachineSpec) -> Result<String, CallError> {
    let have: Vec<String> = node_images::list(call, name, doing).await?.unwrap_or_default().into_keys().collect();
    let helper = format!("{name}-upgrade");
    let what = format!("the helper `{helper}`");
    machine::remove(call, &what, &helper).await?;
    let body = ContainerCreateBody {
        image: Some(wanted.image.clone()),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec![HELPER_LASTS.to_owned()]),
        host_config: Some(HostConfig {
            privileged: Some(true),
            // It goes by itself, and with it what it has of the image, should nobody be there any more to take it away.
            auto_remove: Some(true),
            binds: Some(vec![format!("{}:{KEPT}", wanted.volume)]),
            tmpfs: Some(["/tmp", "/run"].map(|path| (path.to_owned(), String::new())).into()),
            network_mode: Some("none".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let body = pinned::on_engine(call, doing, body).await?;
    let options = CreateContainerOptions { name: Some(helper.clone()), ..Default::default() };
    let made = call.change(doing, call.session.docker.create_container(Some(options), body)).await;
    made.map_err(|failed| failed.into_error(call, doing))?;
    let started = call.change(doing, call.session.docker.start_container(&helper, None)).await;
    started.map_err(|failed| failed.into_error(call, doing))?;
    let folder = format!("{KEPT}{}/{WORK}", FOLDER.trim_start_matches("/var"));
    let output =
        run(call, &helper, doing, &["sh", "-c", BRING, "sh", &folder, &wanted.image, &have.join("\n")], "").await;
    machine::remove(call, &what, &helper).await?;
    let output = output?;
    let version = output.stdout.trim().to_owned();
    if output.is_success() && version.starts_with('v') {
        Ok(version)
    } else {
        let hint = format!("is `{}` a node image?", wanted.image);
        Err(call.refused(doing, &output.end(TOLD)).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_upgrades_the_cluster_once() {
        let control_plane = program(MachineRole::ControlPlane, "v1.36.4");
        assert!(control_plane.contains(
            "upgrade apply --yes --ignore-preflight-errors=SystemVerification --certificate-renewal=false v1.36.4"
        ));
        assert!(
            control_plane
                .contains("if [ \"$known\" = \"v1.36.4\" ]; then\n  /var/lib/ksail/upgrade/kubeadm upgrade node")
        );
        let worker = program(MachineRole::Worker, "v1.36.4");
        assert!(worker.contains("kubeadm upgrade node") && !worker.contains("upgrade apply"));
    }
}
