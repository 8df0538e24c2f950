//! What is written, what is left alone, and what is seen.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use ksail_kinds::{KubeconfigSpec, Spec as _};
use ksail_model::{Observation, Path, Value};
use ksail_provider::{
    CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, Provider as _, Target,
};
use ksail_provider_kubeconfig::MachineFiles;

use crate::support::{OTHERS, TOKEN, World, context, mark, named};

#[tokio::test]
async fn entries_are_merged_and_taken_out_again() {
    let world = World::new();
    world.write(OTHERS);
    let made = world.create().await.unwrap();
    assert_eq!(Some(&made.seen.fields), world.target().spec.as_ref());
    assert_eq!(made.seen.attributes, Value::map([("id", "ksail-dev"), ("former_context", "work")]));
    assert_eq!(world.seen().await, made.seen);
    let said = world.said();
    assert_eq!(named(&said, "ksail-dev"), [1, 1, 1]);
    assert_eq!(said["current-context"], "ksail-dev");
    assert_eq!(said["users"][1]["user"]["token"], TOKEN);
    assert_eq!(said["clusters"][1]["cluster"]["certificate-authority-data"], "Y2E=");
    // The others' words are all there, in their order.
    let kept: Vec<&str> = OTHERS.lines().filter(|line| !line.starts_with("current-context")).collect();
    let mut lines = world.text().lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
    assert!(kept.iter().all(|line| lines.any(|have| have == **line)), "{}", world.text());
    assert!(world.text().contains("current-context: ksail-dev # for now\n"));
    assert_eq!(world.delete().await.unwrap(), Deleted::Gone);
    assert_eq!(world.text(), OTHERS);
    assert_eq!(world.delete().await.unwrap(), Deleted::WasAbsent);
}

#[tokio::test]
async fn a_file_is_made_for_its_user_alone() {
    let world = World::new();
    assert_eq!(world.see().await, Observation::Absent);
    world.create().await.unwrap();
    assert_eq!(world.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(world.file().parent().unwrap()).unwrap().count(), 1, "no lock is left");
    world.delete().await.unwrap();
    assert_eq!(world.said()["current-context"], "");
}

#[tokio::test]
async fn no_credential_is_told() {
    let world = World::new();
    let made = world.create().await.unwrap();
    let owned = world.provider().list_owned(&context()).await.unwrap();
    assert_eq!(owned.len(), 1);
    let told = format!("{:?} {:?} {owned:?}", made, world.seen().await);
    assert!(!told.contains(TOKEN) && !told.contains("Y2E="), "{told}");
    assert!(world.text().contains(TOKEN));
}

/// A machine whose credentials are those of a file, while it runs.
struct Machine(Option<std::path::PathBuf>);

#[async_trait::async_trait]
impl MachineFiles for Machine {
    async fn kubeconfig(&self, context: &CallContext, machine: &str) -> Result<Arc<str>, CallError> {
        assert!(machine == "dev" && !context.timeout.is_zero());
        // As one that is asked over a connection.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        match &self.0 {
            Some(file) => Ok(std::fs::read_to_string(file).unwrap().into()),
            None => Err(CallError::unreachable("the machine does not run")),
        }
    }
}

#[tokio::test]
async fn credentials_may_lie_in_a_machine() {
    let world = World::new();
    world.write(OTHERS);
    let mut target = world.target();
    let source = KubeconfigSpec::source_in("dev");
    target.spec.as_mut().unwrap().set(&Path::key("source"), Value::from(source.as_str()));
    let provider = |file| world.provider().machines(Arc::new(Machine(file)));
    let create = |target: &Target| CreateRequest { target: target.clone(), mark: mark("l1"), secrets: BTreeMap::new() };
    // One that does not run tells no credentials, and nothing is written.
    let error = provider(None).create(&context(), &create(&target)).await.unwrap_err();
    assert!(error.message.contains("the machine does not run"), "{error:?}");
    assert_eq!(world.text(), OTHERS);
    let made = provider(Some(world.source())).create(&context(), &create(&target)).await.unwrap();
    assert_eq!(made.seen.fields.field("source").and_then(Value::as_str), Some(source.as_str()));
    assert_eq!(world.said()["users"][1]["user"]["token"], TOKEN);
    // Other credentials are seen; a machine that does not run is no reason to mend anything.
    world.rotate("another");
    for (file, wanted) in [(Some(world.source()), "outdated"), (None, "current")] {
        let seen = provider(file).observe(&context(), &[target.clone()]).await.unwrap().observations.remove(0);
        let fields = &seen.seen().unwrap().fields;
        assert_eq!(fields.field("credentials").and_then(Value::as_str), Some(wanted));
    }
    let request = DeleteRequest { target, mark: mark("l1"), adopted: false, attributes: Value::empty_map() };
    assert_eq!(provider(None).delete(&context(), &request).await.unwrap(), Deleted::Gone);
    assert_eq!(world.text(), OTHERS);
}

