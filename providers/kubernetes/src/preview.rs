//! What a change would give, by a dry run of the server; and what can be told without one.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Identity, Mark, Path, Preview, Secret, Value};
use ksail_provider::{CallError, PreviewRequest, SecretText};

use crate::call::Call;
use crate::discovery::{Api, Discovery};
use crate::name::ObjectName;
use crate::observe::{seen, wanted_version};
use crate::provider::{Apply, Existing, apply, is_defined, other_version, scope_of, takes_conflicts};
use crate::wire::MANAGER_FIELD;
use crate::{FIELD_MANAGER, refusal, secrets, taints};

/// The operation in the mark of a dry run.
const PREVIEW: &str = "preview";
/// What a secret is in a dry run where its text is not known. The types of Secrets that hold JSON have a placeholder that is some.
const PLACEHOLDER: &str = "x";
const JSON_PLACEHOLDER: &str = "{\"auths\":{}}";
/// Namespaces that every cluster begins with.
const FIRST_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// Kinds that run programs, which may make a namespace.
const RUNS: [&str; 7] =
    ["Pod", "apps.DaemonSet", "apps.Deployment", "apps.ReplicaSet", "apps.StatefulSet", "batch.CronJob", "batch.Job"];

/// Namespaces of what would be made that are not there: nothing in them can be tried.
pub(crate) async fn absent_namespaces(call: &Call, requests: &[PreviewRequest]) -> Result<BTreeSet<String>, CallError> {
    let names: BTreeSet<String> = requests
        .iter()
        .filter(|request| request.current.is_none())
        .filter_map(|request| ObjectName::of(&request.target.identity).ok()?.namespace)
        .collect();
    let mut absent = BTreeSet::new();
    for namespace in names {
        let name = ObjectName { group: String::new(), kind: "Namespace".to_owned(), namespace: None, name: namespace };
        let what = format!("look at {name}");
        if let Some(api) = call.api(&what, &name, None).await?
            // Without the right to look it is tried.
            && matches!(call.read(&what, &api.object(&name)).await, Ok(None))
        {
            absent.insert(name.name);
        }
    }
    Ok(absent)
}

/// What is said of an object whose namespace is not there, unless the same plan makes it, or makes before it what may make it: a
/// program, or an object of a custom kind.
fn no_namespace(namespace: &str, comes_after: &[Identity]) -> Option<Preview> {
    let made =
        ObjectName { group: String::new(), kind: "Namespace".to_owned(), namespace: None, name: namespace.to_owned() };
    let made = made.to_string();
    let may_make = |identity: &Identity| {
        identity.name == made
            || ObjectName::of(identity).is_ok_and(|name| {
                let is_custom = name.group.contains('.') && !name.group.ends_with(".k8s.io");
                is_custom || RUNS.contains(&name.group_kind().as_str())
            })
    };
    if comes_after.iter().any(may_make) {
        return None;
    }
    Some(Preview::Refused {
        message: format!("there is no namespace {namespace}"),
        hint: Some("declare the Namespace too, or correct `metadata.namespace`".to_owned()),
    })
}

/// What a cluster that has nothing in it yet would say of a creation, as far as that can be told.
pub fn preview_in_new(request: &PreviewRequest) -> Preview {
    let name = ObjectName::of(&request.target.identity).ok();
    let namespace = name.and_then(|name| name.namespace).filter(|name| !FIRST_NAMESPACES.contains(&name.as_str()));
    namespace.and_then(|namespace| no_namespace(&namespace, &request.comes_after)).unwrap_or(Preview::Unavailable)
}

