//! Changes of a kubeconfig's text that leave all other bytes as they are.
//!
//! Each change is made on the text and on what the text says; where the two do not come to the same, nothing is written.

use std::ops::Range;

use crate::document::{self, Data, DocumentError, Entry, Node};
use crate::tree::Tree;

/// What a kubeconfig without anything in it says.
const EMPTY: &str = "apiVersion: v1\nkind: Config\n";
/// The key of the context that clients use.
pub(crate) const CURRENT: &str = "current-context";

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Puts an entry into a list, in the place of the one of its name, or at the end.
    Put { list: &'static str, name: String, entry: Tree },
    /// Takes the entries of a name out of a list.
    Remove { list: &'static str, name: String },
    /// Says which context clients use; none, if the name is empty.
    Current(String),
}

/// Why a text was not changed, as a fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("`{0}` is written in a way that ksail does not edit")]
    Unusual(&'static str),
}

/// Makes the changes. `None` is a file that is not there.
pub(crate) fn edit(text: Option<&str>, changes: &[Change]) -> Result<String, EditError> {
    let mut text = match text {
        None => EMPTY.to_owned(),
        Some(text) => match document::read(text)? {
            Some(_) => text.to_owned(),
            None => begun(text),
        },
    };
    for change in changes {
        text = changed(&text, change)?;
    }
    Ok(text)
}

/// A text of comments alone, with the beginning of a kubeconfig.
fn begun(text: &str) -> String {
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{gap}{EMPTY}")
}

fn changed(text: &str, change: &Change) -> Result<String, EditError> {
    let Some(root) = document::read(text)? else { return Err(EditError::Document(DocumentError::NoMap)) };
    let unusual = EditError::Unusual(change.key());
    let wanted = said(root.tree(), change);
    let written = match change {
        Change::Put { list, name, entry } => put(text, &root, list, name, entry),
        Change::Remove { list, name } => remove(text, &root, list, name),
        Change::Current(name) => set(text, &root, CURRENT, &Tree::text(name.as_str())),
    };
    let written = written.ok_or_else(|| unusual.clone())?;
    match document::read(&written) {
        Ok(Some(root)) if root.tree() == wanted => Ok(written),
        _ => Err(unusual),
    }
}

impl Change {
    const fn key(&self) -> &'static str {
        match self {
            Self::Put { list, .. } | Self::Remove { list, .. } => list,
            Self::Current(_) => CURRENT,
        }
    }
}

/// Whether an entry of a list bears a name.
pub(crate) fn is_named(entry: &Tree, name: &str) -> bool {
    entry.get("name").and_then(Tree::as_text) == Some(name)
}

/// What is said after a change.
fn said(tree: Tree, change: &Change) -> Tree {
    let Tree::Map(mut entries) = tree else { return tree };
    let mut at = |key: &str, otherwise: Tree| {
        let found = entries.iter().position(|(known, _)| known == key);
        found.unwrap_or_else(|| {
            entries.push((key.to_owned(), otherwise));
            entries.len() - 1
        })
    };
    match change {
        Change::Put { list, name, entry } => {
            let at = at(list, Tree::List(Vec::new()));
            let mut items = entries[at].1.as_list().to_vec();
            match items.iter().position(|item| is_named(item, name)) {
                Some(found) => items[found] = entry.clone(),
                None => items.push(entry.clone()),
            }
            entries[at].1 = Tree::List(items);
        }
        Change::Remove { list, name } => {
            if let Some((_, value)) = entries.iter_mut().find(|(key, _)| key == list)
                && value.as_list().iter().any(|item| is_named(item, name))
            {
                *value = Tree::List(value.as_list().iter().filter(|item| !is_named(item, name)).cloned().collect());
            }
        }
        Change::Current(name) => {
            let at = at(CURRENT, Tree::null());
            entries[at].1 = Tree::text(name.as_str());
        }
    }
    // As it is read again.
    Tree::Map(entries)
}

/// The text with other bytes in the place of some.
fn splice(text: &str, bytes: Range<usize>, with: &str) -> Option<String> {
    let (before, after) = (text.get(..bytes.start)?, text.get(bytes.end..)?);
    let with = if text.contains("\r\n") { with.replace('\n', "\r\n") } else { with.to_owned() };
    Some(format!("{before}{with}{after}"))
}

/// Where the line ends in which a value ends, after its line break. `true` if there is none.
fn line_end(text: &str, end: usize) -> Option<(usize, bool)> {
    if end > 0 && text.as_bytes().get(end - 1) == Some(&b'\n') {
        return Some((end, false));
    }
    Some(match text.get(end..)?.find('\n') {
        Some(at) => (end + at + 1, false),
        None => (text.len(), true),
    })
}

/// Puts whole lines below the line in which a value ends.
fn insert_below(text: &str, end: usize, lines: &str) -> Option<String> {
    let (at, is_last) = line_end(text, end)?;
    let gap = if is_last { "\n" } else { "" };
    splice(text, at..at, &format!("{gap}{lines}"))
}

