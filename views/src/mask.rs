//! Sensitive values are taken out before anything is shown.

use ksail_model::{KindSchema, Path, Secret, Step, Value};
use ksail_plan::{Explanation, FieldChange};

/// What stands where a sensitive value was.
pub(crate) const fn hidden() -> Value {
    Value::Secret(Secret { parts: Vec::new(), fingerprint: None })
}

/// What is sensitive in a resource: what its kind says, and what its changes say.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    patterns: Vec<Path>,
}

impl Mask {
    /// The mask of a resource.
    pub(crate) fn new<'a>(schema: Option<&KindSchema>, changes: impl IntoIterator<Item = &'a FieldChange>) -> Self {
        let sensitive = changes.into_iter().filter(|change| change.sensitive);
        Self::with_paths(schema, sensitive.map(|change| &change.path))
    }

    /// The mask of a resource, with more paths that are sensitive.
    pub(crate) fn with_paths<'a>(schema: Option<&KindSchema>, paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let of_kind = schema.into_iter().flat_map(|schema| &schema.fields).filter(|field| field.sensitive);
        Self { patterns: of_kind.map(|field| field.path.clone()).chain(paths.into_iter().map(widened)).collect() }
    }

    /// The mask of an explanation.
    pub(crate) fn of_explanation(schema: Option<&KindSchema>, explanation: &Explanation) -> Self {
        let drifted = explanation.drift.iter().flat_map(|drift| &drift.changes);
        let drifted = drifted.filter(|change| change.sensitive).map(|change| &change.path);
        let changed = explanation.causes.iter().filter(|cause| cause.sensitive).map(|cause| &cause.path);
        Self::with_paths(schema, changed.chain(drifted))
    }

    /// Whether all that stands at the path is sensitive.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(path))
    }

    /// The value at `path` with everything sensitive hidden. Secrets stay secrets, which print nothing.
    pub(crate) fn apply(&self, value: &Value, path: &Path) -> Value {
        if value.is_null() || self.patterns.is_empty() {
            return value.clone();
        }
        if self.hides(path) {
            return hidden();
        }
        match value {
            Value::Map(map) => Value::Map(
                map.iter().map(|(key, child)| (key.clone(), self.apply(child, &path.child_key(key.clone())))).collect(),
            ),
            Value::List(list) => Value::List(
                list.iter()
                    .enumerate()
                    .map(|(index, child)| self.apply(child, &path.child(Step::Index(index))))
                    .collect(),
            ),
            // A text whose structure holds something sensitive cannot be shown in part.
            Value::String(_) if self.patterns.iter().any(|pattern| is_below(pattern, path)) => hidden(),
            leaf => leaf.clone(),
        }
    }
}

/// The path as a pattern for all elements of the lists in it, because an element's key is not its position.
fn widened(path: &Path) -> Path {
    let steps = path.steps().iter().map(|step| match step {
        Step::Key(key) => Step::Key(key.clone()),
        Step::Index(_) | Step::Element(_) | Step::Any => Step::Any,
    });
    Path::from(steps.collect::<Vec<_>>())
}

/// Whether the pattern covers only something below the path.
fn is_below(pattern: &Path, path: &Path) -> bool {
    let steps = pattern.steps();
    steps.len() > path.steps().len() && Path::from(steps[..path.steps().len()].to_vec()).covers(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(patterns: &[&str]) -> Mask {
        Mask { patterns: patterns.iter().map(|pattern| Path::parse(pattern).unwrap()).collect() }
    }

    #[test]
    fn sensitive_parts_are_hidden_wherever_they_are() {
        let value: Value = serde_json::json!({"a": "s", "l": [{"p": "s", "q": 1}], "text": "p: s", "b": 1}).into();
        let shown = mask(&["a", "l[*].p", "text.p"]).apply(&value, &Path::root());
        assert_eq!(
            shown.to_string(),
            "{a: (sensitive value), b: 1, l: [{p: (sensitive value), q: 1}], text: (sensitive value)}"
        );
    }

    #[test]
    fn an_element_by_key_hides_all_elements() {
        assert_eq!(widened(&Path::parse("users[\"ann\"].password").unwrap()).to_string(), "users[*].password");
    }
}
