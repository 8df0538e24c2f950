//! Definitions of custom resources: what a real server refuses of them, recorded, is refused here with the same causes.

use std::collections::BTreeSet;

use ksail_test_real::variable;
use serde_json::Value;

use crate::harness::{Answer, Client, Served};

/// Definitions with what a real server says of them: a cause has its field, its reason, and its message unless that tells of a
/// library (of expressions, or of regular expressions) or of types of Go.
const RECORDED: &str = include_str!("definitions.json");
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";

fn causes(answer: &Answer, recorded: &Value) -> BTreeSet<String> {
    let open: Vec<&Value> =
        recorded.as_array().into_iter().flatten().filter(|cause| cause[2].is_null()).map(|cause| &cause[0]).collect();
    let cause = |cause: &Value| {
        let is_open = open.contains(&&cause["field"]);
        let message = if is_open { Value::Null } else { cause["message"].clone() };
        Value::from([cause["field"].clone(), cause["reason"].clone(), message].to_vec()).to_string()
    };
    answer.body["details"]["causes"].as_array().into_iter().flatten().map(cause).collect()
}

/// Asks for each, and answers what is not as it is recorded.
async fn differences(client: &Client, group: &str) -> Vec<String> {
    let recorded: Vec<Value> = serde_json::from_str(&RECORDED.replace("GROUP", group)).unwrap();
    assert!(recorded.len() > 100, "{} definitions", recorded.len());
    let mut found = Vec::new();
    for one in &recorded {
        let answer = client.post(DEFINITIONS, &one["definition"]).await;
        let wanted: BTreeSet<String> = one["causes"].as_array().unwrap().iter().map(Value::to_string).collect();
        let told = causes(&answer, &one["causes"]);
        let code = if wanted.is_empty() { 201 } else { 422 };
        if (answer.code, &told) != (code, &wanted) {
            found.push(format!("{}: {} {told:#?}, and {wanted:#?} is recorded", one["what"], answer.code));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_judged_as_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let found = differences(&served.client, "definitions.example.com").await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_judges_definitions_as_it_is_recorded() {
    let Some(kubeconfig) = variable("KSAIL_TEST_KUBECONFIG", "`testbed/kubernetes.sh env` sets it") else { return };
    let real = Client::of(&std::fs::read_to_string(kubeconfig).unwrap());
    let group = format!("definitions-{}.example.com", std::process::id());
    let found = differences(&real, &group).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}
