//! What scripts of KSail users hold runs: its commands and its flags, and no question where KSail asks none.

use crate::support::project::Project;
use crate::support::{ChosenPorts, free_port};

#[test]
fn a_script_of_a_ksail_user_runs() {
    let project = Project::empty(0);
    let registry = format!("localhost:{}", free_port());
    let _ports = ChosenPorts::lock();
    project
        .run(&[
            "cluster",
            "init",
            "--name",
            "dev",
            "--distribution",
            "none",
            "--provider",
            "Embedded",
            "--local-registry",
            &registry,
            "--mirror-registry",
            "docker.io=https://registry-1.docker.io",
            "--mirror-registry",
            "ghcr.io,quay.io",
            "--gitops-engine",
            "None",
        ])
        .code(0);
    let file = project.read("ksail.yaml");
    for text in [registry.as_str(), "upstream: \"https://registry-1.docker.io\"", "quay.io", "gitOpsEngine: None"] {
        assert!(file.contains(text), "{text} is missing in {file}");
    }
    project.run(&["cluster", "create"]).code(0).says("Apply complete");
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), Some(true));
    project.run(&["cluster", "update", "--dry-run"]).code(0).says("No changes");
    let diff = project.run(&["cluster", "diff", "--output", "json", "--exit-code"]).code(0).json();
    assert_eq!(diff["ksail"]["counts"]["create"], 0, "{diff}");
    let more = ["--mirror-registry", "registry.k8s.io", "--metrics-server", "Disabled"];
    let with = |command: &[&'static str]| [command, &more[..]].concat();
    project.run(&with(&["cluster", "diff", "--exit-code"])).code(2).says("dev/mirror/registry.k8s.io");
    project.run(&with(&["cluster", "update"])).code(0).says("for this run");
    assert_eq!(project.engine().is_running("dev-mirror-registry.k8s.io"), Some(true));
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), Some(true), "those of the file stay");
    // What was there for one run only would go: nobody said yes to that.
    project.run(&["cluster", "update"]).code(1).says("KS0304").says("--force");
    assert_eq!(project.engine().is_running("dev-mirror-registry.k8s.io"), Some(true));
    project.run(&["cluster", "update", "--force"]).code(0);
    assert_eq!(project.engine().is_running("dev-mirror-registry.k8s.io"), None);
    project.run(&["cluster", "create", "--ttl", "1h"]).code(1).says("KS0702").says("destroy");
    project.run(&["cluster", "delete"]).code(1).says("KS0304").says("cluster delete --force");
    project.run(&["cluster", "delete", "--force", "--delete-storage"]).code(0).says("Apply complete");
    assert!(project.engine_pids().is_empty());
}

#[test]
fn a_new_project_takes_what_ksail_knows_and_says_what_is_not_built() {
    let project = Project::empty(0);
    let init = ["cluster", "init", "--output", "shop", "--name", "shop"];
    let flags = ["--distribution", "vanilla", "--provider", "Docker", "--cni", "Cilium", "--workers", "2"];
    project.run(&[&init[..], &flags[..]].concat()).code(0).says("warning").says("cni Cilium");
    let file = project.read("shop/ksail.yaml");
    for text in ["name: shop", "distribution: Vanilla", "provider: Docker", "cni: Cilium", "workers: 2"] {
        assert!(file.contains(text), "{text} is missing in {file}");
    }
    project.run(&["-C", "shop", "cluster", "create"]).code(1).says("cni Cilium").says("distribution: None");
    project.run(&["cluster", "init", "--distribution", "kinda"]).code(1).says("Vanilla");
}

#[test]
fn init_refuses_what_would_not_validate() {
    let project = Project::empty(0);
    project.write("ksail.yaml", "mine");
    project.run(&["init", "--force", "--name", "Bad Name"]).code(1).says("KS0113").says("Bad Name");
    assert_eq!(project.read("ksail.yaml"), "mine");
    project.run(&["cluster", "init", "--force", "--mirror-registry", "me:secret@ghcr.io"]).code(1).says_not("secret");
    assert_eq!(project.read("ksail.yaml"), "mine");
    assert!(!project.path().join(".gitignore").exists());
    project.run(&["init", "-C", "new", "--name", "Bad Name"]).code(1);
    assert!(!project.path().join("new").exists());
    let told = project.run(&["init", "--force", "--name", "dev", "--format", "json"]).code(0);
    assert_eq!(told.err, "");
    assert!(told.json()["wrote"][0].as_str().unwrap().ends_with("ksail.yaml"), "{told}");
}
