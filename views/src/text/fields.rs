//! What changes in a resource, as a tree of fields to print.

use std::collections::BTreeMap;

use ksail_model::{KindSchema, ListShape, Map, Path, Step, Value};
use ksail_plan::{Cause, FieldChange};

use crate::mask::{Mask, hidden};

/// What stands in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Add,
    Remove,
    Change,
    Same,
}

/// A field, or an element of a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// Its name; `None` for elements told apart by nothing but their value.
    pub(super) label: Option<String>,
    pub(super) sign: Sign,
    pub(super) shape: Shape,
    /// What is said behind it.
    pub(super) comment: String,
}

/// How a field is printed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// A value that is added, removed or the same as a whole.
    Whole(Value),
    /// One value becomes another.
    Turns { before: Value, after: Value },
    /// Parts change.
    Parts { brackets: Brackets, parts: Vec<Field>, unchanged: usize },
    /// A text of several lines changes.
    Lines { before: String, after: String },
}

/// What encloses the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brackets {
    Map,
    List,
    Json,
    Yaml,
}

/// All that is needed to arrange the changes of one resource.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) schema: Option<&'a KindSchema>,
    pub(super) mask: &'a Mask,
    /// Whether fields that stay are listed instead of counted.
    pub(super) unchanged: bool,
    /// Whether it is said what causes each change.
    pub(super) causes: bool,
}

#[derive(Default)]
struct Tree<'a> {
    change: Option<&'a FieldChange>,
    below: BTreeMap<Step, Tree<'a>>,
}

