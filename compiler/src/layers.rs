//! Several texts as one tree: the overlay's rules, and `--set`.

use std::fmt;

use ksail_model::{Diagnostic, Path, Span, Step};

use crate::codes;
use crate::tree::{Data, Entry, Node, Place, Role, Texts};
use crate::yaml;

/// How the files were taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layering {
    /// There is one file.
    Single {
        /// The file.
        file: String,
    },
    /// The environment's file is a complete document; the other one does not count.
    StandsAlone {
        /// The environment's file.
        file: String,
        /// The file that does not count.
        unused: String,
    },
    /// The environment's file is laid over the other one.
    LaidOver {
        /// The file below.
        base: String,
        /// The environment's file.
        overlay: String,
    },
}

impl fmt::Display for Layering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single { file } => write!(f, "{file}"),
            Self::StandsAlone { file, unused } => {
                write!(f, "{file} is complete and stands alone; {unused} is not used")
            }
            Self::LaidOver { base, overlay } => write!(f, "{overlay} is partial and is laid over {base}"),
        }
    }
}

/// Whether a document stands alone: it says what it is, and what is wanted.
pub(crate) fn is_complete(root: &Node) -> bool {
    ["apiVersion", "kind", "spec"].iter().all(|key| root.entry(key).is_some_and(|entry| !entry.value.is_null()))
}

/// Lays one tree over another: maps merge by key, everything else replaces, null takes away.
pub(crate) fn lay_over(base: Node, over: Node) -> Node {
    match (base.data, over.data) {
        (Data::Map(mut below), Data::Map(above)) => {
            for entry in above {
                let known = below.iter().position(|other| other.key == entry.key);
                match known {
                    Some(at) if entry.value.is_null() => {
                        below.remove(at);
                    }
                    Some(at) => {
                        let old = below.remove(at);
                        let value = lay_over(old.value, entry.value);
                        below.insert(at, Entry { value, ..entry });
                    }
                    None => below.push(entry),
                }
            }
            Node { data: Data::Map(below), place: base.place, env: None }
        }
        (_, data) => Node { data, place: over.place, env: over.env },
    }
}

/// Applies one argument of `--set`.
pub(crate) fn set(texts: &mut Texts, root: &mut Node, argument: &str) -> Vec<Diagnostic> {
    let mut name = format!("--set {}", argument.split('=').next().unwrap_or_default());
    if texts.0.iter().any(|text| *text.name == *name) {
        name = format!("{name} ({})", texts.0.len());
    }
    let text = texts.add(&name, argument, Role::Flag);
    let length = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let whole = Place { text, span: Span { line: 1, column: 1, length: length(argument).max(1) }, last_line: 1 };
    let fail = |texts: &Texts, message: String, hint: &str| {
        vec![texts.label(Diagnostic::error(codes::BAD_SET, message).hint(hint), whole, "")]
    };
    let Some((path_text, value)) = argument.split_once('=') else {
        return fail(
            texts,
            "`--set` takes `path=value`, and there is no `=`".to_owned(),
            "write `--set spec.cluster.workers=2`",
        );
    };
    let path = match Path::parse(path_text) {
        Ok(path) if !path.is_root() && !path.steps().contains(&Step::Any) => path,
        Ok(_) => {
            return fail(texts, "`--set` needs a path without `*`".to_owned(), "write `--set spec.cluster.workers=2`");
        }
        Err(error) => return fail(texts, error.to_string(), "write `--set spec.cluster.workers=2`"),
    };
    if let Some(Step::Key(first)) = path.steps().first()
        && !["apiVersion", "kind", "metadata", "spec"].contains(&first.as_str())
    {
        let message = format!("`{first}` is not at the top of the file");
        return fail(texts, message, &format!("begin with `spec`: `--set spec.{path_text}=…`"));
    }
    let read = yaml::read(texts, text, value, length(path_text) + 1);
    if !read.diagnostics.is_empty() {
        return read.diagnostics;
    }
    let null = Node { data: Data::Scalar { text: String::new(), plain: true }, place: whole, env: None };
    let key_place = Place { span: Span { length: length(path_text).max(1), ..whole.span }, ..whole };
    match put(root, path.steps(), read.root.unwrap_or(null), key_place) {
        Ok(()) => Vec::new(),
        Err(why) => fail(texts, format!("`{path}` cannot be set: {why}"), "look at the file for what is there"),
    }
}

fn put(node: &mut Node, steps: &[Step], value: Node, place: Place) -> Result<(), &'static str> {
    let Some((step, rest)) = steps.split_first() else {
        *node = value;
        return Ok(());
    };
    if node.is_null() {
        let data = if matches!(step, Step::Index(_)) { Data::List(Vec::new()) } else { Data::Map(Vec::new()) };
        *node = Node { data, place, env: None };
    }
    let fresh = || Node { data: Data::Scalar { text: String::new(), plain: true }, place, env: None };
    match (step, &mut node.data) {
        (Step::Key(key) | Step::Element(key), Data::Map(entries)) => {
            let at = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
                entries.push(Entry { key: key.clone(), key_place: place, value: fresh() });
                entries.len() - 1
            });
            if rest.is_empty() {
                entries[at].key_place = place;
            }
            put(&mut entries[at].value, rest, value, place)
        }
        (Step::Index(index), Data::List(list)) => {
            if *index == list.len() {
                list.push(fresh());
            }
            match list.get_mut(*index) {
                Some(element) if rest.is_empty() && value.is_null() => {
                    let _ = element;
                    list.remove(*index);
                    Ok(())
                }
                Some(element) => put(element, rest, value, place),
                None => Err("the list has no such position"),
            }
        }
        (Step::Index(_), _) => Err("what is there is not a list"),
        (_, Data::List(_)) => Err("what is there is a list, and takes positions such as `[0]`"),
        _ => Err("what is there is a single value"),
    }
}
