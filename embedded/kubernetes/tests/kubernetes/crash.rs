//! What was answered is there after a kill at any moment.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Served};

/// Names the folder to the child that serves it.
const FOLDER: &str = "KSAIL_TEST_SERVED_FOLDER";
const ROUNDS: u64 = 4;
const WRITERS: u64 = 8;

/// Serves a folder in a process of its own, which can be killed: a child of this test runs it with the variable set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_in_a_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let served = Served::open(folder).await;
    let path = folder.join("kubeconfig");
    std::fs::write(folder.join("kubeconfig.tmp"), &served.kubeconfig).unwrap();
    std::fs::rename(folder.join("kubeconfig.tmp"), &path).unwrap();
    std::future::pending::<()>().await;
}

async fn spawn(folder: &Path) -> (Child, Client) {
    let _ = std::fs::remove_file(folder.join("kubeconfig"));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::serve_in_a_child", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..3000 {
        if let Ok(kubeconfig) = std::fs::read_to_string(folder.join("kubeconfig")) {
            return (child, Client::of(&kubeconfig));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    panic!("the child does not serve: {ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut answered = std::collections::BTreeMap::new();
    let mut deleted = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let (mut child, client) = spawn(folder.path()).await;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let client = client.clone();
            writers.push(tokio::spawn(async move {
                let mut kept = Vec::new();
                let mut gone = Vec::new();
                for index in 0_u64.. {
                    let name = format!("r{round}-w{writer}-{index}");
                    let path = format!("/api/v1/namespaces/default/configmaps/{name}");
                    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"i": index.to_string()}});
                    let of = "application/apply-patch+yaml";
                    let asked = client.try_ask("PATCH", &format!("{path}?fieldManager=w"), of, Some(&map)).await;
                    let Ok(answer) = asked else { break };
                    assert_eq!(answer.code, 201, "{:?}", answer.body);
                    if index % 5 == 4 {
                        match client.try_ask("DELETE", &path, "application/json", None).await {
                            Ok(answer) if answer.code == 200 => gone.push(name),
                            // Whether it was deleted is not known, so it is not judged.
                            _ => break,
                        }
                    } else {
                        kept.push((name, answer.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned()));
                    }
                }
                (kept, gone)
            }));
        }
        // The moment does not matter: each round ends in the middle of whatever is written then.
        tokio::time::sleep(Duration::from_millis(150 + 130 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for writer in writers {
            let (kept, gone) = writer.await.unwrap();
            answered.extend(kept);
            deleted.extend(gone);
        }
    }
    assert!(answered.len() > 20, "only {} were answered", answered.len());
    let served = Served::open(folder.path()).await;
    let list = served.client.get("/api/v1/namespaces/default/configmaps").await.body;
    let found: std::collections::BTreeMap<String, String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let text = |field: &str| item["metadata"][field].as_str().unwrap().to_owned();
            (text("name"), text("resourceVersion"))
        })
        .collect();
    for (name, version) in &answered {
        assert_eq!(found.get(name), Some(version), "{name}");
    }
    for name in &deleted {
        assert!(!found.contains_key(name), "{name} was deleted");
    }
    served.stop().await;
}
