//! Rules in CEL (`x-kubernetes-validations`) of custom resources. One that cannot be evaluated refuses nothing.

use ksail_expressions::{Answer, RuleExpression};
use ksail_kubernetes_schema::{Rule, Shape, TypeId, Types};
use serde_json::Value;

use super::validate::field;
use crate::status::Cause;

/// The variable of what a value was; rules that name it are asked of changes only.
const OLD: &str = "oldSelf";
/// Words of the language, which cannot be names of fields.
const RESERVED: [&str; 18] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

/// The name that a field has in expressions.
fn escaped_name(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let name = name.replace("__", "__underscores__");
    name.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

/// A value with the names that its fields have in expressions. Keys of maps are values, and stay.
fn escaped(types: &Types, of: TypeId, value: &Value) -> Value {
    match (types.shape(of), value) {
        (Shape::List { items, .. }, Value::Array(list)) => {
            Value::Array(list.iter().map(|item| escaped(types, *items, item)).collect())
        }
        (shape @ (Shape::Map { .. } | Shape::Object(_)), Value::Object(map)) => {
            let is_object = matches!(shape, Shape::Object(_));
            let of = |(key, item): (&String, &Value)| {
                let name = if is_object { escaped_name(key) } else { key.clone() };
                (name, escaped(types, types.field(of, key), item))
            };
            Value::Object(map.iter().map(of).collect())
        }
        (_, value) => value.clone(),
    }
}

/// Is given rules, a type, a value of it, what that was, and its path.
type Take<'t, 'a> = dyn FnMut(&[Rule], TypeId, &'a Value, Option<&'a Value>, &str) + 't;

/// Calls `take` with each value that has rules, what it was, and its path.
fn walk<'a>(types: &Types, of: TypeId, value: &'a Value, old: Option<&'a Value>, path: &str, take: &mut Take<'_, 'a>) {
    if let Some(checks) = types.node(of).checks.as_ref().filter(|checks| !checks.rules.is_empty()) {
        take(&checks.rules, of, value, old, path);
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
    walk(types, of, value, None, "", &mut |_, _, _, _, _| found = true);
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
    walk(types, of, value, old, path, &mut |rules, of, value, old, path| {
        let old = old.map(|old| escaped(types, of, old));
        judge(rules, &escaped(types, of, value), old.as_ref(), path, causes);
    });
}

/// Checks a value by rules.
fn judge(rules: &[Rule], value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for rule in rules {
        if rule.expression.contains(OLD) && old.is_none() {
            continue;
        }
        let answer = |expression: &str| RuleExpression::parse(expression)?.answer(value, old);
        if answer(&rule.expression) != Some(Answer::Bool(false)) {
            continue;
        }
        let computed = rule.message_expression.as_deref().and_then(answer);
        let said = match (computed, &rule.message) {
            (Some(Answer::Text(text)), _) => text,
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
        let value = json!({"min": 3, "max": 2, "names": ["a", "b"], "size": "1Gi", "host": "10.0.0.1"});
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
            ("quantity(self.size).compareTo(quantity('1Gi')) > 0", None, true),
            ("isIP(self.host)", None, false),
            ("self.names.isSorted() && sets.contains(self.names, ['c'])", None, true),
        ] {
            let mut causes = Vec::new();
            judge(&[rule(expression)], &value, old, "spec", &mut causes);
            assert_eq!(!causes.is_empty(), refused, "{expression}");
        }
    }

    #[test]
    fn fields_have_names_that_expressions_can_write() {
        let mut types = ksail_kubernetes_schema::custom_types();
        let of = types.add_schema(&json!({"type": "object", "properties": {
            "max-size": {"type": "integer"}, "a.b/c": {"type": "string"}, "x__y": {"type": "string"}, "namespace": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        }}));
        let value = json!({"max-size": 1, "a.b/c": "d", "x__y": "z", "namespace": "n", "labels": {"a-b": "c"}});
        let wanted = json!({"max__dash__size": 1, "a__dot__b__slash__c": "d", "x__underscores__y": "z", "__namespace__": "n", "labels": {"a-b": "c"}});
        assert_eq!(escaped(&types, of, &value), wanted);
    }
}
