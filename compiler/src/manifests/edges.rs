//! What objects need of each other, from what their fields mean.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Address, Condition, Edge, ForceOn, Origin, Strength, Value};

use super::object::{AFTER, Object, at, full_name};
use super::references;

const RBAC: &str = "rbac.authorization.k8s.io";

/// All objects, to be found by what others say of them.
pub(super) struct Edges<'a> {
    by_name: BTreeMap<String, (&'a Address, &'a Object)>,
    /// The groups of kinds.
    groups: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// CustomResourceDefinitions by the group and kind that they define.
    definitions: BTreeMap<(String, String), &'a Address>,
    /// Workloads by namespace, for those that look for pods by labels.
    workloads: BTreeMap<String, Vec<(&'a Address, &'a Object)>>,
    /// Limits that a namespace sets for its pods.
    limits: BTreeMap<String, Vec<&'a Address>>,
    /// Bindings by the ServiceAccounts that they name.
    bindings: BTreeMap<(String, String), Vec<&'a Address>>,
    /// APIServices by the group that they serve.
    services: BTreeMap<String, Vec<&'a Address>>,
    /// Webhooks by the groups that they judge, those of everything left out.
    webhooks: BTreeMap<String, Vec<&'a Address>>,
}

/// The edges of one object, by what they lead to; the stronger wins.
struct Found<'a, 'b> {
    edges: &'b Edges<'a>,
    from: &'b Address,
    namespace: Option<&'b str>,
    found: BTreeMap<Address, Edge>,
}

fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_list).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str().filter(|text| !text.is_empty())
}

impl<'a> Edges<'a> {
    pub(super) fn of(objects: impl Iterator<Item = (&'a Address, &'a Object)>) -> Self {
        let mut edges = Self {
            by_name: BTreeMap::new(),
            groups: BTreeMap::new(),
            definitions: BTreeMap::new(),
            workloads: BTreeMap::new(),
            limits: BTreeMap::new(),
            bindings: BTreeMap::new(),
            services: BTreeMap::new(),
            webhooks: BTreeMap::new(),
        };
        for (address, object) in objects {
            edges.take(address, object);
        }
        edges
    }

    fn take(&mut self, address: &'a Address, object: &'a Object) {
        self.by_name.insert(object.name(), (address, object));
        self.groups.entry(&object.kind).or_default().insert(&object.group);
        if let Some((group, kind)) = object.defines() {
            self.definitions.insert((group.to_owned(), kind.to_owned()), address);
        }
        let namespace = object.namespace().unwrap_or_default().to_owned();
        if pod_spec(object).is_some() {
            self.workloads.entry(namespace.clone()).or_default().push((address, object));
        }
        match (object.group.as_str(), object.kind.as_str()) {
            ("", "LimitRange" | "ResourceQuota") => self.limits.entry(namespace).or_default().push(address),
            (RBAC, "RoleBinding" | "ClusterRoleBinding") => {
                for account in accounts(object) {
                    self.bindings.entry(account).or_default().push(address);
                }
            }
            ("apiregistration.k8s.io", "APIService") => {
                if let Some(group) = object.text(&["spec", "group"]) {
                    self.services.entry(group.to_owned()).or_default().push(address);
                }
            }
            ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
                for group in judged_groups(object) {
                    self.webhooks.entry(group.to_owned()).or_default().push(address);
                }
            }
            _ => {}
        }
    }

    /// The object of a kind of which the group is not known; the first, where several groups have such a kind.
    fn of_any_group(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<&(&'a Address, &'a Object)> {
        let groups = self.groups.get(kind)?;
        groups.iter().find_map(|group| self.by_name.get(&full_name(group, kind, namespace, name)))
    }

    /// The names of all objects.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The edges of an object, with what its entry comes after, and the names in its annotation that nothing has.
    pub(super) fn from<'o>(
        &self,
        address: &Address,
        object: &Object,
        after: impl Iterator<Item = &'o (Address, Origin)>,
    ) -> (Vec<Edge>, Vec<String>) {
        let mut found = Found { edges: self, from: address, namespace: object.namespace(), found: BTreeMap::new() };
        found.surroundings(object);
        if let Some((pod, _)) = pod_spec(object) {
            found.pod(pod, object);
        }
        found.by_kind(object);
        if references::are_read(&object.group) {
            found.shaped(object);
        }
        let unknown = found.after(object);
        for (to, origin) in after {
            found.add_from(to, Condition::Ready, Strength::Hard, origin.clone());
        }
        (found.found.into_values().collect(), unknown)
    }
}

