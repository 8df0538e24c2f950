//! Plain scalars of manifests, as kubectl reads them: by YAML 1.1, with `yes`, `0644` and `1_000`.

use ksail_model::Value;

use crate::tree::{Meaning, meaning};

/// What a scalar of a manifest means.
pub(super) fn value(text: &str, plain: bool) -> Value {
    if !plain {
        return Value::from(text);
    }
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    if let Some(number) = older_integer(text) {
        return Value::from(number);
    }
    match meaning(text, plain) {
        Meaning::Null => Value::Null,
        Meaning::Boolean(value) => Value::Bool(value),
        Meaning::Integer(number) => Value::from(number),
        Meaning::Float => {
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            number.map_or_else(|| Value::from(text), Value::Number)
        }
        Meaning::Text => Value::from(text),
    }
}

/// Integers that YAML 1.2 does not know: octal ones with a zero before them, binary ones, and such with underscores.
fn older_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let of = |digits: &str, radix| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok();
    if let Some(binary) = digits.strip_prefix("0b") {
        return of(binary, 2);
    }
    // `08` is no octal number, and so a decimal one.
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')) {
        return of(&digits, 8);
    }
    if text.contains('_') { of(&digits, 10) } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What kubectl 1.36 makes of each.
    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let table = [
            ("y", json!(true)),
            ("yes", json!(true)),
            ("On", json!(true)),
            ("N", json!(false)),
            ("Off", json!(false)),
            ("true", json!(true)),
            ("yEs", json!("yEs")),
            ("0644", json!(420)),
            ("-0644", json!(-420)),
            ("0o644", json!(420)),
            ("08", json!(8)),
            ("0", json!(0)),
            ("1_000", json!(1000)),
            ("0b11", json!(3)),
            ("0x1F", json!(31)),
            ("+1", json!(1)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("0.10", json!(0.1)),
            ("12:30", json!("12:30")),
            ("2026-01-01", json!("2026-01-01")),
            ("0x", json!("0x")),
            ("1e3x", json!("1e3x")),
            ("_1", json!("_1")),
            ("~", json!(null)),
        ];
        for (text, expected) in table {
            assert_eq!(value(text, true), Value::from(expected), "{text}");
            assert_eq!(value(text, false), Value::from(text), "{text} in quotes");
        }
    }
}
