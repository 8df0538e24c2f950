//! Stages of the embedded engine's cluster: judged, and as its kind has them.

use ksail_kinds::{Stage as Declared, StageRequirement as DeclaredRequirement};
use ksail_kubernetes_schema::{Shape, TypeId, builtin};
use ksail_model::{Diagnostic, Path, Step, Value};

use crate::check::nearest;
use crate::codes;
use crate::format::{SelectorOperator, Stage, StageKind, StageRequirement};
use crate::loaded::Loaded;
use crate::manifests;

/// Where they stand.
const STAGES: &str = "spec.provider.embedded.stages";
/// The longest delay, in milliseconds: a day.
const LONGEST_DELAY: u64 = 24 * 60 * 60 * 1000;

/// The path of a stage.
pub(crate) fn path(index: usize) -> Path {
    Path::parse(STAGES).unwrap_or_default().child(Step::Index(index))
}

/// The stages of a file, as the cluster's kind has them.
pub(crate) fn of(loaded: &Loaded) -> Vec<Declared> {
    loaded.config.spec.provider.embedded.stages.iter().map(declared).collect()
}

fn declared(stage: &Stage) -> Declared {
    let requirement = |requirement: &StageRequirement| DeclaredRequirement {
        pointer: field(&requirement.key).map(|path| pointer(&path)).unwrap_or_default(),
        operator: requirement.operator.to_string(),
        values: requirement.values.clone(),
    };
    Declared {
        name: stage.name.clone(),
        kind: stage.kind.to_string(),
        namespace: stage.namespace.clone(),
        match_labels: stage.match_labels.clone(),
        match_expressions: stage.match_expressions.iter().map(requirement).collect(),
        delay_milliseconds: stage.delay.as_deref().and_then(milliseconds).unwrap_or_default(),
        status: stage.status.clone().map(|status| Value::from(serde_json::Value::Object(status))),
    }
}

/// A duration of one unit, as its pattern has it; nothing if it is longer than a delay may be.
fn milliseconds(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let factor = match &text[unit..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        _ => 60 * 60 * 1000,
    };
    text[..unit].parse::<u64>().ok()?.checked_mul(factor).filter(|delay| *delay <= LONGEST_DELAY)
}

/// A key as a path. KWOK's stages write a dot before it.
fn field(key: &str) -> Result<Path, String> {
    let path = Path::parse(key.strip_prefix('.').unwrap_or(key)).map_err(|error| error.to_string())?;
    let is_plain = |step: &Step| matches!(step, Step::Key(_) | Step::Index(_));
    match path.steps() {
        [] => Err("it is empty".to_owned()),
        steps if steps.iter().all(is_plain) => Ok(path),
        _ => Err("elements of lists are named by their positions".to_owned()),
    }
}

fn pointer(path: &Path) -> String {
    let step = |step: &Step| match step {
        Step::Key(key) | Step::Element(key) => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Step::Index(index) => format!("/{index}"),
        Step::Any => "/*".to_owned(),
    };
    path.steps().iter().map(step).collect()
}

/// What is wrong with the stages of a file.
pub(crate) fn judge(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut judge = Judge { loaded, found: Vec::new() };
    let config = &loaded.config;
    let stages = &config.spec.provider.embedded.stages;
    if !stages.is_empty() && config.provider() == crate::format::Provider::Embedded && !config.has_embedded_cluster() {
        let error = Diagnostic::error(
            codes::NOT_ALLOWED_TOGETHER,
            format!("`{STAGES}` needs a cluster, and the file asks for none"),
        );
        judge.push(error.hint("take `distribution: Vanilla`"), &Path::parse(STAGES).unwrap_or_default());
        return judge.found;
    }
    for (index, stage) in stages.iter().enumerate() {
        judge.stage(&path(index), stage);
        if let Some(first) = stages[..index].iter().position(|other| other.name == stage.name) {
            let error = Diagnostic::error(codes::DUPLICATE_ENTRY, format!("two stages are named `{}`", stage.name));
            let error = loaded.label(error, &path(index).child_key("name"), "again here");
            judge.found.push(loaded.label(error, &path(first).child_key("name"), "first here"));
        }
    }
    judge.found
}

struct Judge<'a> {
    loaded: &'a Loaded,
    found: Vec<Diagnostic>,
}

