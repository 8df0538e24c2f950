//! Rules in CEL (`x-kubernetes-validations`) of custom resources.
//!
//! The language is that of the crate: a rule that uses functions which only Kubernetes has cannot be evaluated, and does not refuse
//! anything.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, Program};
use ksail_kubernetes_schema::{Rule, Shape, TypeId, Types};
use serde_json::Value;

use super::validate::field;
use crate::status::Cause;

/// The variable of what a value was; rules that name it are asked of changes only.
const OLD: &str = "oldSelf";

/// A value as the language has it: whole numbers are signed, as literals are.
fn convert(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(yes) => cel::Value::Bool(*yes),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => cel::Value::Int(whole),
            None => cel::Value::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(list) => cel::Value::List(Arc::new(list.iter().map(convert).collect())),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| (Key::String(Arc::new(key.clone())), convert(value));
            let map: HashMap<Key, cel::Value> = map.iter().map(entry).collect();
            cel::Value::Map(Map { map: Arc::new(map) })
        }
    }
}

/// What an expression says of a value; `None` if it cannot be evaluated.
fn evaluate(expression: &str, value: &Value, old: Option<&Value>) -> Option<cel::Value> {
    let program = Program::compile(expression).ok()?;
    let mut context = Context::default();
    context.add_variable_from_value("self", convert(value));
    if let Some(old) = old {
        context.add_variable_from_value(OLD, convert(old));
    }
    program.execute(&context).ok()
}

/// Is given rules, a value, what it was, and its path.
type Take<'t, 'a> = dyn FnMut(&[Rule], &'a Value, Option<&'a Value>, &str) + 't;

/// Calls `take` with each value that has rules, what it was, and its path.
fn walk<'a>(types: &Types, of: TypeId, value: &'a Value, old: Option<&'a Value>, path: &str, take: &mut Take<'_, 'a>) {
    if let Some(checks) = types.node(of).checks.as_ref().filter(|checks| !checks.rules.is_empty()) {
        take(&checks.rules, value, old, path);
    }
    match (types.shape(of), value) {
        (Shape::List { items, .. }, Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                walk(types, *items, item, None, &format!("{path}[{index}]"), take);
            }
        }
        (Shape::Map { .. } | Shape::Object(_), Value::Object(map)) => {
            for (key, item) in map {
                let old = old.and_then(|old| old.get(key));
                walk(types, types.field(of, key), item, old, &field(path, key), take);
            }
        }
        _ => {}
    }
}

/// Whether any rule would be asked of a value.
pub(crate) fn any(types: &Types, of: TypeId, value: &Value) -> bool {
    let mut found = false;
    walk(types, of, value, None, "", &mut |_, _, _, _| found = true);
    found
}

/// Checks a value, and all within it, by the rules of its type.
pub(crate) fn check(
    types: &Types,
    of: TypeId,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    walk(types, of, value, old, path, &mut |rules, value, old, path| judge(rules, value, old, path, causes));
}

/// Checks a value by rules.
fn judge(rules: &[Rule], value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for rule in rules {
        if rule.expression.contains(OLD) && old.is_none() {
            continue;
        }
        if !matches!(evaluate(&rule.expression, value, old), Some(cel::Value::Bool(false))) {
            continue;
        }
        let computed = rule.message_expression.as_deref().and_then(|expression| evaluate(expression, value, old));
        let said = match (computed, &rule.message) {
            (Some(cel::Value::String(text)), _) => text.to_string(),
            (_, Some(message)) => message.to_string(),
            _ => format!("failed rule: {}", rule.expression),
        };
        let field = match rule.field_path.as_deref() {
            Some(more) => format!("{path}{more}"),
            None => path.to_owned(),
        };
        causes.push(match rule.reason.as_deref() {
            Some("FieldValueForbidden") => Cause::forbidden(field, &said),
            Some("FieldValueRequired") => Cause::required(field, &said),
            // The value is not shown.
            _ => Cause { reason: "FieldValueInvalid", field, message: format!("Invalid value: {said}") },
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(expression: &str) -> Rule {
        Rule {
            expression: expression.into(),
            message: Some("no".into()),
            message_expression: None,
            reason: None,
            field_path: None,
        }
    }

    #[test]
    fn rules_judge_values_and_changes() {
        let value = json!({"min": 3, "max": 2, "names": ["a", "b"]});
        let old = json!({"min": 3, "max": 1});
        for (expression, old, refused) in [
            ("self.min <= self.max", None, true),
            ("self.max < 3", None, false),
            ("self.names.all(name, name != 'b')", None, true),
            ("!has(self.other) || self.other == 1", None, false),
            ("self.max == oldSelf.max", None, false),
            ("self.max == oldSelf.max", Some(&old), true),
            ("self.min == oldSelf.min", Some(&old), false),
            ("self.min.unknownFunction()", None, false),
        ] {
            let mut causes = Vec::new();
            judge(&[rule(expression)], &value, old, "spec", &mut causes);
            assert_eq!(!causes.is_empty(), refused, "{expression}");
        }
    }
}