#[tokio::test]
async fn what_its_user_adds_stays_and_what_is_changed_is_seen_and_mended() {
    let world = World::new();
    world.write(OTHERS);
    world.create().await.unwrap();
    let check = async |from: &str, to: &str, field: &str, value: Option<&str>| {
        let before = world.text();
        assert!(before.contains(from), "{before}");
        world.write(&before.replace(from, to));
        let seen = world.seen().await;
        assert_eq!(seen.fields.field(field).and_then(Value::as_str), value, "{}", world.text());
        world.update(&[field]).await.unwrap();
        assert_eq!(Some(&world.seen().await.fields), world.target().spec.as_ref());
    };
    let mine = world.text().replace("    user: ksail-dev\n", "    namespace: shop\n    user: ksail-dev\n");
    world.write(&mine);
    assert_eq!(Some(&world.seen().await.fields), world.target().spec.as_ref(), "a namespace is its user's business");
    check("server: https://127.0.0.1:6443", "server: https://10.0.0.1:6443", "server", Some("https://10.0.0.1:6443"))
        .await;
    check(TOKEN, "another", "credentials", Some("outdated")).await;
    check("    user: ksail-dev\n", "    user: me\n", "user", Some("me")).await;
    assert!(world.text().contains("namespace: shop\n    user: ksail-dev\n"), "{}", world.text());
    // One of the three is taken out by hand.
    let said = world.said();
    let gone = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ksail-dev", "users": said["users"],
        "contexts": said["contexts"], "clusters": [said["clusters"][0]],
    });
    world.write(&gone.to_string());
    assert_eq!(world.seen().await.fields.field("cluster"), None);
    world.update(&["cluster", "server", "credentials"]).await.unwrap();
    assert_eq!(Some(&world.seen().await.fields), world.target().spec.as_ref());
    assert_eq!(named(&world.said(), "ksail-dev"), [1, 1, 1]);
}

#[tokio::test]
async fn a_rotated_credential_is_seen() {
    let world = World::new();
    world.create().await.unwrap();
    world.rotate("the-next-token");
    let outdated = KubeconfigSpec::credentials(false);
    assert_eq!(world.seen().await.fields.field("credentials").and_then(Value::as_str), Some(outdated));
    world.update(&["credentials"]).await.unwrap();
    assert!(world.text().contains("the-next-token") && !world.text().contains(TOKEN));
    // A source that cannot be read tells nothing of what is there.
    std::fs::remove_file(world.source()).unwrap();
    assert_eq!(Some(&world.seen().await.fields), world.target().spec.as_ref());
}

