//! Rules in CEL (`x-kubernetes-validations`) of custom resources. One that fails for what the value is refuses it, as on a real
//! server; one that has what the library lacks refuses nothing.

use ksail_expressions::{Answer, NoAnswer, RuleExpression, RuleValue, field_name};
use ksail_kubernetes_schema::{Rule, Shape, TypeId, Types};
use serde_json::Value;

use super::validate::field;
use crate::merge::fields::item_step;
use crate::status::Cause;

/// The variable of what a value was; rules that name it are asked of changes only.
const OLD: &str = "oldSelf";
/// A value as rules see it: with the names that its fields have in expressions, and texts of a format as what they tell of. Keys of
/// maps are values, and stay.
fn seen(types: &Types, of: TypeId, value: &Value) -> RuleValue {
    match (types.shape(of), value) {
        (Shape::List { items, .. }, Value::Array(list)) => {
            RuleValue::list(list.iter().map(|item| seen(types, *items, item)))
        }
        (shape @ (Shape::Map { .. } | Shape::Object(_)), Value::Object(map)) => {
            let is_object = matches!(shape, Shape::Object(_));
            RuleValue::map(map.iter().flat_map(|(key, item)| {
                let value = seen(types, types.field(of, key), item);
                let escaped = if is_object { field_name(key) } else { key.clone() };
                // Some words can be written as they are, too.
                let plain = (escaped != *key && escaped.ends_with("__")).then(|| (key.clone(), value.clone()));
                std::iter::once((escaped, value)).chain(plain)
            }))
        }
        (_, Value::String(text)) => {
            let format = types.node(of).checks.as_ref().and_then(|checks| checks.format.as_deref());
            RuleValue::text(text, format.unwrap_or_default())
        }
        (_, value) => RuleValue::new(value),
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
        (Shape::List { items, merge }, Value::Array(list)) => {
            let step = |item: &Value| item_step(types, *items, merge, item);
            for (index, item) in list.iter().enumerate() {
                // Items of what is no list by keys have no past.
                let same = |other: &&'a Value| step(item).is_some_and(|own| step(other) == Some(own));
                let old = old.and_then(Value::as_array).and_then(|old| old.iter().find(same));
                walk(types, *items, item, old, &format!("{path}[{index}]"), take);
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
        let old = old.map(|old| seen(types, of, old));
        judge(rules, kind(types.shape(of)), &seen(types, of, value), old.as_ref(), path, causes);
    });
}

/// The name of a type, as messages show it in place of a value.
fn kind(shape: &Shape) -> &'static str {
    match shape {
        Shape::List { .. } => "array",
        Shape::Text(_) | Shape::Quantity => "string",
        Shape::Integer { .. } => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
        Shape::Map { .. } | Shape::Object(_) => "object",
        _ => "",
    }
}

/// Checks a value by rules.
fn judge(rules: &[Rule], kind: &str, value: &RuleValue, old: Option<&RuleValue>, path: &str, causes: &mut Vec<Cause>) {
    for rule in rules {
        let optional = rule.optional_old.then(|| RuleValue::optional(old));
        let old = optional.as_ref().or(old);
        if rule.expression.contains(OLD) && old.is_none() {
            continue;
        }
        let answer = |expression: &str| {
            RuleExpression::parse(expression).ok_or(NoAnswer::Beyond).and_then(|parsed| parsed.answer(value, old))
        };
        match answer(&rule.expression) {
            Ok(Answer::Bool(false)) => {}
            Err(NoAnswer::Fails(why)) => {
                let of = rule.message.as_deref().unwrap_or(&rule.expression).trim();
                let message = format!("Invalid value: {kind:?}: {why} evaluating rule: {of}");
                causes.push(Cause { reason: "FieldValueInvalid", field: path.to_owned(), message });
                continue;
            }
            Ok(_) | Err(NoAnswer::Beyond) => continue,
        }
        let computed = rule.message_expression.as_deref().and_then(|expression| answer(expression).ok());
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
            optional_old: false,
        }
    }

    #[test]
    fn rules_judge_values_and_changes() {
        let value = json!({"min": 3, "max": 2, "names": ["a", "b"], "size": "1Gi", "host": "10.0.0.1"});
        let old = RuleValue::new(&json!({"min": 3, "max": 1}));
        for (expression, old, refused) in [
            ("self.min <= self.max", None, true),
            ("self.max < 3", None, false),
            ("self.names.all(name, name != 'b')", None, true),
            ("!has(self.other) || self.other == 1", None, false),
            ("self.max == oldSelf.max", None, false),
            ("self.max == oldSelf.max", Some(&old), true),
            ("self.min == oldSelf.min", Some(&old), false),
            ("self.min.unknownFunction()", None, false),
            ("self.names[self.max] == 'c'", None, true),
            ("self.missing == 1", None, true),
            ("quantity(self.size).compareTo(quantity('1Gi')) > 0", None, true),
            ("isIP(self.host)", None, false),
            ("self.names.isSorted() && sets.contains(self.names, ['c'])", None, true),
        ] {
            let mut causes = Vec::new();
            judge(&[rule(expression)], "object", &RuleValue::new(&value), old, "spec", &mut causes);
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
        let seen = seen(&types, of, &value);
        for expression in [
            "self.max__dash__size == 1 && self.a__dot__b__slash__c == 'd'",
            "self.x__underscores__y == 'z' && self.__namespace__ == 'n' && self.labels['a-b'] == 'c'",
            "self.namespace == 'n'",
        ] {
            assert_eq!(
                RuleExpression::parse(expression).unwrap().answer(&seen, None),
                Ok(Answer::Bool(true)),
                "{expression}"
            );
        }
    }

    #[test]
    fn rules_of_items_and_of_new_values_are_told_what_was() {
        let mut types = ksail_kubernetes_schema::custom_types();
        let grows = json!([{"rule": "self.v >= oldSelf.v", "message": "v only grows"}]);
        let item = json!({"type": "object", "required": ["k"], "x-kubernetes-validations": grows,
            "properties": {"k": {"type": "string"}, "v": {"type": "integer"}, "for": {"type": "string", "format": "duration"}}});
        let of = types.add_schema(&json!({"type": "object", "properties": {
            "list": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
            "born": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": true}]},
        }}));
        let fields = |value: Value, old: Option<Value>| {
            let mut causes = Vec::new();
            check(&types, of, &value, old.as_ref(), "", &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        let old = json!({"list": [{"k": "a", "v": 1}, {"k": "b", "v": 5}], "born": 1});
        assert!(
            fields(json!({"list": [{"k": "b", "v": 5}, {"k": "c", "v": 0}, {"k": "a", "v": 2}]}), Some(old.clone()))
                .is_empty()
        );
        assert_eq!(fields(json!({"list": [{"k": "b", "v": 4}], "born": 2}), Some(old)), ["list[0]"]);
        assert_eq!(fields(json!({"born": 2}), None), ["born"]);
    }
}
