//! Prints trees of fields.

use ksail_model::Value;
use similar::{ChangeTag, TextDiff};

use super::fields::{Brackets, Field, Shape, Sign};
use crate::page::{Page, Tone};
use crate::printable::{columns, quoted};

/// How many unchanged lines stand around a changed line of a text.
const CONTEXT_LINES: usize = 3;

/// Spaces from a field to the fields in it.
const STEP: usize = 4;

impl Sign {
    const fn text(self) -> (&'static str, Tone) {
        match self {
            Self::Add => ("+", Tone::Add),
            Self::Remove => ("-", Tone::Remove),
            Self::Change => ("~", Tone::Change),
            Self::Same => (" ", Tone::Plain),
        }
    }
}

/// Prints fields, their signs in column `indent`, and how many others there are.
pub(super) fn fields(page: &mut Page, indent: usize, fields: &[Field], unchanged: usize, what: &str) {
    let names: Vec<Option<String>> = fields.iter().map(|field| field.label.as_deref().map(name)).collect();
    let width = names.iter().flatten().map(|name| columns(name)).max().unwrap_or(0);
    for (field, name) in fields.iter().zip(names) {
        let label = name.map_or_else(String::new, |name| {
            let pad = width - columns(&name);
            format!("{name}{} = ", " ".repeat(pad))
        });
        one(page, indent, &label, field);
    }
    if unchanged > 0 {
        let plural = if unchanged == 1 { "" } else { "s" };
        let text = format!("{}# ({unchanged} unchanged {what}{plural} hidden)", " ".repeat(indent + 2));
        page.line(&[(Tone::Faint, &text)]);
    }
}

/// Names stand bare where they look like names.
fn name(label: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if label.starts_with('[') || (!label.is_empty() && label.chars().all(is_bare)) {
        label.to_owned()
    } else {
        quoted(label)
    }
}

struct Line<'a> {
    indent: usize,
    sign: Sign,
    label: &'a str,
}

impl Line<'_> {
    fn print(&self, page: &mut Page, value: &str, end: &str, comment: &str) {
        let (sign, tone) = self.sign.text();
        let comment = if comment.is_empty() { String::new() } else { format!(" # {comment}") };
        let text = format!(" {}{value}{end}", self.label);
        let replaces = comment.contains("forces replacement");
        page.line(&[
            (Tone::Plain, &" ".repeat(self.indent)),
            (tone, sign),
            (Tone::Plain, &text),
            (if replaces { Tone::Remove } else { Tone::Faint }, &comment),
        ]);
    }
}

fn one(page: &mut Page, indent: usize, label: &str, field: &Field) {
    let line = Line { indent, sign: field.sign, label };
    // Elements without a name are parted by commas, as in the languages that people know.
    let comma = if label.is_empty() { "," } else { "" };
    match &field.shape {
        Shape::Whole(value) => whole(page, &line, value, comma, &field.comment),
        Shape::Turns { before: Value::Secret(_), after: Value::Secret(_) } => {
            line.print(page, "(sensitive value)", comma, &field.comment);
        }
        Shape::Turns { before, after } => {
            line.print(page, &format!("{} -> {}", scalar(before), scalar(after)), comma, &field.comment);
        }
        Shape::Lines { before, after } => {
            line.print(page, "<<-EOT", "", &field.comment);
            text_diff(page, indent + STEP, before, after);
            closing(page, indent, "EOT", comma);
        }
        Shape::Parts { brackets, parts, unchanged } => {
            let (open, close, what) = match brackets {
                Brackets::Map => ("{", "}", "attribute"),
                Brackets::List => ("[", "]", "element"),
                Brackets::Json => ("jsonencode(", ")", "attribute"),
                Brackets::Yaml => ("yamlencode(", ")", "attribute"),
            };
            line.print(page, open, "", &field.comment);
            fields(page, indent + STEP, parts, *unchanged, what);
            let gone = if field.sign == Sign::Remove { " -> null" } else { "" };
            closing(page, indent, &format!("{close}{gone}"), comma);
        }
    }
}

fn closing(page: &mut Page, indent: usize, close: &str, comma: &str) {
    page.line(&[(Tone::Plain, &" ".repeat(indent + 2)), (Tone::Plain, close), (Tone::Plain, comma)]);
}

fn whole(page: &mut Page, line: &Line<'_>, value: &Value, comma: &str, comment: &str) {
    let gone = if line.sign == Sign::Remove { " -> null" } else { "" };
    let end = format!("{gone}{comma}");
    let inner = line.indent + STEP;
    let part = |label: Option<String>, value: &Value| Field {
        label,
        sign: line.sign,
        shape: Shape::Whole(value.clone()),
        comment: String::new(),
    };
    match value {
        Value::Map(map) if !map.is_empty() => {
            line.print(page, "{", "", comment);
            let parts: Vec<Field> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| part(Some(key.clone()), value))
                .collect();
            fields(page, inner, &parts, 0, "attribute");
            closing(page, line.indent, "}", &end);
        }
        Value::List(list) if !list.is_empty() => {
            line.print(page, "[", "", comment);
            let parts: Vec<Field> = list.iter().map(|value| part(None, value)).collect();
            fields(page, inner, &parts, 0, "element");
            closing(page, line.indent, "]", &end);
        }
        Value::String(text) if text.trim_end_matches('\n').contains('\n') => {
            line.print(page, "<<-EOT", "", comment);
            let (sign, tone) = line.sign.text();
            for row in text.lines() {
                page.line(&[(Tone::Plain, &" ".repeat(inner)), (tone, sign), (Tone::Plain, " "), (Tone::Plain, row)]);
            }
            closing(page, line.indent, "EOT", &end);
        }
        value => line.print(page, &scalar(value), &end, comment),
    }
}

/// A value on one line.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        value => value.to_string(),
    }
}

/// The changed lines of a text, with a few unchanged ones around.
fn text_diff(page: &mut Page, indent: usize, before: &str, after: &str) {
    let diff = TextDiff::from_lines(before, after);
    let mut shown = 0;
    let skipped = |page: &mut Page, count: usize| {
        if count > 0 {
            let plural = if count == 1 { "" } else { "s" };
            let text = format!("{}# ({count} unchanged line{plural} hidden)", " ".repeat(indent + 2));
            page.line(&[(Tone::Faint, &text)]);
        }
    };
    for group in diff.grouped_ops(CONTEXT_LINES) {
        if let Some(first) = group.first() {
            skipped(page, first.old_range().start.saturating_sub(shown));
        }
        for op in &group {
            shown = op.old_range().end;
            for change in diff.iter_changes(op) {
                let (sign, tone) = match change.tag() {
                    ChangeTag::Equal => (" ", Tone::Plain),
                    ChangeTag::Delete => ("-", Tone::Remove),
                    ChangeTag::Insert => ("+", Tone::Add),
                };
                let row = change.value();
                let row = row.strip_suffix('\n').unwrap_or(row);
                page.line(&[(Tone::Plain, &" ".repeat(indent)), (tone, sign), (Tone::Plain, " "), (tone, row)]);
            }
        }
    }
    skipped(page, before.lines().count().saturating_sub(shown));
}
