//! Expressions over objects of Kubernetes: CEL, with the libraries of functions that Kubernetes itself has.
//!
//! An expression is checked when it is read ([`Expression::parse`]) and evaluated over objects as they are seen
//! ([`Expression::holds`]). No text of an object stands in an error.

mod compile;
mod rules;

use std::collections::HashMap;
use std::sync::LazyLock;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};
use kube_cel::cel::{Context, ExecutionError, Program, Value};
use serde_json::Value as Json;

pub use compile::{Wanted, check_rule, names_old};
pub use rules::{Answer, NoAnswer, RuleExpression, RuleValue, field_name};

/// The names that an expression has for the object.
pub const NAMES: [&str; 2] = ["self", "object"];

/// How long an expression may be, in bytes.
pub const LONGEST_BYTES: usize = 4096;

/// The functions, by library. Operators, `has`, `all`, `exists`, `exists_one`, `map` and `filter` are part of the language.
pub const FUNCTIONS: &[(&str, &[&str])] = &[
    (
        "the language's own",
        &[
            "size",
            "contains",
            "startsWith",
            "endsWith",
            "matches",
            "string",
            "bytes",
            "double",
            "int",
            "uint",
            "duration",
            "timestamp",
            "getFullYear",
            "getMonth",
            "getDate",
            "getDayOfMonth",
            "getDayOfWeek",
            "getDayOfYear",
            "getHours",
            "getMinutes",
            "getSeconds",
            "getMilliseconds",
            "optional.of",
            "optional.none",
            "hasValue",
            "value",
            "or",
            "orValue",
        ],
    ),
    (
        "texts",
        &[
            "charAt",
            "indexOf",
            "lastIndexOf",
            "lowerAscii",
            "upperAscii",
            "replace",
            "split",
            "join",
            "substring",
            "trim",
            "format",
            "strings.quote",
        ],
    ),
    (
        "lists and sets",
        &[
            "isSorted",
            "sum",
            "min",
            "max",
            "first",
            "last",
            "distinct",
            "flatten",
            "reverse",
            "slice",
            "sort",
            "lists.range",
            "sets.contains",
            "sets.equivalent",
            "sets.intersects",
        ],
    ),
    ("regular expressions", &["find", "findAll"]),
    (
        "quantities",
        &[
            "quantity",
            "isQuantity",
            "sign",
            "isInteger",
            "asInteger",
            "asApproximateFloat",
            "add",
            "sub",
            "isLessThan",
            "isGreaterThan",
            "compareTo",
        ],
    ),
    ("versions", &["semver", "isSemver", "major", "minor", "patch"]),
    ("URLs", &["url", "isURL", "getScheme", "getHost", "getHostname", "getPort", "getEscapedPath", "getQuery"]),
    (
        "addresses of networks",
        &[
            "ip",
            "isIP",
            "ip.isCanonical",
            "family",
            "isUnspecified",
            "isLoopback",
            "isLinkLocalMulticast",
            "isLinkLocalUnicast",
            "isGlobalUnicast",
            "cidr",
            "isCIDR",
            "containsIP",
            "containsCIDR",
            "prefixLength",
            "masked",
        ],
    ),
    (
        "numbers",
        &[
            "math.greatest",
            "math.least",
            "math.ceil",
            "math.floor",
            "math.round",
            "math.trunc",
            "math.abs",
            "math.sign",
            "math.sqrt",
            "math.isNaN",
            "math.isInf",
            "math.isFinite",
            "math.bitAnd",
            "math.bitOr",
            "math.bitXor",
            "math.bitNot",
            "math.bitShiftLeft",
            "math.bitShiftRight",
        ],
    ),
    ("encodings", &["base64.encode", "base64.decode"]),
];

/// A context without variables. Filling it registers some hundred functions, so it is done once.
static LIBRARIES: LazyLock<Context<'static>> = LazyLock::new(|| Context::default().with_all());

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is empty, or too long.
    #[error("an expression has 1 to {LONGEST_BYTES} bytes, and this one has {0}")]
    Length(usize),
    /// It is not of the language.
    #[error("{what} (line {line}, column {column} of the expression)")]
    Syntax {
        /// What is wrong, as a fragment.
        what: String,
        /// The line in the expression, from 1.
        line: usize,
        /// The column in the line, from 1.
        column: usize,
    },
    /// It names something that is not there.
    #[error("there is no `{0}`: the object is called `self`")]
    UnknownName(String),
    /// It calls a function that is not there.
    #[error("there is no function `{name}`")]
    UnknownFunction {
        /// The function.
        name: String,
    },
}