/// From after the colon of a key to the end of its value.
fn after_colon(text: &str, entry: &Entry) -> Option<Range<usize>> {
    let start = entry.key_bytes.end + text.get(entry.key_bytes.end..)?.find(':')? + 1;
    Some(start..entry.value.bytes.end.max(start))
}

/// Puts a key that is not there yet at the end of the document's map.
fn add_key(text: &str, root: &Node, key: &str, value: &Tree) -> Option<String> {
    if !root.is_flow {
        return insert_below(text, root.bytes.end, &value.block_entry(key));
    }
    let entry = format!("\"{key}\": {}", value.flow());
    match root.entries().last() {
        Some(last) => splice(text, last.value.bytes.end..last.value.bytes.end, &format!(", {entry}")),
        None => splice(text, root.bytes.start + 1..root.bytes.start + 1, &entry),
    }
}

fn entry_of<'a>(root: &'a Node, key: &str) -> Option<&'a Entry> {
    root.entries().iter().find(|entry| entry.key == key)
}

/// Sets a scalar of the document's map.
fn set(text: &str, root: &Node, key: &str, value: &Tree) -> Option<String> {
    let Some(entry) = entry_of(root, key) else { return add_key(text, root, key, value) };
    if entry.value.is_special || !matches!(entry.value.data, Data::Scalar { .. }) {
        return None;
    }
    let scalar = if root.is_flow { value.flow() } else { value.scalar() };
    match entry.value.bytes.is_empty() {
        true => splice(text, after_colon(text, entry)?, &format!(" {scalar}")),
        false => splice(text, entry.value.bytes.clone(), &scalar),
    }
}

fn put(text: &str, root: &Node, list: &str, name: &str, entry: &Tree) -> Option<String> {
    let one = Tree::List(vec![entry.clone()]);
    let Some(found) = entry_of(root, list) else { return add_key(text, root, list, &one) };
    let value = &found.value;
    if value.is_special {
        return None;
    }
    match &value.data {
        Data::List(items) if !items.is_empty() => match items.iter().find(|item| is_named(&item.tree(), name)) {
            Some(old) if value.is_flow => splice(text, whole(old)?, &entry.flow()),
            Some(old) => {
                let (lines, column) = lines_of(text, old)?;
                splice(text, lines, &entry.block_item(column))
            }
            None if value.is_flow => {
                let end = items.last()?.bytes.end;
                splice(text, end..end, &format!(", {}", entry.flow()))
            }
            None => {
                let last = items.last()?;
                let (_, column) = lines_of(text, last)?;
                insert_below(text, last.bytes.end, &entry.block_item(column))
            }
        },
        Data::Map(_) => None,
        Data::Scalar { .. } if !value.tree().is_null() => None,
        // `[]`, `null`, or nothing after the key.
        _ if root.is_flow => splice(text, value.bytes.clone(), &one.flow()),
        _ => {
            let lines = format!("\n{}", entry.block_item(0));
            let value = after_colon(text, found)?;
            // The line's own break comes after it, if it has one.
            let lines = if value.end == text.len() { lines.as_str() } else { lines.trim_end_matches('\n') };
            splice(text, value, lines)
        }
    }
}

fn remove(text: &str, root: &Node, list: &str, name: &str) -> Option<String> {
    let Some(found) = entry_of(root, list) else { return Some(text.to_owned()) };
    let value = &found.value;
    let items = value.items();
    let Some(at) = items.iter().rposition(|item| is_named(&item.tree(), name)) else { return Some(text.to_owned()) };
    if value.is_special {
        return None;
    }
    let item = &items[at];
    let removed = match (value.is_flow, items.len()) {
        (true, 1) => splice(text, whole(item)?, "")?,
        (true, _) if at > 0 => splice(text, items[at - 1].bytes.end..whole(item)?.end, "")?,
        (true, _) => splice(text, whole(item)?.start..items[at + 1].bytes.start, "")?,
        (false, count) => {
            let (lines, _) = lines_of(text, item)?;
            let without = splice(text, lines.clone(), "")?;
            if count > 1 {
                without
            } else {
                let colon = after_colon(text, found)?.start;
                splice(&without, colon..colon, " []").filter(|_| colon <= lines.start)?
            }
        }
    };
    // Several of one name are not for clients to tell apart; all of them go.
    remove(&removed, &document::read(&removed).ok()??, list, name)
}

/// The bytes of an item of a flow list.
fn whole(item: &Node) -> Option<Range<usize>> {
    (!item.is_special).then(|| item.bytes.clone())
}

/// The lines of an item of a block list, and the column of its dash.
fn lines_of(text: &str, item: &Node) -> Option<(Range<usize>, usize)> {
    if item.is_special {
        return None;
    }
    let start = text.get(..item.bytes.start)?.rfind('\n').map_or(0, |at| at + 1);
    let before = text.get(start..item.bytes.start)?.trim_start_matches('\u{feff}');
    let dash = before.trim_end_matches(' ').strip_suffix('-')?;
    if !dash.chars().all(|c| c == ' ') {
        return None;
    }
    let (end, _) = line_end(text, item.bytes.end)?;
    Some((start..end, dash.len()))
}

