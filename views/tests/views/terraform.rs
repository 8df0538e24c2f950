//! Every key of our plan JSON is one that the installed Terraform writes, with the same type.
//!
//! Only the resources that are built into Terraform are used, so that nothing is downloaded. They cannot drift by
//! themselves, nor fail to be destroyed: `resource_drift` comes from a move seen by `-refresh-only`, and the deposed
//! generation is written into the state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

use crate::json_goldens::rendered;

/// Older ones lack some of the keys.
const OLDEST_MINOR: u32 = 11;

type Types = BTreeMap<String, BTreeSet<&'static str>>;

const fn type_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// Maps whose keys are names that users choose.
const NAMED: [&str; 7] = [
    "variables",
    "planned_values.outputs",
    "prior_state.values.outputs",
    "output_changes",
    "configuration.provider_config",
    "configuration.root_module.outputs",
    "configuration.root_module.resources[].expressions",
];

/// Keys whose content has the shape of a resource.
const OPAQUE: [&str; 7] =
    ["before", "after", "after_unknown", "before_sensitive", "after_sensitive", "values", "sensitive_values"];

/// Keys that hold any value at all.
const ANY: [&str; 4] = ["output_changes.*.before", "output_changes.*.after", ".value", ".constant_value"];

fn collect(json: &Json, path: &str, found: &mut Types) {
    let last = path.rsplit('.').next().unwrap_or_default();
    let is_any = ANY.iter().any(|any| if any.starts_with('.') { path.ends_with(any) } else { path == *any });
    found.entry(path.to_owned()).or_default().insert(if is_any { "any" } else { type_of(json) });
    if is_any || (OPAQUE.contains(&last) && path != "prior_state.values") {
        return;
    }
    match json {
        Json::Array(list) => list.iter().for_each(|element| collect(element, &format!("{path}[]"), found)),
        Json::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| *key != "ksail") {
                let key = if NAMED.contains(&path) { "*" } else { key };
                let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                collect(value, &below, found);
            }
        }
        _ => {}
    }
}

struct Terraform<'a>(&'a Path);

impl Terraform<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("terraform")
            .args(arguments)
            .current_dir(self.0)
            .env_remove("TF_CLI_CONFIG_FILE")
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_IN_AUTOMATION", "1")
            .output()
            .expect("terraform runs")
    }

    fn must(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(output.status.success(), "terraform {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn write(&self, text: &str) {
        std::fs::write(self.0.join("main.tf"), text).expect("a file");
    }

    /// Plans, and adds what `show -json` writes.
    fn plan(&self, options: &[&str], found: &mut Types) {
        self.must(&[&["plan", "-no-color", "-input=false", "-out=plan"], options].concat());
        let output = self.must(&["show", "-json", "plan"]);
        let json: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        collect(&json, "", found);
    }

    fn apply(&self) -> Output {
        self.run(&["apply", "-no-color", "-input=false", "-auto-approve"])
    }
}

const FIRST: &str = r#"
resource "terraform_data" "changed" { input = { list = ["a"], secret = sensitive("x") } }
resource "terraform_data" "replaced" { triggers_replace = ["a"] }
resource "terraform_data" "deleted" { input = terraform_data.changed.output.list[0] }
resource "terraform_data" "former" { input = 1 }
resource "terraform_data" "forgotten" { depends_on = [terraform_data.former] }
resource "terraform_data" "kept" { input = "kept" }
import {
  to = terraform_data.imported
  id = "some-id"
}
resource "terraform_data" "imported" {}
output "unknown" { value = terraform_data.changed.output }
output "constant" { value = "x" }
output "gone" { value = terraform_data.former.output }
output "secret" {
  value     = sensitive("x")
  sensitive = true
}
"#;

const SECOND: &str = r#"
resource "terraform_data" "changed" { input = { list = ["b"], secret = sensitive("y") } }
resource "terraform_data" "replaced" { triggers_replace = ["b"] }
moved {
  from = terraform_data.former
  to   = terraform_data.moved
}
resource "terraform_data" "moved" {
  input      = 1
  depends_on = [terraform_data.changed]
}
removed {
  from = terraform_data.forgotten
  lifecycle { destroy = false }
}
resource "terraform_data" "kept" { input = "kept" }
output "unknown" { value = terraform_data.changed.output }
output "constant" { value = "y" }
output "secret" {
  value     = sensitive("y")
  sensitive = true
}
"#;

/// Gives the state of a resource a deposed generation, as a replacement that was cut short leaves behind.
fn depose(folder: &Path) {
    let file = folder.join("terraform.tfstate");
    let mut state: Json = serde_json::from_slice(&std::fs::read(&file).expect("a state")).expect("JSON");
    let resources = state["resources"].as_array_mut().expect("a list");
    let kept = resources.iter_mut().find(|resource| resource["name"] == "kept").expect("the resource");
    let instances = kept["instances"].as_array_mut().expect("a list");
    let mut old = instances[0].clone();
    old["deposed"] = "a1b2c3d4".into();
    instances.push(old);
    std::fs::write(&file, state.to_string()).expect("a file");
}

fn terraform_types(folder: &Path) -> Types {
    let mut found = Types::new();
    let terraform = Terraform(folder);
    terraform.write(FIRST);
    terraform.must(&["init", "-no-color", "-input=false"]);
    terraform.plan(&[], &mut found);
    assert!(terraform.apply().status.success());
    terraform.plan(&[], &mut found);
    terraform.write(SECOND);
    terraform.plan(&["-refresh-only"], &mut found);
    terraform.plan(&[], &mut found);
    assert!(terraform.apply().status.success());
    depose(folder);
    terraform.plan(&[], &mut found);
    terraform.plan(&["-destroy"], &mut found);
    found
}

#[test]
fn each_key_is_one_of_terraforms_with_its_type() {
    let Ok(version) = Command::new("terraform").args(["version", "-json"]).env_remove("TF_CLI_CONFIG_FILE").output()
    else {
        return ksail_test_real::did_not_run("terraform is not installed");
    };
    let version: Json = serde_json::from_slice(&version.stdout).expect("JSON");
    let version = version["terraform_version"].as_str().expect("a version");
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    if version.starts_with("0.") || minor < OLDEST_MINOR {
        return ksail_test_real::did_not_run("terraform is older than the one whose plan JSON this is");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut theirs = terraform_types(folder.path());
    // Terraform writes changes and drift with the same code; what is built in cannot vanish, which would give the rest.
    let of_drift = |path: &String| {
        path.strip_prefix("resource_changes[].change.").map(|rest| format!("resource_drift[].change.{rest}"))
    };
    let more: Vec<_> = theirs.iter().filter_map(|(path, types)| Some((of_drift(path)?, types.clone()))).collect();
    for (path, types) in more {
        theirs.entry(path).or_default().extend(types);
    }
    // What the comparison relies on was really seen.
    for path in
        ["resource_changes[].deposed", "resource_changes[].change.importing.id", "resource_drift[].change.actions[]"]
    {
        assert!(theirs.contains_key(path), "terraform did not write {path}");
    }
    let mut wrong = Vec::new();
    for (name, plan) in rendered() {
        let mut ours = Types::new();
        collect(&plan, "", &mut ours);
        for (path, types) in ours {
            match theirs.get(&path) {
                None => wrong.push(format!("{name}: {path} is not a key of terraform's")),
                Some(known) => wrong.extend(
                    types.difference(known).map(|of| format!("{name}: {path} is {of}, terraform writes {known:?}")),
                ),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
