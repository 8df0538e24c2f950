//! Stages of an embedded cluster: a workload fails as the file asks, and comes up once the file does not ask for it any more.

use crate::support::ChosenPorts;
use crate::support::project::Project;

const HEAD: &str = "apiVersion: ksail.io/v1alpha1
kind: Cluster
metadata: {name: dev}
spec:
  cluster:
    provider: Embedded
  manifests: [web.yaml]
";

/// Containers of the web fail again and again.
const CRASHES: &str = "  provider:
    embedded:
      stages:
        - name: web-crashes
          kind: Pod
          matchLabels: {app: web}
          delay: 10ms
          status:
            phase: Running
            conditions: [{type: Ready, status: \"False\", reason: ContainersNotReady}]
            containerStatuses:
              - name: web
                image: nginx
                imageID: \"\"
                ready: false
                restartCount: 4
                state: {waiting: {reason: CrashLoopBackOff, message: the disk is full}}
";

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  progressDeadlineSeconds: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx}]}
";

#[test]
fn a_workload_fails_by_a_stage_and_comes_up_without_it() {
    let project = Project::empty(0);
    project.write("ksail.yaml", &format!("{HEAD}{CRASHES}"));
    project.write("web.yaml", WEB);
    let ports = ChosenPorts::lock();
    let failed = project.run(&["apply", "--auto-approve"]).code(3);
    drop(ports);
    failed.says("its rollout is stuck").says("ProgressDeadlineExceeded").says("CrashLoopBackOff: the disk is full");
    let kubeconfig = project.run(&["output", "kubeconfig"]).code(0).out;
    // Another stage is a change in place, and what a stage had done is judged by the new one.
    project.write("ksail.yaml", &format!("{HEAD}{}", CRASHES.replace("the disk is full", "no licence")));
    let plan = project.run(&["plan"]).code(0).says("stages").says("dev/cluster/main will be updated in-place");
    plan.says("the disk is full").says("no licence").says_not("destroyed");
    project.run(&["apply", "--auto-approve"]).code(3).says("CrashLoopBackOff: no licence");
    project.write("ksail.yaml", HEAD);
    assert_eq!(project.changes(&[])[..1], ["dev/cluster/main: update"]);
    project.apply();
    project.is_settled();
    assert_eq!(project.run(&["output", "kubeconfig"]).code(0).out, kubeconfig, "it is the same cluster");
}

#[test]
fn what_a_stage_cannot_say_is_told_before_anything_is_made() {
    let project = Project::empty(0);
    project.write("ksail.yaml", &format!("{HEAD}{}", CRASHES.replace("restartCount: 4", "restartCount: four")));
    project.write("web.yaml", WEB);
    let plan = project.run(&["plan"]).code(1);
    plan.says("`status.containerStatuses[0].restartCount` must be a whole number").says("ksail.yaml:23:31");
    assert!(!project.path().join(".ksail").exists());
}

/// A claim that is never filled, and what mounts it.
const NO_DISK: &str = "  provider:
    embedded:
      stages:
        - {name: no-disk, kind: PersistentVolumeClaim, namespace: default, status: {phase: Pending}}
";

const MOUNTED: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: default, annotations: {ksail.io/wait: \"false\"}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  progressDeadlineSeconds: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: nginx, volumeMounts: [{name: data, mountPath: /data}]}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

#[test]
fn a_workload_waits_for_a_claim_that_a_stage_holds() {
    let project = Project::empty(0);
    project.write("ksail.yaml", &format!("{HEAD}{NO_DISK}"));
    project.write("web.yaml", MOUNTED);
    let ports = ChosenPorts::lock();
    let failed = project.run(&["apply", "--auto-approve"]).code(3);
    drop(ports);
    failed.says("its rollout is stuck").says("pod has unbound immediate PersistentVolumeClaims");
    // Without the annotation the claim itself is waited for.
    let mounted = MOUNTED.replace(", annotations: {ksail.io/wait: \"false\"}", "");
    project.write("web.yaml", &mounted);
    project.run(&["apply", "--auto-approve", "--timeout", "4s"]).code(3).says("has not made its volume yet");
    project.write("ksail.yaml", HEAD);
    project.apply();
    project.is_settled();
}
