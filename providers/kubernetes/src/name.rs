//! What finds an object: group, kind, namespace and name. The version is not part of it.

use std::fmt;

use ksail_model::Identity;
use ksail_provider::CallError;

/// An object's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace, if it is in one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// Stands where an object is in no namespace.
const NO_NAMESPACE: &str = "_";

impl ObjectName {
    /// Reads `<group.Kind>/<namespace or _>/<name>`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (group, kind) = kind.rsplit_once('.').unwrap_or(("", kind));
        if kind.is_empty() || namespace.is_empty() || name.is_empty() {
            return None;
        }
        Some(Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: (namespace != NO_NAMESPACE).then(|| namespace.to_owned()),
            name: name.to_owned(),
        })
    }

    /// The name in an identity.
    pub(crate) fn of(identity: &Identity) -> Result<Self, CallError> {
        Self::parse(&identity.name).ok_or_else(|| {
            CallError::refused(format!("`{}` names no object", identity.name))
                .hint("an object is named <group.Kind>/<namespace or _>/<name>, such as apps.Deployment/web/shop")
        })
    }

    /// The kind with its group, `apps.Deployment`.
    pub fn group_kind(&self) -> String {
        match self.group.as_str() {
            "" => self.kind.clone(),
            group => format!("{group}.{}", self.kind),
        }
    }
}

/// As an identity's name.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group_kind(), self.namespace.as_deref().unwrap_or(NO_NAMESPACE), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for text in ["Namespace/_/web", "apps.Deployment/web/shop", "networking.k8s.io.Ingress/web/a", "x.y.Z/_/a:b/c"]
        {
            assert_eq!(ObjectName::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "ConfigMap", "ConfigMap/a", "apps./a/b", "ConfigMap//b", "ConfigMap/a/"] {
            assert_eq!(ObjectName::parse(text), None, "{text}");
        }
    }
}
