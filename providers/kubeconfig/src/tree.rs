//! What a document says, apart from how it is written; and how it is written where we do.

use std::fmt::Write as _;

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A scalar whose type follows from its text (`true`, `1`, nothing); also a text that was written without quotes and could
    /// be taken for one.
    Plain(String),
    /// A text.
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// Words that YAML of one version or another takes for something else than a text.
const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

impl Tree {
    /// A scalar that was written without quotes.
    pub(crate) fn of_plain(text: String) -> Self {
        if is_surely_a_text(&text) {
            return Self::Text(text);
        }
        match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Self::null(),
            _ => Self::Plain(text),
        }
    }

    pub(crate) fn null() -> Self {
        Self::Plain("null".to_owned())
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Plain(text) if text == "null")
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Plain(text) if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn as_list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.as_map().iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// As an item of a block list whose dashes stand in a column, with a line break at its end.
    pub(crate) fn block_item(&self, column: usize) -> String {
        let mut out = String::new();
        item(&mut out, column, self);
        out
    }

    /// As an entry of a block map whose keys stand in the first column, with a line break at its end.
    pub(crate) fn block_entry(&self, key: &str) -> String {
        let mut out = key.to_owned();
        out.push(':');
        value(&mut out, 0, self);
        out
    }

    /// On one line, as JSON.
    pub(crate) fn flow(&self) -> String {
        match self {
            Self::Plain(text) if serde_json::from_str::<serde_json::Value>(text).is_ok() => text.clone(),
            Self::Plain(text) | Self::Text(text) => quoted(text),
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", quoted(key), value.flow()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// A scalar within a block.
    pub(crate) fn scalar(&self) -> String {
        match self {
            Self::Text(text) if is_surely_a_text(text) => text.clone(),
            Self::Plain(text) if !text.is_empty() && !text.contains('\n') => text.clone(),
            other => other.flow(),
        }
    }
}

/// Whether a text means itself in every version of YAML, without quotes.
fn is_surely_a_text(text: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:@+=".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(harmless)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// In double quotes: what JSON escapes, YAML reads.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn item(out: &mut String, column: usize, tree: &Tree) {
    let _ = write!(out, "{:column$}- ", "");
    match tree {
        Tree::Map(entries) if !entries.is_empty() => {
            for (at, (key, inner)) in entries.iter().enumerate() {
                if at > 0 {
                    let _ = write!(out, "{:1$}", "", column + 2);
                }
                out.push_str(&key_text(key));
                value(out, column + 2, inner);
            }
        }
        other => {
            let _ = writeln!(out, "{}", other.scalar());
        }
    }
}

/// What comes after a key in a column, up to the line break at its end.
fn value(out: &mut String, column: usize, tree: &Tree) {
    match tree {
        Tree::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            for (key, inner) in entries {
                let _ = write!(out, "{:1$}{2}", "", column + 2, key_text(key));
                value(out, column + 2, inner);
            }
        }
        Tree::List(items) if !items.is_empty() => {
            out.push('\n');
            items.iter().for_each(|inner| item(out, column, inner));
        }
        other => {
            let _ = writeln!(out, " {}", other.scalar());
        }
    }
}

fn key_text(key: &str) -> String {
    format!("{}:", Tree::text(key).scalar())
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        let check = |text: &str, wanted: &str| assert_eq!(Tree::text(text).scalar(), wanted);
        check("ksail-dev", "ksail-dev");
        check("https://127.0.0.1:6443", "https://127.0.0.1:6443");
        check("LS0tLS1CRUdJTg==", "LS0tLS1CRUdJTg==");
        check("", "\"\"");
        check("Yes", "\"Yes\"");
        check("1e5", "\"1e5\"");
        check("a: b", "\"a: b\"");
        check("a #b", "\"a #b\"");
        check("a\n\"b\"", r#""a\n\"b\"""#);
        check("0644", "\"0644\"");
    }

    #[test]
    fn an_entry_is_written_as_kubectl_writes_it() {
        let entry = Tree::map([
            (
                "context",
                Tree::map([
                    ("cluster", Tree::text("a")),
                    ("extensions", Tree::List(vec![Tree::map([("name", Tree::text("x"))])])),
                ]),
            ),
            ("name", Tree::text("a")),
        ]);
        let wanted = "- context:\n    cluster: a\n    extensions:\n    - name: x\n  name: a\n";
        assert_eq!(entry.block_item(0), wanted);
        assert_eq!(entry.flow(), r#"{"context": {"cluster": "a", "extensions": [{"name": "x"}]}, "name": "a"}"#);
    }
}