pub(crate) async fn preview_one(call: &Call, request: &PreviewRequest, absent: &BTreeSet<String>) -> Preview {
    let target = &request.target;
    let Ok(name) = ObjectName::of(&target.identity) else { return Preview::Unavailable };
    if let Some(namespace) = name.namespace.as_ref().filter(|namespace| absent.contains(*namespace)) {
        return no_namespace(namespace, &request.comes_after).unwrap_or(Preview::Unavailable);
    }
    let Some(spec) = &target.spec else { return Preview::Unavailable };
    if spec.any_leaf(&|leaf| matches!(leaf, Value::Ref(_) | Value::Unknown)) {
        return Preview::Unavailable;
    }
    let what = format!("preview {name}");
    let api = match call.api(&what, &name, wanted_version(Some(spec))).await {
        Ok(Some(api)) => api,
        // To a group of Kubernetes itself nobody adds a kind.
        Ok(None) if !name.group.contains('.') => {
            let kinds = call.kinds().await.ok();
            return no_such_kind(kinds.as_deref(), &name);
        }
        // Its kind may be part of the same plan.
        _ => return Preview::Unavailable,
    };
    if let Err(error) = scope_of(call, &what, &name, &api) {
        return Preview::Refused { message: error.message, hint: error.hint };
    }
    if let Some(wanted) = wanted_version(Some(spec)).filter(|version| *version != api.version) {
        if is_defined(call, &api).await {
            // The definition may come to have the version by the same plan.
            return Preview::Unavailable;
        }
        let (message, hint) = other_version(&api, wanted);
        return Preview::Refused { message, hint: Some(hint) };
    }
    let manager = request.current.as_ref().and_then(|current| current.field(MANAGER_FIELD)).and_then(Value::as_str);
    let becomes_ours = manager.is_some_and(|manager| manager != FIELD_MANAGER);
    let Ok(texts) = stand_ins(call, request, &what, &api, &name, becomes_ours).await else {
        return Preview::Unavailable;
    };
    // A mark is part of what is sent: labels that only it brings are labels to the server's defaults.
    let mark = Mark {
        lineage: call.context.lineage.clone(),
        address: target.address.clone(),
        operation: PREVIEW.to_owned(),
        generation: 1,
    };
    let request_of = Apply {
        what: &what,
        api: &api,
        name: &name,
        spec,
        mark: &mark,
        existing: Existing::Any,
        secrets: &texts,
        left_alone: &[],
        force: becomes_ours || takes_conflicts(spec),
        dry_run: true,
    };
    match apply(call, &request_of).await {
        Ok(mut reply) if reply.status.is_success() => {
            let mut fields = seen(&api, &name, Some(spec), &mut reply.body).fields;
            for (path, secret) in spec.secrets() {
                fields.set(&path, Value::Secret(secret.clone()));
            }
            taints::foretell(&name, spec, &mut fields);
            Preview::Accepted { fields }
        }
        Ok(reply) => refusal::preview(&reply, request.current.is_some()),
        Err(_) => Preview::Unavailable,
    }
}

/// What stands for the secrets in a dry run. Where one does not change, that is its text on the server: another would be
/// refused in an object that may not change. Of an import it is not known whether they do.
async fn stand_ins(
    call: &Call,
    request: &PreviewRequest,
    what: &str,
    api: &Api,
    name: &ObjectName,
    becomes_ours: bool,
) -> Result<BTreeMap<Path, SecretText>, CallError> {
    let secrets = request.target.spec.as_ref().map(Value::secrets).unwrap_or_default();
    let live = match &request.current {
        Some(_) if !secrets.is_empty() => call.read(what, &api.object(name)).await?,
        _ => None,
    };
    let text = |path: &Path, declared: &Secret| {
        let seen = request.current.as_ref().and_then(|current| current.get(path));
        let is_same = matches!(seen, Some(Value::Secret(seen)) if seen.fingerprint == declared.fingerprint);
        let live = live.as_ref().filter(|_| is_same || becomes_ours);
        live.and_then(|live| secrets::text_of(live, name, path)).unwrap_or_else(|| placeholder(name, path))
    };
    Ok(secrets.into_iter().map(|(path, secret)| (path.clone(), SecretText::new(text(&path, secret)))).collect())
}

/// What is said of a kind that the server does not serve and that no definition can bring.
fn no_such_kind(kinds: Option<&Discovery>, name: &ObjectName) -> Preview {
    let near = kinds.and_then(|kinds| kinds.nearest(&name.group, &name.kind));
    Preview::Refused {
        message: format!("the server serves no kind {}", name.group_kind()),
        hint: near.map(|near| format!("did you mean `{near}`?")),
    }
}

fn placeholder(name: &ObjectName, path: &Path) -> String {
    use base64::Engine as _;
    let text = path.to_string();
    let plain = if text.contains(".dockerc") { JSON_PLACEHOLDER } else { PLACEHOLDER };
    if secrets::is_secret(name) && text.starts_with("data.") {
        return base64::engine::general_purpose::STANDARD.encode(plain);
    }
    plain.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_nothing_makes_is_told() {
        let check = |after: &[&str], wanted: bool| {
            let after: Vec<Identity> = after.iter().map(|name| Identity::named(*name)).collect();
            assert_eq!(no_namespace("shop", &after).is_some(), wanted, "{after:?}");
        };
        check(&[], true);
        check(&["ConfigMap/other/x", "rbac.authorization.k8s.io.Role/shop/x", "Namespace/_/other"], true);
        check(&["Namespace/_/shop"], false);
        check(&["batch.Job/tools/make-namespaces"], false);
        check(&["capsule.clastix.io.Tenant/_/shop"], false);
    }
}