#[tokio::test]
async fn credentials_at_their_end_are_outdated_though_the_cluster_has_no_others_yet() {
    let world = World::new();
    let said = |until: i32| {
        let mut parameters = rcgen::CertificateParams::new(vec!["admin".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(2025, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        let pem = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let text = std::fs::read_to_string(world.source()).unwrap();
        let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem);
        let user = format!("client-certificate-data: {data}");
        let line =
            text.lines().find(|line| line.contains("token:") || line.contains("client-certificate-data:")).unwrap();
        std::fs::write(world.source(), text.replace(line.trim(), &user)).unwrap();
    };
    said(2026);
    world.create().await.unwrap();
    let credentials =
        async || world.seen().await.fields.field("credentials").and_then(Value::as_str).map(str::to_owned);
    assert_eq!(credentials().await.as_deref(), Some(KubeconfigSpec::credentials(false)));
    said(2900);
    world.update(&["credentials"]).await.unwrap();
    assert_eq!(credentials().await.as_deref(), Some(KubeconfigSpec::credentials(true)));
}

#[tokio::test]
async fn the_context_is_given_back_only_where_ours_is_the_current_one() {
    let world = World::new();
    world.write(OTHERS);
    world.create().await.unwrap();
    world.write(&world.text().replace("current-context: ksail-dev", "current-context: mine"));
    assert_eq!(Some(&world.seen().await.fields), world.target().spec.as_ref(), "which is current is no drift");
    world.update(&["server"]).await.unwrap();
    assert_eq!(world.said()["current-context"], "mine");
    world.delete().await.unwrap();
    assert_eq!(world.said()["current-context"], "mine");
    // What was the current one is not there any more.
    world.write(&OTHERS.replace("current-context: work", "current-context: gone"));
    world.create().await.unwrap();
    world.delete().await.unwrap();
    assert_eq!(world.said()["current-context"], "");
}

#[tokio::test]
async fn what_bears_the_name_and_is_not_ours_is_left_alone() {
    let world = World::new();
    for others in
        ["users:\n- name: ksail-dev\n  user: {}\n", "contexts:\n- name: ksail-dev\n", "clusters: [{name: ksail-dev}]\n"]
    {
        world.write(others);
        assert_eq!(world.seen().await.mark, None);
        assert_eq!(world.create().await.unwrap_err().kind, CallErrorKind::NotOurs);
        assert_eq!(world.delete().await.unwrap_err().kind, CallErrorKind::NotOurs);
        assert_eq!(world.text(), others);
    }
    world.write("");
    world.create().await.unwrap();
    world.write(&world.text().replace("lineage: l1", "lineage: l2"));
    assert_eq!(world.seen().await.mark, Some(mark("l2")));
    assert_eq!(world.update(&["server"]).await.unwrap_err().kind, CallErrorKind::NotOurs);
}

#[tokio::test]
async fn of_several_files_the_others_are_looked_at_too() {
    let mut world = World::new();
    let other = world.path().join("other");
    world.kubeconfig = Some(format!("{}:{}", world.file().display(), other.display()));
    std::fs::write(&other, "contexts:\n- name: ksail-dev\n").unwrap();
    assert_eq!(world.seen().await.mark, None);
    assert_eq!(world.create().await.unwrap_err().kind, CallErrorKind::NotOurs);
    std::fs::write(&other, "contexts:\n- name: b\n").unwrap();
    world.create().await.unwrap();
    assert_eq!(world.seen().await.mark, Some(mark("l1")));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_unknown_and_stays() {
    let world = World::new();
    let check = async |text: &str| {
        world.write(text);
        let seen = world.see().await;
        assert!(matches!(&seen, Observation::Unknown(_)), "{seen:?}");
        assert_eq!(world.create().await.unwrap_err().kind, CallErrorKind::Unreachable);
        assert_eq!(world.text(), text);
    };
    check("contexts: [").await;
    check("- a\n").await;
    check("a: 1\n---\nb: 2\n").await;
    check("contexts: []\ncontexts: []\n").await;
}

#[tokio::test]
async fn without_a_home_nothing_is_guessed() {
    let world = World::new();
    let provider = ksail_provider_kubeconfig::KubeconfigProvider::new(ksail_provider_kubeconfig::Places {
        home: None,
        project: world.path().to_owned(),
        kubeconfig: None,
        named: None,
    });
    let seen = provider.observe(&context(), &[world.target()]).await.unwrap();
    assert!(matches!(seen.observations[0], Observation::Unknown(_)));
    assert!(provider.list_owned(&context()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lock_of_another_program_is_told_of() {
    let world = World::new();
    world.write(OTHERS);
    std::fs::write(world.path().join(".kube/config.lock"), "").unwrap();
    let request =
        ksail_provider::CreateRequest { target: world.target(), mark: mark("l1"), secrets: Default::default() };
    let short = ksail_provider::CallContext { timeout: std::time::Duration::from_secs(2), ..context() };
    let error = world.provider().create(&short, &request).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("config.lock exists"), "{error}");
    assert!(error.hint.unwrap().contains("rm -f"));
    assert_eq!(world.text(), OTHERS);
}

#[test]
fn a_spec_is_read_as_it_is_written() {
    let world = World::new();
    let spec = KubeconfigSpec::from_value(&world.target().spec.unwrap()).unwrap();
    assert_eq!(KubeconfigSpec::from_value(&spec.to_value()).unwrap(), spec);
}
