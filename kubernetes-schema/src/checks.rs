//! What the schema of a custom resource asks of values beside their shape.

use serde_json::Value;

/// Limits of one value. What is absent is not asked.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// The least number, and whether it is itself excluded.
    pub minimum: Option<(f64, bool)>,
    /// The greatest number, and whether it is itself excluded.
    pub maximum: Option<(f64, bool)>,
    /// What a number must be a multiple of.
    pub multiple_of: Option<f64>,
    /// The least length of a string, in characters.
    pub min_length: Option<u64>,
    /// The greatest length of a string, in characters.
    pub max_length: Option<u64>,
    /// The least number of items.
    pub min_items: Option<u64>,
    /// The greatest number of items.
    pub max_items: Option<u64>,
    /// The least number of fields.
    pub min_properties: Option<u64>,
    /// The greatest number of fields.
    pub max_properties: Option<u64>,
    /// A regular expression that a string must match.
    pub pattern: Option<Box<str>>,
    /// A named format of a string.
    pub format: Option<Box<str>>,
    /// `allOf`, `anyOf`, `oneOf` and `not`, as they stand in the schema.
    pub logic: Vec<(Box<str>, Value)>,
    /// CEL rules.
    pub rules: Vec<Rule>,
}

/// A rule in CEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The expression; `self` is the value, `oldSelf` what it was.
    pub expression: Box<str>,
    /// What is said when it does not hold.
    pub message: Option<Box<str>>,
    /// An expression that says it.
    pub message_expression: Option<Box<str>>,
    /// The reason that is reported.
    pub reason: Option<Box<str>>,
    /// The field that is reported, below the value.
    pub field_path: Option<Box<str>>,
    /// Whether `oldSelf` is an optional, so that the rule is asked of new values too.
    pub optional_old: bool,
}

impl Checks {
    /// Reads the limits of a schema; `None` if it has none.
    pub(crate) fn read(schema: &Value) -> Option<Box<Self>> {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64);
        let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(Into::into);
        let excluded = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        let logic: Vec<(Box<str>, Value)> = ["allOf", "anyOf", "oneOf", "not"]
            .into_iter()
            .filter_map(|key| Some((key.into(), schema.get(key)?.clone())))
            .collect();
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        let rules: Vec<Rule> = rules
            .filter_map(|rule| {
                Some(Rule {
                    expression: text(rule, "rule")?,
                    message: text(rule, "message"),
                    message_expression: text(rule, "messageExpression"),
                    reason: text(rule, "reason"),
                    field_path: text(rule, "fieldPath"),
                    optional_old: rule.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
                })
            })
            .collect();
        let checks = Self {
            minimum: number("minimum").map(|least| (least, excluded("exclusiveMinimum"))),
            maximum: number("maximum").map(|most| (most, excluded("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            pattern: text(schema, "pattern"),
            format: text(schema, "format"),
            logic,
            rules,
        };
        let any = checks.minimum.is_some()
            || checks.maximum.is_some()
            || checks.multiple_of.is_some()
            || [checks.min_length, checks.max_length, checks.min_items, checks.max_items].iter().any(Option::is_some)
            || [checks.min_properties, checks.max_properties].iter().any(Option::is_some)
            || checks.pattern.is_some()
            || checks.format.is_some()
            || !checks.logic.is_empty()
            || !checks.rules.is_empty();
        any.then(|| Box::new(checks))
    }
}
