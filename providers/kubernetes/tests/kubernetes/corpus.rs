//! Objects of all kinds, awkward on purpose: made, seen again without a difference, previewed without a difference, changed,
//! drifted, and deleted.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use ksail_model::{Observation, Path, Preview, Seen, Value};
use ksail_provider::{Deleted, Provider as _, Target};
use serde_json::{Value as Json, json};

use crate::cluster::Cluster;

/// How many objects are worked on at the same time.
const AT_ONCE: usize = 8;

/// A pod spec with what servers write otherwise: quantities, int-or-string, defaults within lists, empty values.
fn pod_spec() -> Json {
    json!({
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsUser": 1000, "sysctls": []},
        "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "value": "c", "effect": "NoSchedule", "operator": "Equal"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "x"}}}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": {"topologyKey": "h", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}}}]}},
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["a", "b"]}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "volumes": [
            {"name": "e", "emptyDir": {}},
            {"name": "em", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
            {"name": "c", "configMap": {"name": "x", "optional": true, "items": [{"key": "a", "path": "b"}]}},
            {"name": "s", "secret": {"secretName": "x", "defaultMode": 256, "optional": true}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
            {"name": "h", "hostPath": {"path": "/tmp"}},
        ],
        "initContainers": [{"name": "i", "image": "example.com/i"}, {"name": "side", "image": "example.com/s:1", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "a", "image": "example.com/a",
                "command": ["a", ""], "args": ["--x=1", "$(A)"],
                "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}, {"containerPort": 81, "name": "http"}],
                "env": [
                    {"name": "A", "value": ""}, {"name": "B", "value": "true"},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                    {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y", "optional": true}}},
                ],
                "resources": {"requests": {"cpu": "1000m", "memory": "1048576Ki"}, "limits": {"cpu": 2, "memory": "2.5Gi", "ephemeral-storage": "1e9"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
                "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10},
                "startupProbe": {"grpc": {"port": 80}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false},
                "volumeMounts": [{"name": "e", "mountPath": "/e"}, {"name": "c", "mountPath": "/c", "readOnly": true, "subPath": "b"}],
            },
            {"name": "b", "image": "example.com/b:latest", "tty": true, "volumeDevices": []},
        ],
    })
}

fn template(name: &str, restart: Option<&str>) -> Json {
    let mut spec = pod_spec();
    if let Some(restart) = restart {
        spec["restartPolicy"] = restart.into();
    }
    json!({"metadata": {"labels": {"app": name}, "annotations": {"a": ""}}, "spec": spec})
}

fn rule() -> Json {
    json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["1", "2"]}, {"key": "e", "operator": "Exists"}]})
}