impl Judge<'_> {
    fn push(&mut self, diagnostic: Diagnostic, path: &Path) {
        if !self.loaded.is_broken(path) {
            self.found.push(self.loaded.label(diagnostic, path, ""));
        }
    }

    fn bad(&mut self, message: String, hint: &str, path: &Path) {
        self.push(Diagnostic::error(codes::BAD_VALUE, message).hint(hint), path);
    }

    fn stage(&mut self, path: &Path, stage: &Stage) {
        if stage.kind == StageKind::Node && stage.namespace.is_some() {
            let message = "nodes are in no namespace".to_owned();
            self.bad(message, "leave `namespace` out, or take `kind: Pod`", &path.child_key("namespace"));
        }
        if let Some(delay) = stage.delay.as_deref().filter(|delay| milliseconds(delay).is_none()) {
            let message = format!("`{delay}` is too long a delay");
            self.bad(message, "a delay is a day at most: `24h`", &path.child_key("delay"));
        }
        for (index, requirement) in stage.match_expressions.iter().enumerate() {
            let path = path.child_key("matchExpressions").child(Step::Index(index));
            self.requirement(&path, stage.kind, requirement);
        }
        let status = path.child_key("status");
        if let Some((node, _)) = self.loaded.tree.at(&status) {
            for wrong in manifests::judge_status(stage.kind.as_str(), node) {
                let error = Diagnostic::error(codes::NOT_OF_ITS_KIND, wrong.message);
                let error = match wrong.hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                };
                self.found.push(self.loaded.sources.label(error, wrong.place, ""));
            }
        }
    }

    fn requirement(&mut self, path: &Path, kind: StageKind, requirement: &StageRequirement) {
        let key = path.child_key("key");
        match field(&requirement.key) {
            Err(why) => {
                let message = format!("`{}` is no field: {why}", requirement.key);
                self.bad(message, "write it as `status.phase`", &key);
            }
            Ok(field) => {
                if let Err(near) = known(kind, &field) {
                    let message = format!("a {kind} has no field `{field}`");
                    let error = Diagnostic::error(codes::NOT_OF_ITS_KIND, message);
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    let error = match hint {
                        Some(hint) => error.hint(hint),
                        None => error,
                    };
                    self.push(error, &key);
                }
            }
        }
        let compares = matches!(requirement.operator, SelectorOperator::In | SelectorOperator::NotIn);
        if compares && requirement.values.is_empty() {
            let message = format!("`{}` compares with nothing", requirement.operator);
            self.bad(message, "give it `values`", &path.child_key("operator"));
        } else if !compares && !requirement.values.is_empty() {
            let message = format!("`{}` takes no values", requirement.operator);
            self.bad(message, "leave `values` out, or take `In` or `NotIn`", &path.child_key("values"));
        }
    }
}

/// Whether a kind has a field; else the nearest name to the first step that it has not.
fn known(kind: StageKind, path: &Path) -> Result<(), Option<String>> {
    let catalog = builtin();
    let mut of: TypeId = catalog.kind("", "v1", kind.as_str()).unwrap_or(TypeId::ANY);
    for step in path.steps() {
        of = match (catalog.types.shape(of), step) {
            (Shape::Object(object), Step::Key(name)) => match object.fields.get(name.as_str()) {
                Some(field) => field.of,
                None if object.open => TypeId::ANY,
                None => return Err(nearest(name, object.fields.keys().map(|name| &**name)).map(str::to_owned)),
            },
            (Shape::Map { values, .. }, Step::Key(_)) => *values,
            (Shape::List { items, .. }, Step::Index(_)) => *items,
            (Shape::Any, _) => TypeId::ANY,
            _ => return Err(None),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_of_one_unit_and_a_day_at_most() {
        for (text, wanted) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("3s", Some(3000)),
            ("2m", Some(120_000)),
            ("24h", Some(LONGEST_DELAY)),
            ("25h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(milliseconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn keys_are_paths_and_fields_of_the_kind() {
        for (key, wanted) in [
            ("status.phase", Ok("/status/phase")),
            (".status.phase", Ok("/status/phase")),
            ("metadata.annotations.\"example.com/slow\"", Ok("/metadata/annotations/example.com~1slow")),
            ("spec.containers[0].image", Ok("/spec/containers/0/image")),
            ("", Err(())),
            ("spec.containers[*].image", Err(())),
        ] {
            assert_eq!(field(key).map(|path| pointer(&path)).map_err(drop), wanted.map(str::to_owned), "{key}");
        }
        let known = |kind, key: &str| known(kind, &Path::parse(key).unwrap());
        assert_eq!(known(StageKind::Pod, "metadata.labels.app"), Ok(()));
        assert_eq!(known(StageKind::Node, "spec.taints[0].key"), Ok(()));
        assert_eq!(known(StageKind::Pod, "status.phas"), Err(Some("phase".to_owned())));
        assert_eq!(known(StageKind::Pod, "status.phase.more"), Err(None));
    }
}
