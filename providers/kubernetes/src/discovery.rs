//! Which kinds the server serves, and under which paths.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

use crate::name::ObjectName;

/// The aggregated form, two requests for all groups.
pub(crate) const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// What stands in a path as it is.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A kind that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Api {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    pub(crate) listed: bool,
    pub(crate) applied: bool,
}

/// All kinds that are served. By group and kind, in the server's order of versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discovery {
    kinds: BTreeMap<(String, String), Vec<Api>>,
    /// Groups of which the server does not know at the moment what they serve.
    stale: Vec<String>,
}

impl Discovery {
    /// Takes in one reply.
    pub(crate) fn add(&mut self, reply: &Json) {
        for item in list(&reply["items"]) {
            let group = item["metadata"]["name"].as_str().unwrap_or_default();
            for version in list(&item["versions"]) {
                let name = version["version"].as_str().unwrap_or_default();
                if version["freshness"] == "Stale" {
                    self.stale.push(group.to_owned());
                }
                for resource in list(&version["resources"]) {
                    let kind = resource["responseKind"]["kind"].as_str().unwrap_or_default();
                    let verbs = list(&resource["verbs"]);
                    let api = Api {
                        group: group.to_owned(),
                        version: name.to_owned(),
                        kind: kind.to_owned(),
                        plural: resource["resource"].as_str().unwrap_or_default().to_owned(),
                        namespaced: resource["scope"] == "Namespaced",
                        listed: verbs.iter().any(|verb| verb == "list"),
                        applied: verbs.iter().any(|verb| verb == "patch"),
                    };
                    self.kinds.entry((group.to_owned(), kind.to_owned())).or_default().push(api);
                }
            }
        }
    }

    /// The kind, in this version if it is served in it.
    pub(crate) fn find(&self, group: &str, kind: &str, version: Option<&str>) -> Option<&Api> {
        let apis = self.kinds.get(&(group.to_owned(), kind.to_owned()))?;
        apis.iter().find(|api| Some(api.version.as_str()) == version).or_else(|| apis.first())
    }

    /// The kind of a group whose name is most like this one, if one is.
    pub(crate) fn nearest(&self, group: &str, kind: &str) -> Option<&str> {
        let kinds = self.kinds.keys().filter(|(known, _)| known == group).map(|(_, kind)| kind.as_str());
        let near = kinds.map(|known| (strsim::damerau_levenshtein(known, kind), known)).min()?;
        (near.0 <= (kind.len() / 3).max(1)).then_some(near.1)
    }

    /// Whether it is certain which kinds a group has.
    pub(crate) fn is_certain(&self, group: &str) -> bool {
        !self.stale.iter().any(|stale| stale == group)
    }

    /// One version of each kind that can be listed and applied.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Api> {
        self.kinds.values().filter_map(|apis| apis.iter().find(|api| api.listed && api.applied))
    }
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[][..], Vec::as_slice)
}

impl Api {
    /// `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of all objects, or of those of one namespace.
    pub(crate) fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let api_version = self.api_version();
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{api_version}/namespaces/{}/{}", escaped(namespace), self.plural),
            None => format!("{root}/{api_version}/{}", self.plural),
        }
    }

    /// The path of one object.
    pub(crate) fn object(&self, name: &ObjectName) -> String {
        format!("{}/{}", self.collection(name.namespace.as_deref()), escaped(&name.name))
    }
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_found_by_version() {
        let mut discovery = Discovery::default();
        let version = |name: &str| {
            json!({"version": name, "freshness": "Current", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced", "verbs": ["list", "patch"]},
            ]})
        };
        discovery
            .add(&json!({"items": [{"metadata": {"name": "apps"}, "versions": [version("v1"), version("v1beta1")]}]}));
        let found = |wanted| discovery.find("apps", "Deployment", wanted).unwrap().version.clone();
        assert_eq!(
            (found(None), found(Some("v1beta1")), found(Some("v9"))),
            ("v1".into(), "v1beta1".into(), "v1".into())
        );
        assert!(discovery.find("", "Deployment", None).is_none());
        let name = ObjectName::parse("apps.Deployment/web/a:b c").unwrap();
        let api = discovery.find("apps", "Deployment", None).unwrap();
        assert_eq!(api.object(&name), "/apis/apps/v1/namespaces/web/deployments/a:b%20c");
    }
}