/// Kind, what stands beside its metadata, and whether it lives in a namespace.
fn corpus(app: &str) -> Vec<(&'static str, &'static str, Json, bool)> {
    let workload = |spec: Json| {
        let mut whole = json!({"selector": {"matchLabels": {"app": app}}, "template": template(app, None)});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"spec": whole})
    };
    let webhook = json!({"webhooks": [{
        "name": "w.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
        "clientConfig": {"service": {"name": "w", "namespace": "default", "path": "/x"}},
        "namespaceSelector": {"matchLabels": {"never": "true"}},
        "rules": [{"apiGroups": ["example.com"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["things"]}],
    }]});
    let policy = json!({"spec": {
        "failurePolicy": "Ignore", "matchConstraints": {"resourceRules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}]},
        "validations": [{"expression": "object.spec.size > 1"}],
    }});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1024Mi"}}});
    let role_rules = json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}, {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"], "resourceNames": ["x"]}]);
    let nothing = "not-there.example.com";
    vec![
        (
            "v1",
            "ConfigMap",
            json!({"data": {"a": "", "b": "multi\nline\n", "dotted.key": "1"}, "binaryData": {"x": "AAEC"}}),
            true,
        ),
        ("v1", "ConfigMap", json!({"immutable": true, "data": {"a": "1"}}), true),
        ("v1", "ConfigMap", json!({}), true),
        ("v1", "Namespace", json!({}), false),
        (
            "v1",
            "ServiceAccount",
            json!({"automountServiceAccountToken": false, "imagePullSecrets": [{"name": "a"}, {"name": "b"}], "secrets": [{"name": "t"}]}),
            true,
        ),
        ("v1", "Service", json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}), true),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http", "name": "a"}, {"port": 80, "protocol": "UDP", "name": "b", "targetPort": 8080}], "selector": {"a": "b"}}}),
            true,
        ),
        ("v1", "Service", json!({"spec": {"clusterIP": "None", "selector": {"a": "b"}}}), true),
        ("v1", "Service", json!({"spec": {"type": "ExternalName", "externalName": "example.com"}}), true),
        (
            "v1",
            "Service",
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "name": "x"}], "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP"}}),
            true,
        ),
        (
            "v1",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.9"}, {"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
            true,
        ),
        ("v1", "Pod", json!({"spec": pod_spec()}), true),
        ("v1", "PodTemplate", json!({"template": template(app, None)}), true),
        (
            "v1",
            "ReplicationController",
            json!({"spec": {"replicas": 0, "selector": {"app": app}, "template": template(app, None)}}),
            true,
        ),
        (
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "10240Mi"}, "min": {"storage": "1"}}]}}),
            true,
        ),
        (
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"pods": "1000", "requests.cpu": "100000m", "limits.memory": "1024Gi"}}}),
            true,
        ),
        ("v1", "ResourceQuota", json!({"spec": {"hard": {"configmaps": 9000, "requests.storage": "1e15"}}}), true),
        (
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "2048Mi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, "storageClassName": "none", "persistentVolumeReclaimPolicy": "Retain"}}),
            false,
        ),
        ("v1", "PersistentVolumeClaim", json!({"spec": claim}), true),
        ("v1", "Node", json!({"spec": {"podCIDR": "10.1.2.0/24", "unschedulable": true}}), false),
        (
            "v1",
            "Event",
            json!({"involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"}, "reason": "R", "message": "m", "type": "Normal"}),
            true,
        ),
        ("apps/v1", "Deployment", workload(json!({"replicas": 0})), true),
        (
            "apps/v1",
            "Deployment",
            workload(
                json!({"replicas": 0, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}, "progressDeadlineSeconds": 60}),
            ),
            true,
        ),
        (
            "apps/v1",
            "Deployment",
            workload(json!({"replicas": 0, "strategy": {"type": "Recreate"}, "paused": false})),
            true,
        ),
        (
            "apps/v1",
            "StatefulSet",
            workload(
                json!({"replicas": 0, "serviceName": "x", "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": claim}]}),
            ),
            true,
        ),
        ("apps/v1", "DaemonSet", workload(json!({"updateStrategy": {"type": "OnDelete"}})), true),
        ("apps/v1", "ReplicaSet", workload(json!({"replicas": 0})), true),
        (
            "apps/v1",
            "ControllerRevision",
            json!({"revision": 3, "data": {"any": {"thing": [1, "2", null, 3.5]}}}),
            true,
        ),
        (
            "batch/v1",
            "Job",
            json!({"spec": {"suspend": true, "backoffLimit": 2, "template": template(app, Some("Never"))}}),
            true,
        ),
        (
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "*/5 * * * *", "suspend": true, "jobTemplate": {"spec": {"template": template(app, Some("OnFailure"))}}}}),
            true,
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 3, "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1024Mi"}}}, {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}], "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}}),
            true,
        ),
        (
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "y"}, "maxReplicas": 3}}),
            true,
        ),
        ("policy/v1", "PodDisruptionBudget", json!({"spec": {"maxUnavailable": "30%", "selector": rule()}}), true),
        ("policy/v1", "PodDisruptionBudget", json!({"spec": {"minAvailable": 1, "selector": {}}}), true),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{"podSelector": rule()}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80}, {"port": "http", "protocol": "TCP"}]}, {}], "egress": [{}]}}),
            true,
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"ingressClassName": "x", "tls": [{"hosts": ["b.example.com", "a.example.com"], "secretName": "t"}], "rules": [{"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "x", "port": {"number": 80}}}}]}}]}}),
            true,
        ),
        ("networking.k8s.io/v1", "IngressClass", json!({"spec": {"controller": "example.com/c"}}), false),
        ("networking.k8s.io/v1", "ServiceCIDR", json!({"spec": {"cidrs": ["10.200.0.0/24"]}}), false),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.3"], "conditions": {"ready": true}}], "ports": [{"port": 80, "name": ""}]}),
            true,
        ),
        ("rbac.authorization.k8s.io/v1", "Role", json!({"rules": role_rules}), true),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"rules": role_rules}), false),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"never": "x"}}]}}),
            false,
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "ServiceAccount", "name": "x", "namespace": "default"}, {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]}),
            true,
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "Group", "name": "g"}]}),
            false,
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": nothing, "parameters": {"a": "b"}, "mountOptions": ["ro", "a"]}),
            false,
        ),
        (
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"attachRequired": false, "tokenRequests": [{"audience": "x"}]}}),
            false,
        ),
        (
            "storage.k8s.io/v1",
            "CSINode",
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a"]}]}}),
            false,
        ),
        (
            "storage.k8s.io/v1",
            "CSIStorageCapacity",
            json!({"storageClassName": "x", "capacity": "1024Mi", "nodeTopology": {"matchLabels": {"a": "b"}}}),
            true,
        ),
        (
            "storage.k8s.io/v1",
            "VolumeAttachment",
            json!({"spec": {"attacher": nothing, "nodeName": "n", "source": {"persistentVolumeName": "x"}}}),
            false,
        ),
        (
            "storage.k8s.io/v1",
            "VolumeAttributesClass",
            json!({"driverName": nothing, "parameters": {"iops": "100"}}),
            false,
        ),
        ("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 1000, "description": "d"}), false),
        (
            "node.k8s.io/v1",
            "RuntimeClass",
            json!({"handler": "h", "overhead": {"podFixed": {"cpu": "250m", "memory": "131072Ki"}}}),
            false,
        ),
        ("coordination.k8s.io/v1", "Lease", json!({"spec": {"holderIdentity": "x", "leaseDurationSeconds": 15}}), true),
        (
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}}),
            false,
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 9000, "rules": [{"subjects": [{"kind": "User", "user": {"name": "nobody"}}], "resourceRules": [{"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"], "clusterScope": true}]}]}}),
            false,
        ),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", webhook.clone(), false),
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", webhook, false),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", policy, false),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": {"policyName": "none", "validationActions": ["Warn", "Audit"]}}),
            false,
        ),
        (
            "certificates.k8s.io/v1",
            "CertificateSigningRequest",
            json!({"spec": {"signerName": "example.com/s", "usages": ["digital signature", "client auth"], "request": CSR}}),
            false,
        ),
        ("resource.k8s.io/v1", "DeviceClass", json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}), false),
        (
            "resource.k8s.io/v1",
            "ResourceClaim",
            json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}}}),
            true,
        ),
        (
            "resource.k8s.io/v1",
            "ResourceClaimTemplate",
            json!({"spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x", "count": 2}}]}}}}),
            true,
        ),
    ]
}