impl ExpressionError {
    /// What to do about it, as a fragment.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownFunction { name } => {
                let known = FUNCTIONS.iter().flat_map(|(_, names)| names.iter().copied());
                Some(match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`docs/objects.md` lists the functions".to_owned(),
                })
            }
            Self::UnknownName(name) => Some(format!("the object's fields begin with `self`: `self.{name}`")),
            Self::Length(_) | Self::Syntax { .. } => None,
        }
    }
}

/// The nearest function, of those whose last part is near enough.
fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let word = word.to_lowercase();
    let bound = (word.chars().count() / 3).max(1);
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_lowercase();
    known
        .map(|name| (strsim::damerau_levenshtein(&word, &last(name)), name))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, name)| name)
}

/// An expression that was checked.
#[derive(Debug)]
pub struct Expression(Program);

impl Expression {
    /// Reads an expression, and checks that all names and functions in it are there.
    ///
    /// # Errors
    /// It is not CEL, or names what is not there. Whether it fits the object shows only when there is one.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.trim().is_empty() || text.len() > LONGEST_BYTES {
            return Err(ExpressionError::Length(text.len()));
        }
        let program = Program::compile(text).map_err(|errors| match errors.errors.first() {
            Some(first) => ExpressionError::Syntax {
                what: first.msg.lines().next().unwrap_or_default().to_owned(),
                line: usize::try_from(first.pos.0).unwrap_or(1).max(1),
                column: usize::try_from(first.pos.1).unwrap_or(1).max(1),
            },
            None => ExpressionError::Syntax { what: "it is no expression".to_owned(), line: 1, column: 1 },
        })?;
        check(program.expression(), &mut Vec::new())?;
        Ok(Self(program))
    }

    /// Whether it holds for an object.
    ///
    /// # Errors
    /// Why that cannot be told, as a fragment: a field that is not there yet, or an expression that is neither true nor false.
    pub fn holds(&self, object: &Json) -> Result<bool, String> {
        let mut context = LIBRARIES.new_inner_scope();
        let object = value(object);
        for name in NAMES {
            context.add_variable_from_value(name, object.clone());
        }
        match self.0.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives a {}, not true or false", other.type_of())),
            Err(error) => Err(told(&error)),
        }
    }
}

/// Whether a function is there.
fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|(_, names)| names.contains(&name))
}

/// Operators have names that nobody can write.
fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Whether all names and functions in an expression are there, those of variables that a macro binds among them.
fn check<'e>(expression: &'e IdedExpr, bound: &mut Vec<&'e str>) -> Result<(), ExpressionError> {
    match &expression.expr {
        Expr::Ident(name) if name.starts_with('@') || NAMES.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) if bound.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => Err(ExpressionError::UnknownName(name.clone())),
        Expr::Call(call) => {
            let target = call.target.as_deref();
            // `math.least(…)` is the function of a library, not one that is called on `math`.
            let qualified = match target.map(|target| &target.expr) {
                Some(Expr::Ident(library)) => Some(format!("{library}.{}", call.func_name)),
                _ => None,
            };
            let is_qualified = qualified.as_deref().is_some_and(is_function);
            if !is_qualified && is_word(&call.func_name) && !is_function(&call.func_name) {
                return Err(ExpressionError::UnknownFunction { name: call.func_name.clone() });
            }
            if let Some(target) = target.filter(|_| !is_qualified) {
                check(target, bound)?;
            }
            call.args.iter().try_for_each(|argument| check(argument, bound))
        }
        Expr::Comprehension(macro_) => {
            check(&macro_.iter_range, bound)?;
            check(&macro_.accu_init, bound)?;
            let outside = bound.len();
            bound.extend(macro_.iter_var2.as_deref().into_iter().chain([macro_.iter_var.as_str(), &macro_.accu_var]));
            let within = [&macro_.loop_cond, &macro_.loop_step, &macro_.result];
            let checked = within.into_iter().try_for_each(|part| check(part, bound));
            bound.truncate(outside);
            checked
        }
        Expr::Select(select) => check(&select.operand, bound),
        Expr::List(list) => list.elements.iter().try_for_each(|element| check(element, bound)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| entry_of(&entry.expr, bound)),
        Expr::Struct(fields) => Err(ExpressionError::UnknownName(fields.type_name.clone())),
        _ => Ok(()),
    }
}

fn entry_of<'e>(entry: &'e EntryExpr, bound: &mut Vec<&'e str>) -> Result<(), ExpressionError> {
    match entry {
        EntryExpr::StructField(field) => check(&field.value, bound),
        EntryExpr::MapEntry(entry) => {
            check(&entry.key, bound)?;
            check(&entry.value, bound)
        }
    }
}