impl<'a> Source<'a> {
    /// The fields of a resource that is made or goes as a whole.
    pub(super) fn whole(&self, sign: Sign, value: &Value) -> Vec<Field> {
        match self.mask.apply(value, &Path::root()) {
            Value::Map(map) => map
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| Field {
                    label: Some(key),
                    sign,
                    shape: Shape::Whole(value),
                    comment: String::new(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The fields that change, with how many do not.
    pub(super) fn changed(
        &self,
        changes: &'a [FieldChange],
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> (Vec<Field>, usize) {
        let mut root = Tree::default();
        for change in changes {
            let mut at = &mut root;
            for step in change.path.steps() {
                at = at.below.entry(step.clone()).or_default();
            }
            at.change = Some(change);
        }
        // A change of the whole value has no name of its own.
        if let Some(change) = root.change {
            return (vec![self.leaf(None, change)], 0);
        }
        self.parts(&root, &Path::root(), before, after)
    }

    fn parts(
        &self,
        tree: &Tree<'a>,
        path: &Path,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> (Vec<Field>, usize) {
        let changed = tree.below.iter().map(|(step, below)| {
            let path = path.child(step.clone());
            let before = self.child(before, step, &path);
            let after = self.child(after, step, &path);
            (step.clone(), self.field(label(step, below), below, &path, before, after))
        });
        let unchanged = self.unchanged(tree, path, after.or(before));
        if !self.unchanged {
            return (changed.map(|(_, field)| field).collect(), unchanged.len());
        }
        let mut fields: Vec<(Step, Field)> = changed.chain(unchanged).collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        (fields.into_iter().map(|(_, field)| field).collect(), 0)
    }

    fn field(
        &self,
        label: Option<String>,
        tree: &Tree<'a>,
        path: &Path,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Field {
        if let Some(change) = tree.change {
            return self.leaf(label, change);
        }
        let before = before.filter(|value| !value.is_null());
        let after = after.filter(|value| !value.is_null());
        let (old, new) = (before.map(opened), after.map(opened));
        let brackets = match (new.as_ref().or(old.as_ref()), tree.below.keys().next()) {
            (Some(opened), _) if opened.brackets != Brackets::Map => opened.brackets,
            (Some(opened), _) if opened.value.as_map().is_some() => Brackets::Map,
            (_, Some(Step::Key(_)) | None) => Brackets::Map,
            _ => Brackets::List,
        };
        let (parts, unchanged) = self.parts(
            tree,
            path,
            old.as_ref().map(|old| old.value.as_ref()),
            new.as_ref().map(|new| new.value.as_ref()),
        );
        // Values that were not given (drift) are told by what happens to the parts.
        let all = |sign| parts.iter().all(|part| part.sign == sign);
        let sign = match (before, after) {
            (None, Some(_)) => Sign::Add,
            (Some(_), None) => Sign::Remove,
            (Some(_), Some(_)) => Sign::Change,
            (None, None) if all(Sign::Add) => Sign::Add,
            (None, None) if all(Sign::Remove) => Sign::Remove,
            (None, None) => Sign::Change,
        };
        Field { label, sign, shape: Shape::Parts { brackets, parts, unchanged }, comment: String::new() }
    }

    fn leaf(&self, label: Option<String>, change: &FieldChange) -> Field {
        let side = |value: &Option<Value>| {
            let value = value.as_ref().filter(|value| !value.is_null())?;
            Some(if change.sensitive { hidden() } else { self.mask.apply(value, &change.path) })
        };
        let comment = if self.causes { comment(change) } else { String::new() };
        let (sign, shape) = match (side(&change.before), side(&change.after)) {
            (None, None) => (Sign::Same, Shape::Whole(Value::Null)),
            (None, Some(after)) => (Sign::Add, Shape::Whole(after)),
            (Some(before), None) => (Sign::Remove, Shape::Whole(before)),
            (Some(before), Some(after)) => (Sign::Change, turns(before, after)),
        };
        Field { label, sign, shape, comment }
    }

    /// The fields of a map, or elements of a list, that no change names.
    fn unchanged(&self, tree: &Tree<'a>, path: &Path, value: Option<&Value>) -> Vec<(Step, Field)> {
        let children: Vec<(Step, &Value)> = match value {
            Some(Value::Map(map)) => map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (Step::Key(key.clone()), value))
                .collect(),
            Some(Value::List(list)) => {
                list.iter().enumerate().map(|(index, value)| (self.step_of(path, index, value), value)).collect()
            }
            _ => Vec::new(),
        };
        let same = |(step, value): (Step, &Value)| {
            let label = match &step {
                Step::Element(key) if plain(value) == *key => None,
                step => label(step, &Tree::default()),
            };
            let shape = Shape::Whole(self.mask.apply(value, &path.child(step.clone())));
            (step, Field { label, sign: Sign::Same, shape, comment: String::new() })
        };
        children.into_iter().filter(|(step, _)| !tree.below.contains_key(step)).map(same).collect()
    }

    fn step_of(&self, path: &Path, index: usize, value: &Value) -> Step {
        match self.list_shape(path) {
            ListShape::Ordered => Step::Index(index),
            ListShape::Set => Step::Element(plain(value)),
            ListShape::ByKey(key) => Step::Element(value.field(key).map(plain).unwrap_or_default()),
        }
    }

    fn list_shape(&self, path: &Path) -> ListShape {
        self.schema.map_or(ListShape::Ordered, |schema| schema.field(path).list)
    }

    /// The value at one more step; lists by key are searched.
    fn child<'v>(&self, value: Option<&'v Value>, step: &Step, path: &Path) -> Option<&'v Value> {
        match (value?, step) {
            (Value::Map(map), Step::Key(key) | Step::Element(key)) => map.get(key),
            (Value::List(list), Step::Index(index)) => list.get(*index),
            (Value::List(list), Step::Element(_)) => {
                let mut above = path.steps().to_vec();
                above.pop();
                let above = Path::from(above);
                let mut elements = list.iter().enumerate();
                elements.find(|(index, value)| self.step_of(&above, *index, value) == *step).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

struct Opened<'a> {
    value: std::borrow::Cow<'a, Value>,
    brackets: Brackets,
}

/// The value, or the tree in it where it is a text of which parts change.
fn opened(value: &Value) -> Opened<'_> {
    use std::borrow::Cow;
    let as_is = |brackets| Opened { value: Cow::Borrowed(value), brackets };
    match value {
        Value::String(text) => {
            let json = serde_json::from_str::<serde_json::Value>(text).ok().map(|tree| (tree, Brackets::Json));
            let tree = json.or_else(|| serde_saphyr::from_str(text).ok().map(|tree| (tree, Brackets::Yaml)));
            match tree {
                Some((tree, brackets)) if tree.is_object() || tree.is_array() => {
                    Opened { value: Cow::Owned(tree.into()), brackets }
                }
                _ => as_is(Brackets::Map),
            }
        }
        Value::List(_) => as_is(Brackets::List),
        _ => as_is(Brackets::Map),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Elements of sets are their own name; elements by key and by position are named in brackets.
fn label(step: &Step, tree: &Tree<'_>) -> Option<String> {
    match step {
        Step::Key(key) => Some(key.clone()),
        Step::Index(index) => Some(format!("[{index}]")),
        Step::Any => Some("[*]".to_owned()),
        Step::Element(key) => {
            let is_itself = |value: &Option<Value>| value.as_ref().is_none_or(|value| plain(value) == *key);
            // Elements of sets are their own name; others are named in brackets.
            let by_itself = tree.change.is_some_and(|change| is_itself(&change.before) && is_itself(&change.after));
            (!by_itself).then(|| format!("[{}]", crate::printable::quoted(key)))
        }
    }
}

fn comment(change: &FieldChange) -> String {
    let mut said = Vec::new();
    if change.forces_replacement {
        said.push("forces replacement");
    }
    match change.cause {
        Cause::Declared => {}
        Cause::Drifted => said.push("changed outside"),
        Cause::Dependency => said.push("follows from another resource"),
    }
    said.join(", ")
}

pub(super) fn turns(before: Value, after: Value) -> Shape {
    match (before, after) {
        (Value::String(before), Value::String(after)) if before.contains('\n') || after.contains('\n') => {
            Shape::Lines { before, after }
        }
        (Value::Map(before), Value::Map(after)) => maps(&before, &after),
        (before, after) => Shape::Turns { before, after },
    }
}

/// Two maps that a change names as wholes, key by key.
fn maps(before: &Map, after: &Map) -> Shape {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let (mut parts, mut unchanged) = (Vec::new(), 0);
    for key in keys {
        let side = |map: &Map| map.get(key).filter(|value| !value.is_null()).cloned();
        let (sign, shape) = match (side(before), side(after)) {
            (before, after) if before == after => {
                unchanged += usize::from(before.is_some());
                continue;
            }
            (None, Some(after)) => (Sign::Add, Shape::Whole(after)),
            (Some(before), None) => (Sign::Remove, Shape::Whole(before)),
            (Some(before), Some(after)) => (Sign::Change, turns(before, after)),
            (None, None) => continue,
        };
        parts.push(Field { label: Some(key.clone()), sign, shape, comment: String::new() });
    }
    Shape::Parts { brackets: Brackets::Map, parts, unchanged }
}
