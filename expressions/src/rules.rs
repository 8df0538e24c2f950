//! Rules of custom resources: expressions over a value and what it was before.

use kube_cel::cel::{Program, Value};
use serde_json::Value as Json;

use crate::{LIBRARIES, value};

/// The name of the value, and of what it was.
const SELF: &str = "self";
const OLD: &str = "oldSelf";

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

impl RuleExpression {
    /// Reads an expression; nothing if it is not CEL.
    pub fn parse(text: &str) -> Option<Self> {
        Program::compile(text).ok().map(Self)
    }

    /// What it says of a value and of what that was; nothing if it cannot be evaluated.
    pub fn answer(&self, of: &Json, old: Option<&Json>) -> Option<Answer> {
        let mut context = LIBRARIES.new_inner_scope();
        context.add_variable_from_value(SELF, value(of));
        if let Some(old) = old {
            context.add_variable_from_value(OLD, value(old));
        }
        Some(match self.0.execute(&context).ok()? {
            Value::Bool(holds) => Answer::Bool(holds),
            Value::String(text) => Answer::Text(text.to_string()),
            _ => Answer::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_asked_of_a_value_and_of_what_it_was() {
        let answer = |text: &str, old: Option<&Json>| {
            RuleExpression::parse(text)?.answer(&json!({"size": "2Gi", "hosts": ["10.0.0.1"], "count": 3}), old)
        };
        let old = json!({"size": "1Gi", "count": 3});
        assert_eq!(answer("quantity(self.size).isGreaterThan(quantity('1Gi'))", None), Some(Answer::Bool(true)));
        assert_eq!(answer("self.hosts.all(h, isIP(h))", None), Some(Answer::Bool(true)));
        assert_eq!(answer("self.size == oldSelf.size", Some(&old)), Some(Answer::Bool(false)));
        assert_eq!(answer("'at least ' + string(oldSelf.count)", Some(&old)), Some(Answer::Text("at least 3".into())));
        assert_eq!(answer("self.count", None), Some(Answer::Other));
        assert_eq!(answer("self.count.nothing()", None), None);
        assert_eq!(answer("self.count ==", None), None);
    }
}
