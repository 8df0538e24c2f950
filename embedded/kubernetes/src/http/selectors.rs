//! Label and field selectors.

use serde_json::Value;

use crate::registry::Kind;
use crate::status::Status;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A selector of labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<(String, Test)>);

impl LabelSelector {
    /// Reads `a=b,c in (d,e),!f`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut tests = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let list = |rest: &str| -> Option<Vec<String>> {
                let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
                Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
            };
            let test = if let Some(key) = part.strip_prefix('!') {
                (key.trim().to_owned(), Test::Absent)
            } else if let Some((key, value)) = part.split_once("!=") {
                (key.trim().to_owned(), Test::NotIn(vec![value.trim().to_owned()]))
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (key.trim().to_owned(), Test::In(vec![value.trim().to_owned()]))
            } else if let Some((key, rest)) = part
                .split_once(" notin ")
                .or_else(|| part.split_once(" notin(").map(|(key, _)| (key, &part[part.find('(').unwrap_or(0)..])))
            {
                (key.trim().to_owned(), Test::NotIn(list(rest)?))
            } else if let Some((key, rest)) = part
                .split_once(" in ")
                .or_else(|| part.split_once(" in(").map(|(key, _)| (key, &part[part.find('(').unwrap_or(0)..])))
            {
                (key.trim().to_owned(), Test::In(list(rest)?))
            } else if let Some((key, value)) = part.split_once('>') {
                (key.trim().to_owned(), Test::Greater(value.trim().parse().ok()?))
            } else if let Some((key, value)) = part.split_once('<') {
                (key.trim().to_owned(), Test::Less(value.trim().parse().ok()?))
            } else {
                (part.to_owned(), Test::Exists)
            };
            if test.0.is_empty() || test.0.contains(char::is_whitespace) {
                return None;
            }
            tests.push(test);
        }
        Some(Self(tests))
    }

    /// Reads `matchLabels` and `matchExpressions`, or the plain map of older kinds; `None` if there is no selector.
    pub(crate) fn of(selector: &Value) -> Option<Self> {
        let map = selector.as_object()?;
        let mut tests = Vec::new();
        let structured = map.contains_key("matchLabels") || map.contains_key("matchExpressions");
        let labels = if structured { map.get("matchLabels").and_then(Value::as_object) } else { Some(map) };
        for (key, value) in labels.into_iter().flatten() {
            tests.push((key.clone(), Test::In(vec![value.as_str().unwrap_or_default().to_owned()])));
        }
        let expressions = map.get("matchExpressions").and_then(Value::as_array).filter(|_| structured);
        for expression in expressions.into_iter().flatten() {
            let values = || -> Vec<String> {
                let values = expression["values"].as_array().into_iter().flatten();
                values.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let number = || values().first().and_then(|value| value.parse().ok());
            let test = match expression["operator"].as_str()? {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                "Gt" => Test::Greater(number()?),
                "Lt" => Test::Less(number()?),
                _ => return None,
            };
            tests.push((expression["key"].as_str()?.to_owned(), test));
        }
        Some(Self(tests))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels meet it.
    pub(crate) fn matches(&self, labels: &Value) -> bool {
        self.0.iter().all(|(key, test)| {
            let value = labels.get(key).and_then(Value::as_str);
            match test {
                Test::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
                Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|other| other != value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::Greater(least) => {
                    value.and_then(|value| value.parse::<i64>().ok()).is_some_and(|value| value > *least)
                }
                Test::Less(most) => {
                    value.and_then(|value| value.parse::<i64>().ok()).is_some_and(|value| value < *most)
                }
            }
        })
    }
}

/// The parts between commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, of) in text.char_indices() {
        match of {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// A selector of fields: paths with the value that they must or must not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Reads `metadata.name=a,status.phase!=b`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut tests = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = part.split_once("==") {
                (path, true, value)
            } else {
                let (path, value) = part.split_once('=')?;
                (path, true, value)
            };
            tests.push((path.trim().to_owned(), equal, value.trim().to_owned()));
        }
        Some(Self(tests))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the kind can be selected by these fields.
    pub(crate) fn check(&self, kind: &Kind) -> Result<(), Status> {
        let known: &[&str] = match &*kind.store {
            "/pods" => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ],
            "/events" => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
                "regarding.kind",
                "regarding.name",
                "regarding.namespace",
                "regarding.uid",
                "reportingController",
            ],
            "/secrets" => &["type"],
            "/namespaces" => &["status.phase"],
            "/nodes" => &["spec.unschedulable"],
            "/services" => &["spec.clusterIP", "spec.type"],
            "/replicationcontrollers" | "apps/replicasets" => &["status.replicas"],
            "batch/jobs" => &["status.successful"],
            "certificates.k8s.io/certificatesigningrequests" => &["spec.signerName"],
            _ => &[],
        };
        for (path, _, _) in &self.0 {
            if !["metadata.name", "metadata.namespace"].contains(&path.as_str()) && !known.contains(&path.as_str()) {
                return Err(Status::bad_request(format!("field label not supported: {path}")));
            }
        }
        Ok(())
    }

    /// Whether an object meets it.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, equal, wanted)| {
            let mut at = object;
            for step in path.split('.') {
                at = &at[step];
            }
            let found = match at {
                Value::String(text) => text.clone(),
                Value::Null if path == "spec.unschedulable" || path == "spec.hostNetwork" => "false".to_owned(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (found == *wanted) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FieldSelector, LabelSelector};

    #[test]
    fn labels_are_selected() {
        let labels = json!({"a": "1", "b": "x"});
        for (selector, met) in [
            ("", true),
            ("a=1", true),
            ("a==1,b!=y", true),
            ("a in (1,2),b notin (y, z)", true),
            ("a in (2)", false),
            ("!c", true),
            ("!a", false),
            ("c", false),
            ("a>0", true),
            ("a<1", false),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(&labels), met, "{selector}");
        }
        assert_eq!(LabelSelector::parse("a b"), None);
        let of = |selector| LabelSelector::of(&selector).unwrap().matches(&labels);
        assert!(of(json!({"a": "1"})));
        assert!(of(json!({"matchExpressions": [{"key": "b", "operator": "Exists"}]})));
        assert!(!of(
            json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["x"]}]})
        ));
    }

    #[test]
    fn fields_are_selected() {
        let object = json!({"metadata": {"name": "n"}, "status": {"phase": "Running"}});
        assert!(FieldSelector::parse("metadata.name=n,status.phase!=Failed").unwrap().matches(&object));
        assert!(!FieldSelector::parse("metadata.name=m").unwrap().matches(&object));
    }
}
