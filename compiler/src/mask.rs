//! Masks credentials that somebody wrote into a text against the rules, so that snippets in messages do not show
//! them.

use ksail_model::{Path, Step};

use crate::check::nearest;
use crate::credential::{self, url_parts};
use crate::shape::{CredentialPlace, ROOT, Shape};
use crate::tree::{Data, Node, Place, Role, Texts};
use crate::yaml;

/// Words in unknown keys that tell of a credential.
const TELLTALE: [&str; 6] = ["pass", "token", "secret", "credential", "auth", "key"];

/// The text with every credential in it masked; the same number of lines and characters. Without a tree (the
/// text is not readable) lines are judged by their looks.
pub(crate) fn mask_file(text: &str, root: Option<&Node>) -> String {
    match root {
        None => text.lines().map(by_looks).collect::<Vec<_>>().join("\n") + "\n",
        Some(root) => {
            let mut places = Vec::new();
            collect(root, Some(&ROOT), &mut places);
            hide(text, &places)
        }
    }
}

/// An argument of `--set`, `path=value`, with every credential in it masked.
pub(crate) fn mask_argument(argument: &str) -> String {
    let whole = |text: &str| stars(text, 0, usize::MAX);
    let Some((path_text, value)) = argument.split_once('=') else { return argument.to_owned() };
    let Ok(path) = Path::parse(path_text) else { return format!("{path_text}={}", whole(value)) };
    let shape = path.steps().iter().try_fold(&*ROOT, |shape, step| match (step, shape) {
        (Step::Key(key) | Step::Element(key), shape) => below(Some(shape), key),
        (_, Shape::List(element) | Shape::OneOrMany(element)) => Some(element.as_ref()),
        (_, shape) => Some(shape),
    });
    let mut texts = Texts::default();
    let index = texts.add("", value, Role::Flag);
    let Some(root) = yaml::read(&texts, index, value, 0).root else { return format!("{path_text}={}", whole(value)) };
    let mut places = Vec::new();
    collect(&root, shape, &mut places);
    format!("{path_text}={}", hide(value, &places))
}

/// The places of credentials. A shape of `None` is that of an unknown key that tells of one.
fn collect(node: &Node, shape: Option<&Shape>, places: &mut Vec<Place>) {
    match (&node.data, shape) {
        (Data::Scalar { text, .. }, None | Some(Shape::Text { credential: Some(CredentialPlace::Secret), .. })) => {
            if credential::password(text).is_err() {
                places.push(node.place);
            }
        }
        (Data::Scalar { text, .. }, Some(Shape::Text { credential: Some(CredentialPlace::Username), .. })) => {
            if credential::username(text).is_err() {
                places.push(node.place);
            }
        }
        (Data::Scalar { text, .. }, Some(_)) => {
            // Userinfo is looked for in every text: it may stand where no credential belongs.
            let userinfo = url_parts(text).userinfo;
            if userinfo.is_some_and(|(user, password)| {
                credential::username(user).is_err() || password.is_some_and(|text| credential::password(text).is_err())
            }) {
                places.push(node.place);
            }
        }
        (Data::List(list), shape) => {
            let element = match shape {
                Some(Shape::List(element) | Shape::OneOrMany(element)) => Some(element.as_ref()),
                other => other,
            };
            list.iter().for_each(|node| collect(node, element, places));
        }
        (Data::Map(entries), shape) => {
            for entry in entries {
                collect(&entry.value, below(shape, &entry.key), places);
            }
        }
    }
}

fn below<'a>(shape: Option<&'a Shape>, key: &str) -> Option<&'a Shape> {
    let shape = shape?;
    match shape {
        Shape::Table(values) => return Some(values),
        Shape::Text { credential: Some(_), .. } => return None,
        _ => {}
    }
    if let Some(field) = shape.field(key) {
        return Some(&field.shape);
    }
    let lower = key.to_lowercase();
    let near = match shape {
        Shape::Map(fields) | Shape::TextOrMap(fields) => nearest(key, fields.iter().map(|field| field.name.as_str())),
        _ => None,
    };
    let near_credential = near
        .and_then(|name| shape.field(name))
        .is_some_and(|field| matches!(field.shape, Shape::Text { credential: Some(CredentialPlace::Secret), .. }));
    if near_credential || TELLTALE.iter().any(|word| lower.contains(word)) { None } else { Some(&Shape::Unknown) }
}

fn hide(text: &str, places: &[Place]) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for place in places {
        let first = place.span.line as usize;
        let last = (place.last_line as usize).max(first);
        for number in first..=last {
            let Some(line) = lines.get_mut(number.saturating_sub(1)) else { break };
            let from = if number == first { place.span.column.saturating_sub(1) as usize } else { 0 };
            let length = if last == first { place.span.length as usize } else { usize::MAX };
            *line = stars(line, from, length);
        }
    }
    lines.join("\n")
}

/// Stars in place of all but blanks.
fn stars(line: &str, from: usize, length: usize) -> String {
    line.chars()
        .enumerate()
        .map(|(at, c)| if at < from || at - from >= length || c.is_whitespace() { c } else { '*' })
        .collect()
}

/// Masks a line that looks as if it held a credential.
fn by_looks(line: &str) -> String {
    let lower = line.to_lowercase();
    let colon = line.find(':').map(|at| line[..=at].chars().count());
    let tells = line.contains('@') || TELLTALE.iter().any(|word| lower.contains(word));
    match colon {
        Some(after) if tells => stars(line, after, usize::MAX),
        _ => line.to_owned(),
    }
}