#[cfg(test)]
mod tests {
    use super::{Change, EditError, edit};
    use crate::tree::Tree;

    fn put(list: &'static str, name: &str) -> Change {
        let entry = Tree::map([("context", Tree::map([("user", Tree::text("u"))])), ("name", Tree::text(name))]);
        Change::Put { list, name: name.to_owned(), entry }
    }

    fn remove(list: &'static str, name: &str) -> Change {
        Change::Remove { list, name: name.to_owned() }
    }

    #[track_caller]
    fn check(text: &str, changes: &[Change], wanted: &str) {
        assert_eq!(edit(Some(text), changes).unwrap(), wanted);
    }

    const OURS: &str = "- context:\n    user: u\n  name: ours\n";

    #[test]
    fn a_file_is_begun() {
        let wanted = format!("apiVersion: v1\nkind: Config\ncontexts:\n{OURS}current-context: ours\n");
        let changes = [put("contexts", "ours"), Change::Current("ours".to_owned())];
        assert_eq!(edit(None, &changes).unwrap(), wanted);
        check("", &changes, &wanted);
        check("# mine", &changes, &format!("# mine\n{wanted}"));
        check("---\n", &changes, &format!("---\n{wanted}"));
    }

    #[test]
    fn entries_come_after_the_others_and_go_again() {
        let check = |text: &str, with: &str| {
            check(text, &[put("contexts", "ours")], with);
            let back = edit(Some(with), &[remove("contexts", "ours")]).unwrap();
            assert_eq!(back, text);
        };
        check(
            "contexts: # all\n# the first\n- name: a # here\n  context: {user: x} # end\n\n# then\nusers: []\n",
            &format!(
                "contexts: # all\n# the first\n- name: a # here\n  context: {{user: x}} # end\n{OURS}\n# then\nusers: []\n"
            ),
        );
        // Indented, and the last line without a break.
        check(
            "contexts:\n    -   name: a\nkind: Config\n",
            "contexts:\n    -   name: a\n    - context:\n        user: u\n      name: ours\nkind: Config\n",
        );
        check("contexts: []\nkind: Config\n", &format!("contexts:\n{OURS}kind: Config\n"));
        check(
            r#"{"contexts": [{"name": "a"}], "kind": "Config"}"#,
            r#"{"contexts": [{"name": "a"}, {"context": {"user": "u"}, "name": "ours"}], "kind": "Config"}"#,
        );
        check(
            r#"{"contexts": [], "kind": "Config"}"#,
            r#"{"contexts": [{"context": {"user": "u"}, "name": "ours"}], "kind": "Config"}"#,
        );
    }

    #[test]
    fn what_is_empty_is_filled() {
        let ours = [put("contexts", "ours")];
        check("contexts:\nkind: Config\n", &ours, &format!("contexts:\n{OURS}kind: Config\n"));
        check("contexts: null\nkind: Config\n", &ours, &format!("contexts:\n{OURS}kind: Config\n"));
        check("kind: Config", &ours, &format!("kind: Config\ncontexts:\n{OURS}"));
        check("{}", &ours, r#"{"contexts": [{"context": {"user": "u"}, "name": "ours"}]}"#);
        let current = [Change::Current("ours".to_owned())];
        check("current-context: \"\" # none\n", &current, "current-context: ours # none\n");
        check("current-context:\nkind: Config\n", &current, "current-context: ours\nkind: Config\n");
        check("{\"current-context\": \"a\"}", &current, "{\"current-context\": \"ours\"}");
        check("current-context: a\n", &[Change::Current(String::new())], "current-context: \"\"\n");
    }

    #[test]
    fn an_entry_is_changed_where_it_stands() {
        check(
            "contexts:\r\n- name: ours\r\n  context: {}\r\n- name: b\r\n",
            &[put("contexts", "ours")],
            &format!("contexts:\r\n{}- name: b\r\n", OURS.replace('\n', "\r\n")),
        );
        check(
            "{contexts: [{name: ours}, {name: b}]}",
            &[put("contexts", "ours")],
            r#"{contexts: [{"context": {"user": "u"}, "name": "ours"}, {name: b}]}"#,
        );
        // All of its name go.
        check(
            "contexts:\n- name: ours\n- name: b\n- name: ours\n",
            &[remove("contexts", "ours")],
            "contexts:\n- name: b\n",
        );
        check("{contexts: [{name: ours}, {name: b}]}", &[remove("contexts", "ours")], "{contexts: [{name: b}]}");
    }

    #[test]
    fn what_is_written_unusually_is_left_alone() {
        let check = |text: &str| {
            let error = edit(Some(text), &[put("contexts", "ours")]).unwrap_err();
            assert_eq!(error, EditError::Unusual("contexts"), "{text}");
        };
        check("contexts: &a\n- name: b\n");
        check("contexts:\n-\n  name: b\n");
        check("contexts: {a: b}\n");
        check("contexts: text\n");
    }
}
