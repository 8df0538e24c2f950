//! Rules of custom resources: expressions over a value and what it was before.

use std::collections::HashMap;
use std::sync::LazyLock;

use kube_cel::cel::{ExecutionError, Program, Value};
use serde_json::Value as Json;

use crate::{LIBRARIES, value};

/// The name of the value, and of what it was.
pub(crate) const SELF: &str = "self";
pub(crate) const OLD: &str = "oldSelf";
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
/// What a real server says of a text that is no quantity.
const NO_QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The name that a field has in rules.
pub fn field_name(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let name = name.replace("__", "__underscores__");
    name.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

/// An expression of a rule, or of the message of one. What it names is not checked: it may be written for more than is known here.
#[derive(Debug)]
pub struct RuleExpression(Program);

/// What an expression of a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// Something else.
    Other,
}

/// Why an expression of a rule says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// It fails for what the value is, as on a real server; why, in the words of one.
    Fails(String),
    /// It has what is not known here.
    Beyond,
}

/// A value as rules see it.
#[derive(Debug, Clone)]
pub struct RuleValue(Value);

/// Makes something else of a text, by the language's own functions.
struct Conversion(LazyLock<Option<Program>>);

impl Conversion {
    fn of(&self, what: Value) -> Option<Value> {
        let mut context = LIBRARIES.new_inner_scope();
        context.add_variable_from_value(SELF, what);
        self.0.as_ref()?.execute(&context).ok()
    }
}

static DURATION: Conversion = Conversion(LazyLock::new(|| Program::compile("duration(self)").ok()));
static TIME: Conversion = Conversion(LazyLock::new(|| Program::compile("timestamp(self)").ok()));
static DATE: Conversion = Conversion(LazyLock::new(|| Program::compile("timestamp(self + 'T00:00:00Z')").ok()));
static BYTES: Conversion = Conversion(LazyLock::new(|| Program::compile("base64.decode(self)").ok()));
static SOME: Conversion = Conversion(LazyLock::new(|| Program::compile("optional.of(self)").ok()));
static NONE: Conversion = Conversion(LazyLock::new(|| Program::compile("optional.none()").ok()));

impl RuleValue {
    /// A value that has no format.
    pub fn new(json: &Json) -> Self {
        Self(value(json))
    }

    /// A text of a format of OpenAPI. Where it is none of that format, or that is not known, it is a text.
    pub fn text(text: &str, format: &str) -> Self {
        let plain = Value::from(text);
        let conversion = match format {
            "duration" => &DURATION,
            "date-time" => &TIME,
            "date" => &DATE,
            "byte" => &BYTES,
            _ => return Self(plain),
        };
        Self(conversion.of(plain.clone()).unwrap_or(plain))
    }

    /// A list of values.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self(Value::from(items.into_iter().map(|item| item.0).collect::<Vec<_>>()))
    }

    /// Values by their names.
    pub fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self(Value::from(entries.into_iter().map(|(name, entry)| (name, entry.0)).collect::<HashMap<_, _>>()))
    }

    /// An optional of a value, or of none.
    pub fn optional(of: Option<&Self>) -> Self {
        let made = match of {
            Some(of) => SOME.of(of.0.clone()),
            None => NONE.of(Value::Null),
        };
        Self(made.unwrap_or(Value::Null))
    }
}

impl RuleExpression {
    /// Reads an expression; nothing if it is not CEL.
    pub fn parse(text: &str) -> Option<Self> {
        Program::compile(text).ok().map(Self)
    }

    /// What it says of a value and of what that was.
    ///
    /// # Errors
    /// It fails for what the value is, or cannot be evaluated here.
    pub fn answer(&self, of: &RuleValue, old: Option<&RuleValue>) -> Result<Answer, NoAnswer> {
        let mut context = LIBRARIES.new_inner_scope();
        context.add_variable_from_value(SELF, of.0.clone());
        if let Some(old) = old {
            context.add_variable_from_value(OLD, old.0.clone());
        }
        match self.0.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(Answer::Bool(holds)),
            Ok(Value::String(text)) => Ok(Answer::Text(text.to_string())),
            Ok(_) => Ok(Answer::Other),
            Err(error) => Err(no_answer(&error)),
        }
    }
}