/// The pod spec of an object that makes pods, and the labels of these.
fn pod_spec(object: &Object) -> Option<(&Value, Option<&Value>)> {
    let template = match (object.group.as_str(), object.kind.as_str()) {
        ("", "Pod") => return Some((object.spec.field("spec")?, at(&object.spec, &["metadata", "labels"]))),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => at(&object.spec, &["spec", "template"])?,
        ("batch", "CronJob") => at(&object.spec, &["spec", "jobTemplate", "spec", "template"])?,
        ("", "PodTemplate") => object.spec.field("template")?,
        _ => return None,
    };
    Some((template.field("spec")?, at(template, &["metadata", "labels"])))
}

/// The ServiceAccounts that a binding names, with their namespaces.
fn accounts(object: &Object) -> Vec<(String, String)> {
    list(&object.spec, &["subjects"])
        .iter()
        .filter(|subject| text(subject, &["kind"]) == Some("ServiceAccount"))
        .filter_map(|subject| {
            let namespace = text(subject, &["namespace"]).or(object.namespace())?;
            Some((namespace.to_owned(), text(subject, &["name"])?.to_owned()))
        })
        .collect()
}

/// The groups whose objects a webhook judges, where it names them.
fn judged_groups(object: &Object) -> Vec<&str> {
    list(&object.spec, &["webhooks"])
        .iter()
        .flat_map(|webhook| list(webhook, &["rules"]))
        .flat_map(|rule| list(rule, &["apiGroups"]))
        .filter_map(Value::as_str)
        .filter(|group| group.contains('.') && *group != "*")
        .collect()
}

fn selects(selector: &Value, labels: Option<&Value>) -> bool {
    let (Some(selector), Some(labels)) = (selector.as_map(), labels) else { return false };
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.field(key) == Some(value))
}

impl Found<'_, '_> {
    fn add(&mut self, to: &Address, condition: Condition, strength: Strength, why: &str) {
        self.add_from(to, condition, strength, Origin::Derived { why: why.into() });
    }

    fn add_from(&mut self, to: &Address, condition: Condition, strength: Strength, origin: Origin) {
        if to == self.from {
            return;
        }
        let edge = Edge { to: to.clone(), condition, strength, on_replace: ForceOn::Nothing, origin };
        let is_more = |known: &Edge| {
            (known.strength == Strength::Soft && strength == Strength::Hard)
                || (known.strength == strength && known.condition < condition)
        };
        match self.found.get(to) {
            Some(known) if !is_more(known) => {}
            _ => {
                self.found.insert(to.clone(), edge);
            }
        }
    }

    fn named(
        &mut self,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
        name: Option<&str>,
        strength: Strength,
        why: &str,
    ) {
        let Some(name) = name else { return };
        if let Some((to, _)) = self.edges.by_name.get(&full_name(group, kind, namespace, name)) {
            self.add(to, Condition::Exists, strength, why);
        }
    }

    /// Something in its own namespace that it names.
    fn beside(&mut self, group: &str, kind: &str, name: Option<&str>, strength: Strength, why: &str) {
        self.named(group, kind, self.namespace, name, strength, why);
    }

    /// What any object needs: its namespace, its kind, who judges it.
    fn surroundings(&mut self, object: &Object) {
        self.named("", "Namespace", None, self.namespace, Strength::Hard, "it lives in the namespace");
        let kind = (object.group.clone(), object.kind.clone());
        if let Some(to) = self.edges.definitions.get(&kind) {
            self.add(to, Condition::Established, Strength::Hard, "the definition makes its kind");
        }
        for to in self.edges.services.get(&object.group).into_iter().flatten() {
            self.add(to, Condition::Ready, Strength::Hard, "the APIService serves its kind");
        }
        for to in self.edges.webhooks.get(&object.group).into_iter().flatten() {
            self.add(to, Condition::Ready, Strength::Soft, "the webhook judges it");
        }
    }

