//! Whether a rule can be compiled, told before there is a value: names, functions, and what the schema says of fields and their types.
//!
//! It judges what is certain. What it cannot tell of is taken to fit, so that no rule is refused that a real server takes.

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use serde_json::Value as Json;

use crate::rules::{OLD, SELF, field_name};
use crate::{is_function, is_word};

/// What an expression must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// True or false, as a rule does.
    Bool,
    /// A text, as the expression of a message does.
    Text,
}

/// Functions that Kubernetes has beside those that are evaluated here.
const MORE: [&str; 6] = ["type", "dyn", "bool", "list", "validate", "unwrapOpt"];
/// Macros that the parser may leave as they are. They name variables, so what they are given is not judged.
const MACROS: [&str; 13] = [
    "all",
    "exists",
    "exists_one",
    "existsOne",
    "map",
    "filter",
    "transformList",
    "transformMap",
    "transformMapEntry",
    "sortBy",
    "optMap",
    "optFlatMap",
    "bind",
];
/// Libraries whose functions are called by their name.
const LIBRARIES: [&str; 11] =
    ["math", "sets", "lists", "strings", "optional", "base64", "ip", "cidr", "format", "cel", "regex"];
/// Of which not all functions are known here.
const OPEN_LIBRARIES: [&str; 5] = ["format", "cel", "regex", "optional", "cidr"];
/// Names of types, and the first part of those that have several.
const TYPES: [&str; 12] =
    ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type", "dyn", "google"];
/// Methods of texts that take one text and tell true or false.
const TESTS: [&str; 4] = ["startsWith", "endsWith", "contains", "matches"];

/// What is known of a value.
#[derive(Debug, Clone, Copy)]
enum Kind<'s> {
    /// It may be anything.
    Unknown,
    Bool,
    Int,
    Double,
    Text,
    /// Of items with such a schema.
    List(&'s Json),
    /// Of values with such a schema.
    Map(&'s Json),
    /// With the fields of a schema, and of every object if it is one.
    Object(&'s Json, bool),
}

impl<'s> Kind<'s> {
    fn of(schema: &'s Json, is_root: bool) -> Self {
        let flag = |name: &str| schema[name] == true;
        if flag("x-kubernetes-int-or-string") || flag("nullable") {
            return Self::Unknown;
        }
        let is_whole = is_root || flag("x-kubernetes-embedded-resource");
        match schema["type"].as_str() {
            Some("boolean") => Self::Bool,
            Some("integer") => Self::Int,
            Some("number") => Self::Double,
            // Texts of some formats are times and the like.
            Some("string") if schema["format"].is_null() => Self::Text,
            Some("array") => Self::List(&schema["items"]),
            Some("object") if schema["additionalProperties"].is_object() => Self::Map(&schema["additionalProperties"]),
            Some("object") if is_whole || schema["properties"].is_object() => Self::Object(schema, is_whole),
            _ => Self::Unknown,
        }
    }

    /// What messages call it; nothing if that is not known for certain.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Bool => Some("bool"),
            Self::Int => Some("int"),
            Self::Double => Some("double"),
            Self::Text => Some("string"),
            _ => None,
        }
    }

    /// Whether a value of the one can never be compared with one of the other.
    fn is_at_odds(self, other: Self) -> bool {
        let is_number = |kind: Self| matches!(kind, Self::Int | Self::Double);
        let is_scalar = |kind: Self| kind.name().is_some();
        let is_composed = |kind: Self| matches!(kind, Self::List(_) | Self::Map(_) | Self::Object(..));
        (is_scalar(self) && is_scalar(other) && self.name() != other.name() && !(is_number(self) && is_number(other)))
            || (is_scalar(self) && is_composed(other))
            || (is_composed(self) && is_scalar(other))
    }
}