/// Whether it is the value that an error is of. What the library lacks shows as names and types that do not fit.
fn no_answer(error: &ExecutionError) -> NoAnswer {
    let why = match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::IndexOutOfBounds(Value::Int(index)) => format!("index out of bounds: {index}"),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::FunctionError { function, message } => {
            let converted = match function.as_str() {
                "int" | "uint" | "double" => Some(function.as_str()),
                "duration" => Some("google.protobuf.Duration"),
                "timestamp" => Some("google.protobuf.Timestamp"),
                "quantity" => return NoAnswer::Fails(NO_QUANTITY.to_owned()),
                _ => None,
            };
            match converted {
                Some(to) => format!("type conversion error from 'string' to '{to}'"),
                None => format!("{function}: {}", message.lines().next().unwrap_or_default()),
            }
        }
        _ => return NoAnswer::Beyond,
    };
    NoAnswer::Fails(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_asked_of_a_value_and_of_what_it_was() {
        let of = RuleValue::new(&json!({"size": "2Gi", "hosts": ["10.0.0.1"], "count": 3}));
        let answer = |text: &str, old: Option<&RuleValue>| RuleExpression::parse(text)?.answer(&of, old).ok();
        let old = RuleValue::new(&json!({"size": "1Gi", "count": 3}));
        assert_eq!(answer("quantity(self.size).isGreaterThan(quantity('1Gi'))", None), Some(Answer::Bool(true)));
        assert_eq!(answer("self.hosts.all(h, isIP(h))", None), Some(Answer::Bool(true)));
        assert_eq!(answer("self.size == oldSelf.size", Some(&old)), Some(Answer::Bool(false)));
        assert_eq!(answer("'at least ' + string(oldSelf.count)", Some(&old)), Some(Answer::Text("at least 3".into())));
        assert_eq!(answer("self.count", None), Some(Answer::Other));
        assert_eq!(answer("self.count ==", None), None);
        let some = RuleValue::optional(Some(&old));
        let none = RuleValue::optional(None);
        assert_eq!(answer("oldSelf.hasValue()", Some(&some)), Some(Answer::Bool(true)));
        assert_eq!(answer("oldSelf.hasValue()", Some(&none)), Some(Answer::Bool(false)));
        assert_eq!(answer("oldSelf.orValue(self).size == '1Gi'", Some(&some)), Some(Answer::Bool(true)));
    }

    #[test]
    fn texts_of_a_format_are_what_they_tell_of() {
        let holds = |text: &str, format: &str, expression: &str| {
            let of = RuleValue::map([("a".to_owned(), RuleValue::list([RuleValue::text(text, format)]))]);
            RuleExpression::parse(expression).unwrap().answer(&of, None)
        };
        for (text, format, expression) in [
            ("90m", "duration", "self.a[0] > duration('1h') && self.a[0] < duration('2h')"),
            ("2021-01-01T00:00:00Z", "date-time", "self.a[0] > timestamp('2020-01-01T00:00:00Z')"),
            ("2021-01-01", "date", "self.a[0] == timestamp('2021-01-01T00:00:00Z')"),
            ("YWI=", "byte", "self.a[0] == b'ab'"),
            ("soon", "duration", "self.a[0] == 'soon'"),
            ("90m", "name", "self.a[0] == '90m'"),
        ] {
            assert_eq!(holds(text, format, expression), Ok(Answer::Bool(true)), "{text} {format}");
        }
    }

    #[test]
    fn what_fails_for_a_value_is_told_apart_from_what_is_not_known() {
        let of = RuleValue::new(&json!({"num": 3, "text": "abc", "list": ["a"], "map": {"b": "c"}}));
        let answer = |text: &str| RuleExpression::parse(text).unwrap().answer(&of, None).unwrap_err();
        for (expression, why) in [
            ("self.nothing > 0", "no such key: nothing"),
            ("self.map['a'] == 'a'", "no such key: a"),
            ("self.list[3] == 'a'", "index out of bounds: 3"),
            ("self.num / 0 > 0", "division by zero"),
            ("self.num % 0 > 0", "modulus by zero"),
            ("self.num * 9223372036854775807 > 0", "integer overflow"),
            ("int(self.text) > 0", "type conversion error from 'string' to 'int'"),
            (
                "duration(self.text) > duration('0s')",
                "type conversion error from 'string' to 'google.protobuf.Duration'",
            ),
            ("quantity(self.text).isInteger()", NO_QUANTITY),
        ] {
            assert_eq!(answer(expression), NoAnswer::Fails(why.to_owned()), "{expression}");
        }
        for expression in ["self.num.nothing()", "other.num > 0"] {
            assert_eq!(answer(expression), NoAnswer::Beyond, "{expression}");
        }
    }
}