    fn pod(&mut self, pod: &Value, object: &Object) {
        let hard = Strength::Hard;
        let account = text(pod, &["serviceAccountName"]).or_else(|| text(pod, &["serviceAccount"]));
        self.beside("", "ServiceAccount", account, hard, "its pods run as the ServiceAccount");
        let named = (self.namespace.unwrap_or_default().to_owned(), account.unwrap_or("default").to_owned());
        for to in self.edges.bindings.get(&named).into_iter().flatten() {
            self.add(to, Condition::Exists, Strength::Soft, "its pods have the rights of the binding");
        }
        for to in self.edges.limits.get(self.namespace.unwrap_or_default()).into_iter().flatten() {
            self.add(to, Condition::Exists, Strength::Soft, "it limits the pods of the namespace");
        }
        for secret in list(pod, &["imagePullSecrets"]) {
            self.beside("", "Secret", text(secret, &["name"]), hard, "its images are pulled with the Secret");
        }
        self.named(
            "scheduling.k8s.io",
            "PriorityClass",
            None,
            text(pod, &["priorityClassName"]),
            hard,
            "its pods have the priority",
        );
        self.named(
            "node.k8s.io",
            "RuntimeClass",
            None,
            text(pod, &["runtimeClassName"]),
            hard,
            "its pods run in the runtime",
        );
        for volume in list(pod, &["volumes"]) {
            self.volume(volume);
            for source in list(volume, &["projected", "sources"]) {
                self.volume(source);
            }
        }
        for part in ["containers", "initContainers", "ephemeralContainers"] {
            for container in list(pod, &[part]) {
                self.container(container);
            }
        }
        for claim in list(pod, &["resourceClaims"]) {
            self.beside(
                "resource.k8s.io",
                "ResourceClaim",
                text(claim, &["resourceClaimName"]),
                hard,
                "its pods use the claim",
            );
            let template = text(claim, &["resourceClaimTemplateName"]);
            self.beside(
                "resource.k8s.io",
                "ResourceClaimTemplate",
                template,
                hard,
                "its claims are made of the template",
            );
        }
        if object.kind == "StatefulSet" {
            let service = object.text(&["spec", "serviceName"]);
            self.beside("", "Service", service, hard, "the Service names its pods");
            for claim in list(&object.spec, &["spec", "volumeClaimTemplates"]) {
                self.storage_class(text(claim, &["spec", "storageClassName"]));
            }
        }
    }

    /// A reference that is marked optional is not waited for in a cycle.
    fn mounted(&mut self, kind: &str, holder: &Value, key: &str, why: &str) {
        let optional = at(holder, &["optional"]).and_then(Value::as_bool) == Some(true);
        let strength = if optional { Strength::Soft } else { Strength::Hard };
        self.beside("", kind, text(holder, &[key]), strength, why);
    }

    fn volume(&mut self, volume: &Value) {
        if let Some(source) = volume.field("configMap") {
            self.mounted("ConfigMap", source, "name", "its pods mount the ConfigMap");
        }
        if let Some(source) = volume.field("secret") {
            // In a projected volume the key is another.
            let key = if source.field("secretName").is_some() { "secretName" } else { "name" };
            self.mounted("Secret", source, key, "its pods mount the Secret");
        }
        if let Some(source) = volume.field("persistentVolumeClaim") {
            self.mounted("PersistentVolumeClaim", source, "claimName", "its pods mount the claim");
        }
    }

    fn container(&mut self, container: &Value) {
        for env in list(container, &["env"]) {
            if let Some(source) = at(env, &["valueFrom", "configMapKeyRef"]) {
                self.mounted("ConfigMap", source, "name", "its pods read the ConfigMap");
            }
            if let Some(source) = at(env, &["valueFrom", "secretKeyRef"]) {
                self.mounted("Secret", source, "name", "its pods read the Secret");
            }
        }
        for source in list(container, &["envFrom"]) {
            if let Some(source) = source.field("configMapRef") {
                self.mounted("ConfigMap", source, "name", "its pods read the ConfigMap");
            }
            if let Some(source) = source.field("secretRef") {
                self.mounted("Secret", source, "name", "its pods read the Secret");
            }
        }
    }

    fn storage_class(&mut self, name: Option<&str>) {
        self.named("storage.k8s.io", "StorageClass", None, name, Strength::Hard, "its volume is of the class");
    }