/// What went wrong. Some errors of the library print whole values.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no field `{key}` yet"),
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}`"),
        ExecutionError::UnexpectedType { got, want } => format!("it needs a {want} where there is a {got}"),
        ExecutionError::NoSuchOverload => "an operator does not fit the types of its values".to_owned(),
        ExecutionError::FunctionError { function, .. } => format!("`{function}` does not take what it is given"),
        ExecutionError::NotSupportedAsMethod { method, .. } => format!("`{method}` does not fit what it is called on"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("a function takes {expected} values and is given {actual}")
        }
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than the expression takes it to be".to_owned(),
        _ => "it cannot be evaluated over what is there".to_owned(),
    }
}

/// Numbers are integers where they are whole, as Kubernetes has them.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::from(list.iter().map(value).collect::<Vec<_>>()),
        Json::Object(map) => {
            Value::from(map.iter().map(|(key, entry)| (key.clone(), value(entry))).collect::<HashMap<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(expression: &str) -> Result<bool, String> {
        let object = json!({
            "metadata": {"generation": 3, "labels": {"a/b": "x"}},
            "spec": {"replicas": 2, "memory": "1Gi", "version": "1.31.2", "token": "hush"},
            "status": {"ready": 2, "share": 0.5, "endpoints": ["10.0.0.1", "10.0.0.2"],
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]},
        });
        Expression::parse(expression).unwrap().holds(&object)
    }

    #[test]
    fn expressions_tell_of_objects() {
        for yes in [
            "self.status.ready == self.spec.replicas",
            "object.status.ready + 1 == 3 && self.status.share < 1.0",
            "self.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            "self.status.conditions.filter(c, c.status == 'True').map(c, c.type) == ['Ready']",
            "!has(self.status.gone) && has(self.metadata.labels)",
            "self.metadata.labels['a/b'].upperAscii() == 'X'",
            "quantity(self.spec.memory).isGreaterThan(quantity('500Mi'))",
            "semver(self.spec.version).isLessThan(semver('2.0.0'))",
            "self.status.endpoints.all(e, cidr('10.0.0.0/8').containsIP(ip(e)))",
            "math.least(self.status.ready, 7) == 2 && sets.contains([1, 2], [1])",
            "url('https://example.com:80/x').getHostname() == 'example.com'",
            "'v1.2'.find('[0-9.]+') == '1.2' && self.spec.version.matches('^1[.]')",
        ] {
            assert_eq!(holds(yes), Ok(true), "{yes}");
        }
        assert_eq!(holds("self.status.ready > 2"), Ok(false));
    }

    #[test]
    fn what_cannot_be_told_says_why_without_a_value() {
        let check = |expression: &str, wanted: &str| {
            let told = holds(expression).unwrap_err();
            assert!(told.contains(wanted) && !told.contains("hush"), "{expression}: {told}");
        };
        check("self.status.phase == 'Ready'", "no field `phase` yet");
        check("self.status.ready", "not true or false");
        check("self.spec.token + 1 == 2", "");
        check("quantity(self.spec.token).isInteger()", "`quantity`");
        check("self.status.endpoints[7] == ''", "shorter");
    }

    #[test]
    fn mistakes_are_found_without_an_object() {
        let check = |expression: &str, wanted: &str| {
            let told = Expression::parse(expression).unwrap_err().to_string();
            assert!(told.contains(wanted), "{expression}: {told}");
        };
        check("", "0");
        check("self.status.ready ==", "line 1, column 21 of");
        check("self.a &&\n  self.b == == 1", "line 2, column");
        check("status.ready == 1", "no `status`");
        check("self.items.all(i, j == 1)", "no `j`");
        check("self.name.upper() == 'X'", "no function `upper`");
        check("math.smallest(1, 2) == 1", "`smallest`");
        let hint = |expression: &str| Expression::parse(expression).unwrap_err().hint().unwrap();
        assert_eq!(hint("self.name.lowerASCII() == 'x'"), "did you mean `lowerAscii`?");
        assert_eq!(hint("math.leest(1, 2) == 1"), "did you mean `math.least`?");
        assert!(hint("status.ready == 1").contains("`self.status`"));
        check(&"1".repeat(LONGEST_BYTES + 1), "bytes");
    }

    #[test]
    fn every_function_that_is_told_of_is_there() {
        for name in FUNCTIONS.iter().flat_map(|(_, names)| *names) {
            let call = Program::compile(&format!("{name}()")).unwrap();
            let answer = call.execute(&LIBRARIES.new_inner_scope());
            assert!(!matches!(answer, Err(ExecutionError::UndeclaredReference(_))), "{name}: {answer:?}");
        }
        let unknown = Program::compile("nothing()").unwrap().execute(&LIBRARIES.new_inner_scope());
        assert!(matches!(unknown, Err(ExecutionError::UndeclaredReference(_))), "{unknown:?}");
    }
}