/// A request for a certificate of a key that was thrown away.
const CSR: &str = include_str!("csr.txt");

fn target(cluster: &Cluster, index: usize, (version, kind, rest, namespaced): &(&str, &str, Json, bool)) -> Target {
    let name = match *kind {
        "PersistentVolume" | "RuntimeClass" => cluster.name(&format!("c{index}")),
        _ => cluster.name(&format!("corpus-{index}")),
    };
    let mut metadata = json!({"name": name, "labels": {"plain": "x"}, "annotations": {"empty": ""}});
    if *namespaced {
        metadata["namespace"] = "default".into();
    }
    let mut manifest = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
    manifest.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    cluster.target(&manifest)
}

/// The target with another value of its label: a change that every kind takes.
fn relabelled(target: &Target, value: &str) -> Target {
    let mut target = target.clone();
    let path = Path::parse("metadata.labels.plain").unwrap();
    target.spec.as_mut().unwrap().set(&path, Value::from(value));
    target
}

fn not_equal(what: &str, target: &Target, one: &Value, other: &Value) -> Option<String> {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    (one != other).then(|| format!("{} {what}:\n{}\n{}", target.address, text(one), text(other)))
}

/// The whole life of one object; what went wrong, if anything.
async fn life(cluster: &Cluster, target: Target) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{} {what}: {error}", target.address);
    match cluster.preview(&target, None).await {
        Preview::Accepted { .. } => {}
        other => return Err(format!("{} would not be made: {other:?}", target.address)),
    }
    let made = cluster.create(&target).await.map_err(|error| failed("create", &error))?.seen;
    // All in one list, as a plan looks.
    let seen: Seen = cluster.seen(&target).await;
    let quiet =
        |what: &str, seen: &Seen, made: &Seen| not_equal(what, &target, &seen.fields, &made.fields).map_or(Ok(()), Err);
    quiet("is not what was made", &seen, &made)?;
    match cluster.preview(&target, Some(&seen)).await {
        Preview::Accepted { fields } => {
            not_equal("would change without a change", &target, &fields, &seen.fields).map_or(Ok(()), Err)?;
        }
        other => return Err(format!("{} would be refused as it is: {other:?}", target.address)),
    }
    let other = relabelled(&target, "other");
    let predicted = match cluster.preview(&other, Some(&seen)).await {
        Preview::Accepted { fields } => fields,
        refused => return Err(format!("{} cannot be relabelled: {refused:?}", target.address)),
    };
    let changed =
        cluster.update(&other, &seen, &["metadata.labels.plain"]).await.map_err(|error| failed("update", &error))?;
    not_equal("did not become what was previewed", &target, &predicted, &changed.seen.fields).map_or(Ok(()), Err)?;
    let again = cluster.update(&target, &changed.seen, &["metadata.labels.plain"]).await;
    let again = again.map_err(|error| failed("update back", &error))?.seen;
    quiet("is not as before", &again, &made)?;
    let deleted = cluster.delete(&target, false).await.map_err(|error| failed("delete", &error))?;
    if deleted != Deleted::Gone || cluster.observe(&target).await != Observation::Absent {
        return Err(format!("{} is still there: {deleted:?}", target.address));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_all_kinds_are_quiet_and_become_what_was_previewed() {
    let Some(cluster) = Cluster::real().await else { return };
    let corpus = corpus(&cluster.lineage);
    let kinds: BTreeSet<(&str, &str)> = corpus.iter().map(|(version, kind, _, _)| (*version, *kind)).collect();
    assert!(kinds.len() > 50, "{} kinds", kinds.len());
    let targets: Vec<Target> = corpus.iter().enumerate().map(|(index, one)| target(&cluster, index, one)).collect();
    let lives = targets.into_iter().map(|target| life(&cluster, target));
    let results: Vec<Result<(), String>> = futures::stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), corpus.len(), failures.join("\n\n"));
    let owned = cluster.provider.list_owned(&cluster.context()).await.unwrap();
    let left: Vec<_> = owned
        .iter()
        .filter(|owned| owned.seen.mark.as_ref().is_some_and(|mark| mark.lineage == cluster.lineage))
        .map(|owned| &owned.identity.name)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
