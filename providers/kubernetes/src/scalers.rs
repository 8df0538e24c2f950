//! Which workloads an autoscaler scales. The server keeps no owner of replicas that nobody has declared, so the autoscalers tell.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Observation, Others, Path};
use ksail_provider::Target;
use serde_json::Value as Json;

use crate::call::Call;
use crate::name::ObjectName;
use crate::observe::list;
use crate::wire::text;

const GROUP: &str = "autoscaling";
const KIND: &str = "HorizontalPodAutoscaler";

/// Whether an autoscaler may scale such objects.
fn is_scaled(name: &ObjectName) -> bool {
    name.group == "apps" && matches!(name.kind.as_str(), "Deployment" | "StatefulSet" | "ReplicaSet")
}

/// Notes which of the workloads that were seen an autoscaler scales: their replicas are its own. Where autoscalers may not be
/// listed, nothing is noted.
pub(crate) async fn note(call: &Call, targets: &[Target], observations: &mut [Observation]) {
    let workloads: Vec<(usize, ObjectName)> = targets
        .iter()
        .enumerate()
        .filter(|(index, _)| matches!(observations.get(*index), Some(Observation::Present(_))))
        .filter_map(|(index, target)| Some((index, ObjectName::of(&target.identity).ok()?)))
        .filter(|(_, name)| is_scaled(name))
        .collect();
    if workloads.is_empty() {
        return;
    }
    let namespaces: BTreeSet<&str> = workloads.iter().filter_map(|(_, name)| name.namespace.as_deref()).collect();
    let scalers = scalers(call, &namespaces).await;
    let replicas = Path::key("spec").child_key("replicas");
    for (index, name) in workloads {
        let key = (name.namespace.clone().unwrap_or_default(), name.kind.clone(), name.name.clone());
        let (Some(scaler), Some(Observation::Present(seen))) = (scalers.get(&key), observations.get_mut(index)) else {
            continue;
        };
        // What it owns by the server's record too is its own once.
        seen.others.iter_mut().for_each(|others| others.fields.retain(|field| *field != replicas));
        seen.others.retain(|others| others.reconciles || !others.fields.is_empty());
        let owner = format!("{KIND} {scaler}");
        seen.others.push(Others { owner, fields: vec![replicas.clone()], reconciles: false });
    }
}

/// The autoscalers, by namespace, kind and name of what they scale.
async fn scalers(call: &Call, namespaces: &BTreeSet<&str>) -> BTreeMap<(String, String, String), String> {
    let any = ObjectName { group: GROUP.to_owned(), kind: KIND.to_owned(), namespace: None, name: String::new() };
    let Ok(Some(api)) = call.api("look for autoscalers", &any, Some("v2")).await else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    let all = namespaces.first().copied().filter(|_| namespaces.len() == 1);
    if list(call, &api, all, None, |_| true, &mut found).await.is_err() && all.is_none() {
        for namespace in namespaces {
            // One that may not be looked at tells nothing.
            let _ = list(call, &api, Some(namespace), None, |_| true, &mut found).await;
        }
    }
    let target =
        |scaler: &Json, field: &str| text(scaler, &["spec", "scaleTargetRef", field]).unwrap_or_default().to_owned();
    let scaled = found.into_iter().map(|((namespace, name), scaler)| {
        ((namespace.unwrap_or_default(), target(&scaler, "kind"), target(&scaler, "name")), name)
    });
    scaled.collect()
}
