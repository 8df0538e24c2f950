//! What is ignored is sent as it is: an update that left it out, or sent what is declared, would change it.

use ksail_model::{KindSchema, ListShape, Path, Step, Value};

use crate::diff::{Difference, plain_text, structure};
use crate::fields::is_secret;

/// The wanted fields with the ignored differences as they are outside. Secrets stay as they are declared: their text outside
/// is not ours to know, and a provider changes only what is named as changed.
pub(crate) fn with_ignored(spec: &Value, current: &Value, ignored: &[Difference], schema: &KindSchema) -> Value {
    let mut spec = spec.clone();
    let keeper = Keeper { schema };
    // What is to go from the end of a list goes last, so that positions hold until then.
    let (kept, gone): (Vec<_>, Vec<_>) =
        ignored.iter().filter(|difference| !is_secret(difference)).partition(|difference| difference.before.is_some());
    for difference in kept.into_iter().chain(gone.into_iter().rev()) {
        keeper.keep(&mut spec, &Path::root(), difference.path.steps(), difference.before.as_ref());
    }
    keeper.same_texts(&mut spec, current);
    spec
}

struct Keeper<'a> {
    schema: &'a KindSchema,
}

impl Keeper<'_> {
    /// Sets what is below `value`, which stands at `at`; nothing there before means that it goes.
    fn keep(&self, value: &mut Value, at: &Path, steps: &[Step], before: Option<&Value>) {
        let Some((step, rest)) = steps.split_first() else {
            *value = before.cloned().unwrap_or_default();
            return;
        };
        if let Value::String(text) = value {
            // A path leads into a text only where the text was compared by its structure.
            if let Some(mut tree) = structure(text) {
                self.keep(&mut tree, at, steps, before);
                *text = plain_json(&tree).to_string();
            }
            return;
        }
        let below = at.child(step.clone());
        match (value, step) {
            (Value::List(list), Step::Index(index)) => self.keep_at(list, *index, &below, rest, before),
            (Value::List(list), Step::Element(name)) => {
                let index = self.position(list, at, name).unwrap_or(list.len());
                self.keep_at(list, index, &below, rest, before);
            }
            (value @ Value::Null, Step::Index(_) | Step::Element(_)) => {
                *value = Value::List(Vec::new());
                self.keep(value, at, steps, before);
            }
            (value @ (Value::Null | Value::Map(_)), Step::Key(key)) => {
                if rest.is_empty() && before.is_none() {
                    if let Value::Map(map) = value {
                        map.remove(key);
                    }
                    return;
                }
                let mut inner = value.field(key).cloned().unwrap_or_default();
                self.keep(&mut inner, &below, rest, before);
                value.set(&Path::key(key.clone()), inner);
            }
            _ => {}
        }
    }

    fn keep_at(&self, list: &mut Vec<Value>, index: usize, below: &Path, rest: &[Step], before: Option<&Value>) {
        match (list.get_mut(index), before) {
            (Some(_), None) if rest.is_empty() => {
                list.remove(index);
            }
            (Some(element), _) => self.keep(element, below, rest, before),
            (None, Some(before)) if rest.is_empty() => list.push(before.clone()),
            (None, _) => {}
        }
    }

    fn position(&self, list: &[Value], at: &Path, name: &str) -> Option<usize> {
        list.iter().position(|element| match self.schema.field(at).list {
            ListShape::ByKey(key) => element.field(key).is_some_and(|value| plain_text(value) == name),
            _ => plain_text(element) == name,
        })
    }

    /// A structured text that says the same as the one outside is sent as it stands there, with its comments.
    fn same_texts(&self, spec: &mut Value, current: &Value) {
        for field in self.schema.fields.iter().filter(|field| field.structured_text) {
            let (Some(wanted), Some(is)) = (spec.get(&field.path), current.get(&field.path)) else { continue };
            let tree = |text: &Value| text.as_str().and_then(structure);
            if wanted != is && tree(wanted).is_some_and(|wanted| Some(wanted) == tree(is)) {
                spec.set(&field.path, is.clone());
            }
        }
    }
}

/// A tree that came out of a text, to be written as a text again: it holds neither references nor secrets.
fn plain_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.clone().into(),
        Value::String(text) => text.clone().into(),
        Value::List(list) => list.iter().map(plain_json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), plain_json(value))).collect(),
        Value::Null | Value::Ref(_) | Value::Unknown | Value::Secret(_) => serde_json::Value::Null,
    }
}
