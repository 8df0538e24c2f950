//! Secrets: by reference, and in nothing that is written or said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::files_below;
use crate::support::project::Project;

fn with_secret(project: &Project) {
    let text = format!(
        "    - host: private.example.com\n      port: {}\n      username: ${{CANARY_USER}}\n      password: ${{CANARY_TOKEN}}\n",
        project.mirror_port("private.example.com")
    );
    project.declare(&["docker.io"], &text);
}

#[test]
fn a_registry_elsewhere_is_an_output_without_its_credential() {
    let mut project = Project::empty(0);
    project.write(
        "ksail.yaml",
        "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata: {name: dev}\nspec:\n  cluster:\n    distribution: None\n    provider: Embedded\n    localRegistry:\n      registry: 'user:${CANARY_TOKEN}@ghcr.io/owner'\n",
    );
    project.run(&["validate"]).code(0);
    project.run(&["plan"]).code(1).says("KS0124").says("CANARY_TOKEN");
    project.set_env("CANARY_TOKEN", "hunter2");
    project.run(&["plan"]).code(0).says("+ registry = \"ghcr.io/owner\"").says_not("hunter2");
    project.apply_first();
    project.run(&["output", "registry"]).code(0).says("ghcr.io/owner").says_not("hunter2");
    project.is_settled();
    // An output alone is a change too.
    let file = project.read("ksail.yaml").replace("ghcr.io/owner", "ghcr.io/other");
    project.write("ksail.yaml", &file);
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("~ registry = \"ghcr.io/owner\" -> \"ghcr.io/other\"");
    project.run(&["apply", "--auto-approve"]).code(0);
    project.run(&["output", "registry"]).code(0).says("ghcr.io/other");
    project.is_settled();
}

#[test]
fn an_unset_secret_is_an_error_when_planning() {
    let mut project = Project::quickstart();
    with_secret(&project);
    project.set_env("CANARY_USER", "robot");
    project.run(&["plan"]).code(1).says("KS0124").says("CANARY_TOKEN");
    project.run(&["validate"]).code(0);
}

#[test]
fn a_rotated_secret_is_a_change_that_is_shown_without_its_value() {
    let mut project = Project::quickstart();
    with_secret(&project);
    project.set_env("CANARY_USER", "robot");
    project.set_env("CANARY_TOKEN", "one-of-them");
    project.apply_first();
    project.is_settled();
    project.set_env("CANARY_TOKEN", "another-one");
    project
        .run(&["plan", "--detailed-exitcode"])
        .code(2)
        .says("dev/mirror/private.example.com")
        .says("(sensitive value)")
        .says_not("another-one")
        .says_not("one-of-them");
    project.apply();
    let environment = project.engine().inspect("dev-mirror-private.example.com")["Config"]["Env"].to_string();
    assert!(environment.contains("another-one"), "the new secret is in use");
    project.is_settled();
}

#[test]
fn a_secret_changed_between_plan_and_apply_refuses_the_plan() {
    let mut project = Project::quickstart();
    with_secret(&project);
    project.set_env("CANARY_USER", "robot");
    project.set_env("CANARY_TOKEN", "one-of-them");
    project.apply_first();
    project.set_env("CANARY_TOKEN", "another-one");
    project.run(&["plan", "--out", "plan.json"]).code(0);
    project.set_env("CANARY_TOKEN", "a-third-one");
    project
        .run(&["apply", "plan.json"])
        .code(4)
        .says("KS0301")
        .says("dev/mirror/private.example.com has another value")
        .says_not("a-third-one");
    project.unset_env("CANARY_TOKEN");
    project.run(&["apply", "plan.json"]).code(1).says("KS0601").says("CANARY_TOKEN");
    let environment = project.engine().inspect("dev-mirror-private.example.com")["Config"]["Env"].to_string();
    assert!(environment.contains("one-of-them"), "the earlier secret is in use");
}

#[test]
fn a_secret_is_in_nothing_that_is_written_or_said() {
    let (user, token) = ("canary-user-5f0c19", "canary-token-8a3e77");
    let mut project = Project::quickstart();
    with_secret(&project);
    project.set_env("CANARY_USER", user);
    project.set_env("CANARY_TOKEN", token);
    project.set_env("KSAIL_LOG", "trace");
    let _ports = crate::support::ChosenPorts::lock();
    let mut runs = vec![
        project.run(&["validate", "-v"]),
        project.run(&["plan", "-v", "--out", "plan.json"]),
        project.run(&["show", "plan.json", "--format", "json"]),
        project.run(&["apply", "plan.json", "-v"]),
        project.run(&["plan", "--format", "json"]),
        project.run(&["state", "pull"]),
        project.run(&["state", "show", "mirror/private.example.com", "--format", "json"]),
        project.run(&["output", "--format", "json"]),
        project.run(&["explain", "mirror/private.example.com"]),
        project.run(&["graph"]),
    ];
    project.engine().remove_container("dev-mirror-private.example.com");
    runs.push(project.run(&["apply", "--auto-approve", "--format", "json"]));
    runs.push(project.run(&["state", "history", "--format", "json"]));
    for run in &runs {
        assert_eq!(run.code, Some(0), "{run}");
    }
    let forbidden: Vec<String> = [user, token]
        .iter()
        .flat_map(|text| [(*text).to_owned(), STANDARD.encode(text), STANDARD.encode(format!("{user}:{token}"))])
        .collect();
    for run in &runs {
        for text in &forbidden {
            assert!(!run.out.contains(text) && !run.err.contains(text), "{text} is said by {run}");
        }
    }
    // The engine itself has to keep the environment of its containers, as any Docker Engine does, readable by its owner only.
    let containers = project.engine_folder().join("state/containers");
    for path in files_below(project.path()) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let found = forbidden.iter().any(|secret| text.contains(secret.as_str()));
        if path.starts_with(&containers) {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
            continue;
        }
        assert!(!found, "a secret is in {}", path.display());
    }
    for path in files_below(project.home()) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!forbidden.iter().any(|secret| text.contains(secret.as_str())), "a secret is in {}", path.display());
    }
    project.run(&["destroy", "--auto-approve"]).code(0);
}