/// A type is told of where it is certain.
fn no_overload(function: &str, kinds: &[Kind<'_>]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name().unwrap_or("dyn")).collect();
    format!("found no matching overload for '{function}' applied to '({})'", names.join(", "))
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

/// Checks an expression of a rule by the schema of its value.
///
/// # Errors
/// Why a server does not take it, as a fragment.
pub fn check_rule(
    text: &str,
    schema: &Json,
    is_root: bool,
    old_is_optional: bool,
    wanted: Wanted,
) -> Result<(), String> {
    let failed = |why: String| format!("compilation failed: ERROR: {why}");
    let program = Program::compile(text);
    let is_unsupported = |first: &str| first.contains("unsupported syntax");
    if program.as_ref().is_err_and(|errors| errors.errors.iter().any(|error| is_unsupported(&error.msg))) {
        return Ok(());
    }
    let program = program.map_err(|errors| match errors.errors.first() {
        Some(first) => {
            let (line, column) = (first.pos.0.max(1), first.pos.1.max(1));
            let what = first.msg.lines().next().unwrap_or_default();
            failed(format!("<input>:{line}:{column}: Syntax error: {}", what.trim_start_matches("Syntax error: ")))
        }
        None => failed("Syntax error".to_owned()),
    })?;
    let value = Kind::of(schema, is_root);
    let mut scope = Scope(vec![(SELF, value), (OLD, if old_is_optional { Kind::Unknown } else { value })]);
    let kind = scope.kind(program.expression()).map_err(failed)?;
    match (wanted, kind) {
        (Wanted::Bool, Kind::Bool | Kind::Unknown) | (Wanted::Text, Kind::Text | Kind::Unknown) => Ok(()),
        (Wanted::Bool, _) => Err("cel expression must evaluate to a bool".to_owned()),
        (Wanted::Text, _) => Err("messageExpression must evaluate to a string".to_owned()),
    }
}

/// Whether an expression asks what the value was.
pub fn names_old(text: &str) -> bool {
    fn within(expression: &IdedExpr) -> bool {
        match &expression.expr {
            Expr::Ident(name) => name == OLD,
            Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).any(within),
            Expr::Comprehension(one) => {
                [&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result].into_iter().any(within)
            }
            Expr::Select(select) => within(&select.operand),
            Expr::List(list) => list.elements.iter().any(within),
            Expr::Map(map) => map.entries.iter().any(|entry| match &entry.expr {
                EntryExpr::StructField(field) => within(&field.value),
                EntryExpr::MapEntry(entry) => within(&entry.key) || within(&entry.value),
            }),
            _ => false,
        }
    }
    Program::compile(text).is_ok_and(|program| within(program.expression()))
}

/// The names that an expression has, and what is known of each; the last of a name counts.
struct Scope<'e, 's>(Vec<(&'e str, Kind<'s>)>);

impl<'e, 's> Scope<'e, 's> {
    fn find(&self, name: &str) -> Option<Kind<'s>> {
        self.0.iter().rev().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// What is known of what an expression gives.
    fn kind(&mut self, expression: &'e IdedExpr) -> Result<Kind<'s>, String> {
        match &expression.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Kind::Bool,
                LiteralValue::Int(_) => Kind::Int,
                LiteralValue::Double(_) => Kind::Double,
                LiteralValue::String(_) => Kind::Text,
                _ => Kind::Unknown,
            }),
            Expr::Ident(name) => match self.find(name) {
                Some(kind) => Ok(kind),
                None if name.starts_with('@') || TYPES.contains(&name.as_str()) => Ok(Kind::Unknown),
                None => Err(undeclared(name)),
            },
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(one) => {
                let (first, second) = match (self.kind(&one.iter_range)?, &one.iter_var2) {
                    (Kind::List(items), None) => (Kind::of(items, false), Kind::Unknown),
                    (Kind::List(items), Some(_)) => (Kind::Int, Kind::of(items, false)),
                    (Kind::Map(values), _) => (Kind::Text, Kind::of(values, false)),
                    _ => (Kind::Unknown, Kind::Unknown),
                };
                self.kind(&one.accu_init)?;
                let outside = self.0.len();
                self.0.push((one.accu_var.as_str(), Kind::Unknown));
                self.0.push((one.iter_var.as_str(), first));
                self.0.extend(one.iter_var2.as_deref().map(|name| (name, second)));
                let within = [&one.loop_cond, &one.loop_step, &one.result];
                let checked = within.into_iter().try_for_each(|part| self.kind(part).map(|_| ()));
                self.0.truncate(outside);
                checked.map(|()| Kind::Unknown)
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.kind(element).map(|_| ()))?;
                Ok(Kind::Unknown)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::StructField(field) => drop(self.kind(&field.value)?),
                        EntryExpr::MapEntry(entry) => {
                            self.kind(&entry.key)?;
                            self.kind(&entry.value)?;
                        }
                    }
                }
                Ok(Kind::Unknown)
            }
            _ => Ok(Kind::Unknown),
        }
    }

    fn select(&mut self, select: &'e SelectExpr) -> Result<Kind<'s>, String> {
        let name = select.field.as_str();
        let kind = match self.kind(&select.operand)? {
            Kind::Object(schema, is_whole) => {
                let fields = schema["properties"].as_object();
                let is_it = |known: &str| known == name || field_name(known) == name;
                let field = fields.into_iter().flatten().find(|(known, _)| is_it(known));
                match field {
                    // What every object has is known, whatever its schema says.
                    _ if is_whole && name == "metadata" => Kind::Unknown,
                    _ if is_whole && ["apiVersion", "kind"].contains(&name) => Kind::Text,
                    Some((_, schema)) => Kind::of(schema, false),
                    None => return Err(format!("undefined field '{name}'")),
                }
            }
            Kind::Map(values) => Kind::of(values, false),
            Kind::Unknown => Kind::Unknown,
            other => {
                let of = other.name().unwrap_or("list");
                return Err(format!("type '{of}' does not support field selection"));
            }
        };
        Ok(if select.test { Kind::Bool } else { kind })
    }

    fn call(&mut self, call: &'e CallExpr) -> Result<Kind<'s>, String> {
        let name = call.func_name.as_str();
        let library = call.target.as_deref().and_then(|target| match &target.expr {
            Expr::Ident(library) if self.find(library).is_none() => Some(library.as_str()),
            _ => None,
        });
        let library = library.filter(|library| LIBRARIES.contains(library));
        if MACROS.contains(&name) {
            call.target.as_deref().filter(|_| library.is_none()).map(|target| self.kind(target)).transpose()?;
            return Ok(Kind::Unknown);
        }
        let is_known = match library {
            Some(library) => is_function(&format!("{library}.{name}")) || OPEN_LIBRARIES.contains(&library),
            None => !is_word(name) || is_function(name) || MORE.contains(&name),
        };
        if !is_known {
            return Err(undeclared(name));
        }
        let mut kinds = Vec::new();
        for part in call.target.as_deref().filter(|_| library.is_none()).into_iter().chain(&call.args) {
            kinds.push(self.kind(part)?);
        }
        let is_bool = |kind: &Kind<'_>| matches!(kind, Kind::Bool | Kind::Unknown);
        match (name, kinds.as_slice()) {
            ("_&&_" | "_||_" | "!_", kinds) => {
                let all = kinds.iter().all(is_bool);
                if all { Ok(Kind::Bool) } else { Err(no_overload(name, kinds)) }
            }
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
                if left.is_at_odds(*right) {
                    Err(no_overload(name, &kinds))
                } else {
                    Ok(Kind::Bool)
                }
            }
            ("_?_:_", [condition, left, right]) => match (is_bool(condition), left, right) {
                (false, ..) => Err(no_overload(name, &kinds)),
                (true, left, right) if left.name().is_some() && left.name() == right.name() => Ok(*left),
                _ => Ok(Kind::Unknown),
            },
            ("_+_", [left, right]) if left.is_at_odds(*right) => Err(no_overload(name, &kinds)),
            ("_+_", [left, right]) if left.name().is_some() && left.name() == right.name() => Ok(*left),
            ("_-_" | "_*_" | "_/_" | "_%_", [left, right]) => {
                let is_wrong = |kind: &Kind<'_>| matches!(kind, Kind::Bool | Kind::Text);
                if is_wrong(left) || is_wrong(right) { Err(no_overload(name, &kinds)) } else { Ok(Kind::Unknown) }
            }
            ("_[_]", [Kind::List(schema) | Kind::Map(schema), _]) => Ok(Kind::of(schema, false)),
            ("@in" | "@not_strictly_false", _) => Ok(Kind::Bool),
            (test, [Kind::Text, others @ ..])
                if call.target.is_some() && library.is_none() && TESTS.contains(&test) =>
            {
                match others {
                    [Kind::Text | Kind::Unknown] => Ok(Kind::Bool),
                    _ => Err(format!("found no matching overload for '{test}' applied to 'string.(…)'")),
                }
            }
            ("size", _) if library.is_none() => Ok(Kind::Int),
            _ => Ok(Kind::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Json {
        json!({"type": "object", "properties": {
            "min": {"type": "integer"}, "share": {"type": "number"}, "name": {"type": "string"}, "on": {"type": "boolean"},
            "max-size": {"type": "string"}, "namespace": {"type": "string"}, "until": {"type": "string", "format": "date-time"},
            "port": {"x-kubernetes-int-or-string": true}, "maybe": {"type": "string", "nullable": true},
            "hosts": {"type": "array", "items": {"type": "string"}},
            "rules": {"type": "array", "items": {"type": "object", "properties": {"weight": {"type": "integer"}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }})
    }

    #[test]
    fn what_a_server_takes_is_taken() {
        for rule in [
            "self.min <= 3 && self.share < 1 && self.min < 1.5",
            "self.name == 'a' ? self.on : !self.on",
            "self.max__dash__size.startsWith('1') && self.until > timestamp('2020-01-01T00:00:00Z')",
            "type(self.port) == int ? self.port < 5 : self.port == 'http'",
            "self.maybe == null || self.maybe.size() < 3",
            "self.hosts.all(h, h.contains('.') && h in ['a.b']) && self.hosts[0] == 'x'",
            "self.rules.map(r, r.weight).sum() == 100 && self.rules.exists_one(r, has(r.weight))",
            "self.labels.all(k, self.labels[k] == 'x' && k.size() < 3) && self.labels.a == 'b'",
            "self.any.what.ever == 3 && has(self.any.thing)",
            "self.hosts.all(i, h, i < 5 && h.size() > 1)",
            "quantity(self.name).isGreaterThan(quantity('1Gi')) && isURL(self.name) && ip.isCanonical(self.name)",
            "!format.dns1123Label().validate(self.name).hasValue()",
            "oldSelf.min == self.min && sets.contains(self.hosts, ['a']) && self.name.matches('^a')",
            "self.apiVersion == 'v1' && self.metadata.name.startsWith('a')",
            "optional.ofNonZeroValue(self.name).orValue('x') == 'x'",
            "cidr('10.0.0.0/8').containsIP(self.name) && self.hosts.isSorted() && math.greatest(1, self.min) == 1",
            "size(self.hosts) + 1 < self.hosts.size() * 2 && [1, 2].size() == 2 && {'a': self.min}['a'] == 1",
            "self.?name.orValue('x') == 'x' && self.namespace == 'x' && self.__namespace__ == 'x'",
            "string(self.min) + 'x' == 'x' && int(self.name) == 3 && self.name.split('/')[0] == 'a'",
        ] {
            assert_eq!(check_rule(rule, &schema(), true, false, Wanted::Bool), Ok(()), "{rule}");
        }
        assert_eq!(check_rule("oldSelf.hasValue()", &schema(), false, true, Wanted::Bool), Ok(()));
        assert_eq!(check_rule("'at least ' + string(self.min)", &schema(), false, false, Wanted::Text), Ok(()));
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        let check = |rule: &str, wanted: &str| {
            let told = check_rule(rule, &schema(), false, false, Wanted::Bool).unwrap_err();
            assert!(told.contains(wanted), "{rule}: {told}");
        };
        check("self.min >", "<input>:1:11: Syntax error: mismatched input");
        check("self.min > 1 )", "Syntax error");
        check("min > 1", "undeclared reference to 'min'");
        check("self.most > 1", "undefined field 'most'");
        check("has(self.most)", "undefined field 'most'");
        check("self.rules.all(r, r.wieght > 1)", "undefined field 'wieght'");
        check("self.apiVersion == 'v1'", "undefined field 'apiVersion'");
        check("self.name.upper() == 'X'", "undeclared reference to 'upper'");
        check("math.smallest(1, 2) == 1", "undeclared reference to 'smallest'");
        check("self.min > 'x'", "no matching overload for '_>_' applied to '(int, string)'");
        check("self.on && self.name", "no matching overload for '_&&_'");
        check("self.name.startsWith()", "no matching overload for 'startsWith'");
        check("self.name.first", "type 'string' does not support field selection");
        check("self.min", "must evaluate to a bool");
        check("self.hosts", "must evaluate to a bool");
        check("self.min + 1", "must evaluate to a bool");
        let told = check_rule("self.min", &schema(), false, false, Wanted::Text).unwrap_err();
        assert!(told.contains("must evaluate to a string"), "{told}");
    }

    #[test]
    fn a_rule_that_asks_what_was_is_known() {
        assert!(names_old("self.all(k, has(oldSelf.a) || k == 'b')"));
        assert!(!names_old("self.a == 'oldSelf'"));
        assert!(!names_old("self.a =="));
    }
}
