//! Paths into a value: `env.REGISTRY_PROXY_REMOTEURL`, `ports[0].host`, `mounts["/data"].source`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A key of a map.
    Key(String),
    /// A position in a list.
    Index(usize),
    /// The element of a list whose key field has this value; the value of a set itself.
    Element(String),
    /// Every element of a list or every value of a map; in patterns only.
    Any,
}

impl Step {
    /// Whether this, read as a pattern, covers a step. A value has only one of a key and an element at a place, so either
    /// covers the other.
    fn covers(&self, step: &Self) -> bool {
        match (self, step) {
            (Self::Any, _) => true,
            (Self::Key(pattern) | Self::Element(pattern), Self::Key(text) | Self::Element(text)) => pattern == text,
            _ => self == step,
        }
    }
}

/// A path into a value. The empty path is the whole value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path(Vec<Step>);

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path: {why} at byte {at}")]
pub struct PathError {
    text: String,
    at: usize,
    why: &'static str,
}

impl Path {
    /// The path to the whole value.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// A path of one key.
    pub fn key(key: impl Into<String>) -> Self {
        Self(vec![Step::Key(key.into())])
    }

    /// This path with one more step.
    pub fn child(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }

    /// This path with one more key.
    pub fn child_key(&self, key: impl Into<String>) -> Self {
        self.child(Step::Key(key.into()))
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is the path to the whole value.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `self`, read as a pattern, covers `path` or something that holds it:
    /// [`Step::Any`] covers any step, and a shorter pattern covers all below it.
    pub fn covers(&self, path: &Self) -> bool {
        self.0.len() <= path.0.len() && self.0.iter().zip(&path.0).all(|(pattern, step)| pattern.covers(step))
    }

    /// Reads a path. Keys stand bare where they hold none of `.[]"*`, else as `"key"`; `[*]` is any element, `[3]` a
    /// position, `["x"]` an element of a list by key.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let fail = |at, why| PathError { text: text.to_owned(), at, why };
        let bytes = text.as_bytes();
        let mut steps = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'[' => {
                    if bytes.get(at + 1) == Some(&b'"') {
                        let (key, end) = quoted(text, at + 1).ok_or_else(|| fail(at, "the quote is not closed"))?;
                        if bytes.get(end) != Some(&b']') {
                            return Err(fail(end, "`]` is missing"));
                        }
                        steps.push(Step::Element(key));
                        at = end + 1;
                    } else {
                        let end =
                            text[at..].find(']').map(|offset| at + offset).ok_or_else(|| fail(at, "`]` is missing"))?;
                        let inner = &text[at + 1..end];
                        steps.push(match inner {
                            "" | "*" => Step::Any,
                            _ => Step::Index(inner.parse().map_err(|_| fail(at + 1, "a position must be a number"))?),
                        });
                        at = end + 1;
                    }
                }
                b'.' if at > 0 && at + 1 < bytes.len() => at += 1,
                b'"' => {
                    let (key, end) = quoted(text, at).ok_or_else(|| fail(at, "the quote is not closed"))?;
                    steps.push(Step::Key(key));
                    at = end;
                }
                _ => {
                    let end = text[at..].find(['.', '[']).map_or(bytes.len(), |offset| at + offset);
                    if end == at {
                        return Err(fail(at, "a key is missing"));
                    }
                    let key = &text[at..end];
                    steps.push(if key == "*" { Step::Any } else { Step::Key(key.to_owned()) });
                    at = end;
                }
            }
        }
        Ok(Self(steps))
    }
}

/// A quoted text that begins at a byte, and the byte after its closing quote.
fn quoted(text: &str, at: usize) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut chars = text.get(at + 1..)?.char_indices();
    loop {
        match chars.next()? {
            (_, '\\') => inner.push(chars.next()?.1),
            (offset, '"') => return Some((inner, at + 1 + offset + 1)),
            (_, c) => inner.push(c),
        }
    }
}

impl From<Vec<Step>> for Path {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

fn quotable(key: &str) -> String {
    key.replace('\\', "\\\\").replace('"', "\\\"")
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if !key.is_empty() && !key.contains(['.', '[', ']', '"', '*']) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
                Step::Key(key) => write!(f, "{}\"{}\"", if position > 0 { "." } else { "" }, quotable(key))?,
                Step::Element(key) => write!(f, "[\"{}\"]", quotable(key))?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Any => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        for text in [
            "",
            "a",
            "a.b",
            "a[0].b",
            "a[*].b",
            "mounts[\"/data\"].source",
            "x[\"q\\\"q\"]",
            "env.\"A.B\".c",
            "\"a b.c\"",
        ] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn patterns_cover_what_is_below() {
        let covers = |pattern: &str, path: &str| Path::parse(pattern).unwrap().covers(&Path::parse(path).unwrap());
        assert!(covers("ports[*].host", "ports[3].host"));
        assert!(covers("env", "env.A"));
        assert!(covers("env.*", "env.A"));
        assert!(!covers("env.A.b", "env.A"));
        assert!(!covers("env.A", "env.B"));
    }

    #[test]
    fn a_quoted_pattern_covers_a_key_and_an_element() {
        // A person need not know whether the list is one by key.
        let key = Path::key("mirrors").child_key("docker.io");
        let element = Path::key("mirrors").child(Step::Element("docker.io".to_owned()));
        assert_eq!(
            (key.to_string(), element.to_string()),
            ("mirrors.\"docker.io\"".into(), "mirrors[\"docker.io\"]".into())
        );
        for path in [&key, &element] {
            assert!(Path::parse(&key.to_string()).unwrap().covers(path));
            assert!(key.covers(path) && element.covers(path));
        }
    }

    #[test]
    fn broken_texts_name_the_place() {
        assert_eq!(
            Path::parse("a[x]").unwrap_err().to_string(),
            "`a[x]` is not a path: a position must be a number at byte 2"
        );
        assert!(Path::parse("a[\"b").is_err());
        assert!(Path::parse("a[1").is_err());
    }
}