    fn by_kind(&mut self, object: &Object) {
        let (hard, soft) = (Strength::Hard, Strength::Soft);
        match (object.group.as_str(), object.kind.as_str()) {
            ("", "PersistentVolumeClaim") => {
                self.storage_class(object.text(&["spec", "storageClassName"]));
                self.named(
                    "",
                    "PersistentVolume",
                    None,
                    object.text(&["spec", "volumeName"]),
                    hard,
                    "it claims the volume",
                );
            }
            ("", "PersistentVolume") => self.storage_class(object.text(&["spec", "storageClassName"])),
            ("", "ServiceAccount") => {
                for secret in list(&object.spec, &["imagePullSecrets"]) {
                    self.beside("", "Secret", text(secret, &["name"]), soft, "its images are pulled with the Secret");
                }
            }
            ("", "Secret") => {
                let account = object.text(&["metadata", "annotations", "kubernetes.io/service-account.name"]);
                self.beside("", "ServiceAccount", account, hard, "it is a token of the ServiceAccount");
            }
            (RBAC, "RoleBinding" | "ClusterRoleBinding") => self.binding(object),
            ("networking.k8s.io", "Ingress") => self.ingress(object),
            ("autoscaling", "HorizontalPodAutoscaler") => {
                let target = at(&object.spec, &["spec", "scaleTargetRef"]);
                self.reference(target, hard, "it scales this");
            }
            ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
                for webhook in list(&object.spec, &["webhooks"]) {
                    self.served_by(at(webhook, &["clientConfig", "service"]));
                }
            }
            ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding") => {
                let policy = object.kind.trim_end_matches("Binding").to_owned();
                let name = object.text(&["spec", "policyName"]);
                self.named("admissionregistration.k8s.io", &policy, None, name, hard, "it binds the policy");
            }
            ("apiregistration.k8s.io", "APIService") => self.served_by(at(&object.spec, &["spec", "service"])),
            ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
                let name = object.text(&["spec", "priorityLevelConfiguration", "name"]);
                let kind = "PriorityLevelConfiguration";
                self.named("flowcontrol.apiserver.k8s.io", kind, None, name, hard, "its requests are of the level");
            }
            ("gateway.networking.k8s.io", "Gateway") => {
                let class = object.text(&["spec", "gatewayClassName"]);
                self.named("gateway.networking.k8s.io", "GatewayClass", None, class, hard, "it is of the class");
            }
            _ => {}
        }
    }

    fn binding(&mut self, object: &Object) {
        let role = text(&object.spec, &["roleRef", "name"]);
        match text(&object.spec, &["roleRef", "kind"]) {
            Some("ClusterRole") => self.named(RBAC, "ClusterRole", None, role, Strength::Hard, "it gives the role"),
            _ => self.beside(RBAC, "Role", role, Strength::Hard, "it gives the role"),
        }
        for (namespace, name) in accounts(object) {
            let why = "it gives rights to the ServiceAccount";
            self.named("", "ServiceAccount", Some(&namespace), Some(&name), Strength::Hard, why);
        }
    }

    fn ingress(&mut self, object: &Object) {
        let class = object.text(&["spec", "ingressClassName"]);
        self.named("networking.k8s.io", "IngressClass", None, class, Strength::Hard, "it is of the class");
        for tls in list(&object.spec, &["spec", "tls"]) {
            self.beside("", "Secret", text(tls, &["secretName"]), Strength::Soft, "it serves with the certificate");
        }
        let backends = list(&object.spec, &["spec", "rules"])
            .iter()
            .flat_map(|rule| list(rule, &["http", "paths"]))
            .filter_map(|path| path.field("backend"))
            .chain(at(&object.spec, &["spec", "defaultBackend"]));
        for backend in backends.collect::<Vec<_>>() {
            self.beside("", "Service", text(backend, &["service", "name"]), Strength::Soft, "it leads to the Service");
        }
    }

    /// A typed reference to something in its own namespace.
    fn reference(&mut self, reference: Option<&Value>, strength: Strength, why: &str) {
        let Some(reference) = reference else { return };
        let (Some(version), Some(kind)) = (text(reference, &["apiVersion"]), text(reference, &["kind"])) else {
            return;
        };
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        self.beside(group, kind, text(reference, &["name"]), strength, why);
    }

    /// What an object of a custom kind names, by the shape of its fields.
    fn shaped(&mut self, object: &Object) {
        for named in references::named(&object.group, &object.spec) {
            let why = format!("its field {} names it", named.path);
            let namespace = named.namespace.or(self.namespace);
            for namespace in [namespace, None] {
                let to = match named.group {
                    Some(group) => self.edges.by_name.get(&full_name(group, named.kind, namespace, named.name)),
                    None => self.edges.of_any_group(named.kind, namespace, named.name),
                };
                if let Some((to, _)) = to {
                    self.add(to, Condition::Exists, Strength::Soft, &why);
                    break;
                }
            }
        }
    }

    /// What serves a webhook or an API: its Service, and the workloads behind it, which must be ready.
    fn served_by(&mut self, service: Option<&Value>) {
        let Some((name, namespace)) = service.and_then(|it| Some((text(it, &["name"])?, text(it, &["namespace"])?)))
        else {
            return;
        };
        let Some((address, service)) = self.edges.by_name.get(&full_name("", "Service", Some(namespace), name)) else {
            return;
        };
        self.add(address, Condition::Exists, Strength::Hard, "it is reached by the Service");
        let Some(selector) = at(&service.spec, &["spec", "selector"]) else { return };
        for (address, workload) in self.edges.workloads.get(namespace).into_iter().flatten() {
            if pod_spec(workload).is_some_and(|(_, labels)| selects(selector, labels)) {
                self.add(address, Condition::Ready, Strength::Hard, "its pods answer for it");
            }
        }
    }

    fn after(&mut self, object: &Object) -> Vec<String> {
        let mut unknown = Vec::new();
        let names = object.said(AFTER).map(|(names, _)| names).unwrap_or_default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match self.edges.by_name.get(name.trim_start_matches("object/")) {
                Some((to, _)) => {
                    self.add(to, Condition::Ready, Strength::Hard, "the annotation ksail.io/after names it")
                }
                None => unknown.push(name.to_owned()),
            }
        }
        unknown
    }
}
