//! Walks a tree against the shape of the file: finds all errors, expands variables, brings words into their
//! canonical case. What is wrong is taken out, so that the rest can still be judged.

use std::sync::Arc;

use ksail_model::{Diagnostic, Path, Step};
use regex_lite::Regex;

use crate::codes;
use crate::credential::{self, Refusal, url_parts};
use crate::shape::{CredentialPlace, Field, Pattern, ROOT, Shape, required};
use crate::sources::Project;
use crate::template::{Piece, pieces};
use crate::tree::{Data, Entry, Meaning, Node, Place, Texts, meaning};

/// Checks a tree. The answer has only what is right.
pub(crate) fn check(texts: &Texts, project: &dyn Project, root: Node) -> Checked {
    let place = root.place;
    let mut checker = Checker { texts, project, diagnostics: Vec::new(), broken: Vec::new(), needed: Vec::new() };
    let tree = checker.visit(root, &ROOT, &Path::root());
    let tree = tree.unwrap_or(Node { data: Data::Map(Vec::new()), place, env: None });
    Checked { tree, diagnostics: checker.diagnostics, broken: checker.broken, needed: checker.needed }
}

/// What a check finds.
pub(crate) struct Checked {
    pub(crate) tree: Node,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Where something was taken out.
    pub(crate) broken: Vec<Path>,
    /// The variables of credentials, each with the place that needs it.
    pub(crate) needed: Vec<(Path, String)>,
}

struct Checker<'a> {
    texts: &'a Texts,
    project: &'a dyn Project,
    diagnostics: Vec<Diagnostic>,
    broken: Vec<Path>,
    needed: Vec<(Path, String)>,
}

/// The text of a scalar after its variables are expanded.
struct Expanded {
    text: String,
    plain: bool,
    /// The text as it stands in the file, if variables were expanded.
    template: Option<String>,
    env: Option<Arc<str>>,
}

impl Checker<'_> {
    fn visit(&mut self, node: Node, shape: &Shape, path: &Path) -> Option<Node> {
        if node.is_null() {
            return None;
        }
        match shape {
            Shape::Map(fields) => self.map(node, fields, path),
            Shape::Table(values) => self.table(node, values, path),
            Shape::List(element) => self.list(node, element, path),
            Shape::OneOrMany(element) => match node.data {
                Data::Scalar { .. } => {
                    let place = node.place;
                    let one = self.visit(node, element, &path.child(Step::Index(0)))?;
                    Some(Node { data: Data::List(vec![one]), place, env: None })
                }
                _ => self.list(node, element, path),
            },
            Shape::TextOrMap(fields) => match (&node.data, required(fields)) {
                (Data::Scalar { .. }, Some(field)) => {
                    let place = node.place;
                    let value = self.visit(node, &field.shape, path)?;
                    let entry = Entry { key: field.name.clone(), key_place: place, value };
                    Some(Node { data: Data::Map(vec![entry]), place, env: None })
                }
                _ => self.map(node, fields, path),
            },
            Shape::Text { credential: Some(kind), .. } => self.credential(node, *kind, path),
            Shape::Text { .. } | Shape::Word { .. } | Shape::Integer { .. } | Shape::Boolean => {
                self.scalar(node, shape, path)
            }
            Shape::Open if !matches!(node.data, Data::Map(_)) => self.wrong_type(&node, "a map", path, None),
            Shape::Open => Some(self.open(node)),
            Shape::Unknown => Some(node),
        }
    }

    fn map(&mut self, node: Node, fields: &[Field], path: &Path) -> Option<Node> {
        let Data::Map(entries) = node.data else { return self.wrong_type(&node, "a map", path, None) };
        let mut kept: Vec<Entry> = Vec::new();
        let mut meant: Vec<&str> = Vec::new();
        for entry in entries {
            if kept.iter().any(|other| other.key == entry.key) {
                continue; // Reported when it was read.
            }
            let below = path.child_key(entry.key.clone());
            match fields.iter().find(|field| field.name == entry.key) {
                None => meant.extend(self.unknown_key(&entry, fields, path)),
                Some(field) => {
                    let value = self.visit(entry.value, &field.shape, &below);
                    kept.extend(value.map(|value| Entry { value, ..entry }));
                }
            }
        }
        // A key that was misspelt is not left out: nothing is judged by its default.
        let misspelt = meant.into_iter().filter(|name| kept.iter().all(|entry| entry.key != *name));
        self.broken.extend(misspelt.map(|name| path.child_key(name.to_owned())));
        for field in fields.iter().filter(|field| field.required) {
            if kept.iter().any(|entry| entry.key == field.name) {
                continue;
            }
            let below = path.child_key(field.name.clone());
            if !self.broken.iter().any(|broken| below.covers(broken)) {
                let message = format!("`{}` is missing in `{path}`", field.name);
                self.report(Diagnostic::error(codes::MISSING, message), node.place, "in this one", path);
            }
            return None;
        }
        Some(Node { data: Data::Map(kept), ..node })
    }

    fn table(&mut self, node: Node, values: &Shape, path: &Path) -> Option<Node> {
        let Data::Map(entries) = node.data else { return self.wrong_type(&node, "a map", path, None) };
        let mut kept = Vec::new();
        for entry in entries {
            let value = self.visit(entry.value, values, &path.child_key(entry.key.clone()));
            kept.extend(value.map(|value| Entry { value, ..entry }));
        }
        Some(Node { data: Data::Map(kept), ..node })
    }

    /// What the format says nothing of: its variables are expanded, and what is null stays, because it may mean something.
    fn open(&mut self, node: Node) -> Node {
        let (data, env) = match node.data {
            Data::Scalar { text, plain } => {
                let expanded = self.expand(&text, plain, node.place);
                (Data::Scalar { text: expanded.text, plain: expanded.plain }, expanded.env)
            }
            Data::List(list) => (Data::List(list.into_iter().map(|node| self.open(node)).collect()), None),
            Data::Map(entries) => {
                let mut kept: Vec<Entry> = Vec::new();
                for entry in entries {
                    // One that stands twice was reported when it was read.
                    if kept.iter().all(|other| other.key != entry.key) {
                        kept.push(Entry { value: self.open(entry.value), ..entry });
                    }
                }
                (Data::Map(kept), None)
            }
        };
        Node { data, env, ..node }
    }

    fn list(&mut self, node: Node, element: &Shape, path: &Path) -> Option<Node> {
        let Data::List(elements) = node.data else {
            let hint =
                matches!(node.data, Data::Scalar { .. }).then(|| "a list of one is written `[value]`".to_owned());
            return self.wrong_type(&node, "a list", path, hint);
        };
        let mut kept = Vec::new();
        for (index, value) in elements.into_iter().enumerate() {
            let before = self.broken.len();
            let value = self.visit(value, element, &path.child(Step::Index(index)));
            // Later judgements count the elements that are left: what is gone is judged no further, and what is broken within the
            // others is found under the new position.
            let within = self.broken.split_off(before);
            if let Some(value) = value {
                let depth = path.steps().len();
                self.broken.extend(within.into_iter().map(|broken| {
                    let mut steps = broken.steps().to_vec();
                    if let Some(step) = steps.get_mut(depth) {
                        *step = Step::Index(kept.len());
                    }
                    Path::from(steps)
                }));
                kept.push(value);
            }
        }
        Some(Node { data: Data::List(kept), ..node })
    }

    fn scalar(&mut self, node: Node, shape: &Shape, path: &Path) -> Option<Node> {
        let Data::Scalar { text, plain } = &node.data else {
            return self.wrong_type(&node, shape.type_name(), path, None);
        };
        let expanded = self.expand(text, *plain, node.place);
        let (text, plain) = match shape {
            Shape::Text { pattern, .. } => (self.text(&node, &expanded, pattern.as_ref(), path)?, false),
            Shape::Word { words, switch } => (self.word(&node, &expanded, words, *switch, path)?, false),
            Shape::Integer { min, max } => (self.integer(&node, &expanded, *min, *max, path)?, true),
            _ => (self.boolean(&node, &expanded, path)?, true),
        };
        Some(Node { data: Data::Scalar { text, plain }, place: node.place, env: expanded.env })
    }

    fn text(&mut self, node: &Node, expanded: &Expanded, pattern: Option<&Pattern>, path: &Path) -> Option<String> {
        if expanded.template.is_none() && meaning(&expanded.text, expanded.plain) != Meaning::Text {
            let hint = format!("write it in quotes: \"{}\"", expanded.text);
            return self.wrong_type(node, "a text", path, Some(hint));
        }
        if let Some(pattern) = pattern {
            // An unreadable pattern is a fault of ours that a test of the shapes sees.
            if Regex::new(&pattern.regex).is_ok_and(|regex| !regex.is_match(&expanded.text)) {
                let error = Diagnostic::error(
                    codes::BAD_PATTERN,
                    format!("`{path}` cannot be {}: it takes {}", shown(expanded), pattern.form),
                );
                self.report(error, node.place, "", path);
                return None;
            }
        }
        Some(expanded.text.clone())
    }

    fn word(
        &mut self,
        node: &Node,
        expanded: &Expanded,
        words: &[String],
        switch: bool,
        path: &Path,
    ) -> Option<String> {
        // A reference that expands to nothing leaves the field out, as an empty word does.
        if expanded.text.is_empty() {
            return None;
        }
        if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(&expanded.text)) {
            return Some(word.clone());
        }
        match meaning(&expanded.text, true) {
            Meaning::Boolean(value) if switch => {
                return Some(if value { "Enabled" } else { "Disabled" }.to_owned());
            }
            Meaning::Text => {}
            _ if expanded.template.is_none() && expanded.plain => {
                return self.wrong_type(node, &one_of(words), path, None);
            }
            _ => {}
        }
        let message = format!("`{path}` cannot be {}: it takes {}", shown(expanded), one_of(words));
        let mut error = Diagnostic::error(codes::UNKNOWN_WORD, message);
        if expanded.template.is_none() {
            if let Some(nearest) = nearest(&expanded.text, words.iter().map(String::as_str)) {
                error = error.hint(format!("did you mean `{nearest}`?"));
            } else if switch && ["yes", "on", "no", "off"].contains(&expanded.text.to_lowercase().as_str()) {
                error = error.hint("write `Enabled` or `Disabled`");
            }
        }
        self.report(error, node.place, "", path);
        None
    }

    fn integer(
        &mut self,
        node: &Node,
        expanded: &Expanded,
        min: Option<i64>,
        max: Option<i64>,
        path: &Path,
    ) -> Option<String> {
        if expanded.template.is_some() && expanded.text.is_empty() {
            return None;
        }
        let plain = expanded.plain || expanded.template.is_some();
        let Meaning::Integer(number) = meaning(&expanded.text, plain) else {
            let quoted = matches!(meaning(&expanded.text, true), Meaning::Integer(_));
            return self.wrong_type_of(
                node,
                expanded,
                "an integer",
                path,
                quoted.then(|| "leave the quotes out".to_owned()),
            );
        };
        let problem = match (min, max) {
            (Some(min), _) if number < min => format!("at least {min}"),
            (_, Some(max)) if number > max => format!("at most {max}"),
            _ => return Some(number.to_string()),
        };
        let error = Diagnostic::error(codes::OUT_OF_RANGE, format!("`{path}` must be {problem}"));
        self.report(error, node.place, "", path);
        None
    }

    fn boolean(&mut self, node: &Node, expanded: &Expanded, path: &Path) -> Option<String> {
        if expanded.template.is_some() && expanded.text.is_empty() {
            return None;
        }
        match meaning(&expanded.text, expanded.plain || expanded.template.is_some()) {
            Meaning::Boolean(value) => Some(value.to_string()),
            _ => self.wrong_type_of(node, expanded, "a boolean", path, Some("write `true` or `false`".to_owned())),
        }
    }

    /// A text in a credential's place: kept as it stands, its references unexpanded. Only host, port and path of a URL are
    /// expanded.
    fn credential(&mut self, node: Node, kind: CredentialPlace, path: &Path) -> Option<Node> {
        let Data::Scalar { text, .. } = &node.data else { return self.wrong_type(&node, "a text", path, None) };
        let outcome = match kind {
            CredentialPlace::Secret => credential::password(text).map(|_| text.clone()),
            CredentialPlace::Username => credential::username(text).map(|_| text.clone()),
            CredentialPlace::Userinfo => {
                let parts = url_parts(text);
                let users = parts.userinfo.map_or(Ok(()), |(user, password)| {
                    credential::username(user)?;
                    password.map_or(Ok(()), |password| credential::password(password).map(|_| ()))
                });
                match users {
                    Err(refusal) => Err(refusal),
                    Ok(()) => {
                        let rest = self.expand(parts.rest, false, node.place).text;
                        if url_parts(&rest).userinfo.is_some() {
                            Err(Refusal::Literal)
                        } else {
                            let before = &text[..text.len() - parts.rest.len()];
                            Ok(format!("{before}{rest}"))
                        }
                    }
                }
            }
        };
        if outcome.is_ok() {
            self.note_variables(text, kind, path);
        }
        match outcome {
            Ok(text) => Some(Node { data: Data::Scalar { text, plain: false }, ..node }),
            Err(refusal) => {
                self.report(refused(refusal, kind, path), node.place, "", path);
                None
            }
        }
    }

    /// Notes which variables a credential needs: they are looked up only where a plan needs the credential.
    fn note_variables(&mut self, text: &str, kind: CredentialPlace, path: &Path) {
        let (user, password) = match kind {
            CredentialPlace::Secret | CredentialPlace::Username => (text, None),
            CredentialPlace::Userinfo => url_parts(text).userinfo.unwrap_or_default(),
        };
        for piece in [Some(user), password].into_iter().flatten().flat_map(pieces) {
            let Piece::Variable { name, .. } = piece else { continue };
            if !self.needed.iter().any(|(at, known)| at == path && *known == name) {
                self.needed.push((path.clone(), name));
            }
        }
    }

    fn expand(&mut self, text: &str, plain: bool, place: Place) -> Expanded {
        if !text.contains("${") {
            return Expanded { text: text.to_owned(), plain, template: None, env: None };
        }
        let pieces = pieces(text);
        let env = match pieces.as_slice() {
            [Piece::Variable { name, .. }] if self.project.env(name).is_some() => Some(Arc::from(name.as_str())),
            _ => None,
        };
        let has_variables = pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. }));
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Literal(text) => out.push_str(&text),
                Piece::Broken(text) => {
                    let warning = Diagnostic::warning(
                        codes::BAD_REFERENCE,
                        "`${` does not begin a reference here and stays as it is",
                    );
                    let warning =
                        warning.hint("references read `${NAME}` or `${NAME:-default}`; `$${` is a literal `${`");
                    self.diagnostics.push(self.texts.label(warning, place, ""));
                    out.push_str(&text);
                }
                Piece::Variable { name, default } => match (self.project.env(&name), default) {
                    (Some(value), _) => out.push_str(&value),
                    (None, Some(default)) => out.push_str(&default),
                    (None, None) => {
                        let message =
                            format!("the environment variable `{name}` is not set, and stands for empty text");
                        let warning = Diagnostic::warning(codes::VARIABLE_UNSET, message);
                        let warning = warning.hint(format!("set it, or write `${{{name}:-default}}`"));
                        self.diagnostics.push(self.texts.label(warning, place, ""));
                    }
                },
            }
        }
        Expanded { text: out, plain, template: has_variables.then(|| text.to_owned()), env }
    }

    /// Answers which key was probably meant.
    fn unknown_key<'f>(&mut self, entry: &Entry, fields: &'f [Field], path: &Path) -> Option<&'f str> {
        let place = if path.is_root() { "the file".to_owned() } else { format!("`{path}`") };
        let mut error = Diagnostic::error(codes::UNKNOWN_KEY, format!("{place} has no key `{}`", entry.key));
        let near = nearest(&entry.key, fields.iter().map(|field| field.name.as_str()));
        let elsewhere = elsewhere(&entry.key);
        if let Some(near) = near {
            error = error.hint(format!("did you mean `{near}`?"));
        } else if !elsewhere.is_empty() {
            error = error.hint(format!("it belongs to {}", elsewhere.join(" or ")));
        }
        self.report(error, entry.key_place, "not known here", &path.child_key(entry.key.clone()));
        near
    }

    fn wrong_type<T>(&mut self, node: &Node, wanted: &str, path: &Path, hint: Option<String>) -> Option<T> {
        let of = if path.is_root() { "the file".to_owned() } else { format!("`{path}`") };
        let message = format!("{of} takes {wanted}, not {}", node.type_name());
        self.type_error(message, node, path, hint)
    }

    /// The same for a text that may have been expanded.
    fn wrong_type_of(
        &mut self,
        node: &Node,
        expanded: &Expanded,
        wanted: &str,
        path: &Path,
        hint: Option<String>,
    ) -> Option<String> {
        match &expanded.template {
            None => self.wrong_type(node, wanted, path, hint),
            Some(template) => {
                let message = format!("`{path}` takes {wanted}, which `{template}` does not expand to");
                self.type_error(message, node, path, None)
            }
        }
    }

    fn type_error<T>(&mut self, message: String, node: &Node, path: &Path, hint: Option<String>) -> Option<T> {
        let mut error = Diagnostic::error(codes::WRONG_TYPE, message);
        error.hint = hint;
        self.report(error, node.place, "", path);
        None
    }

    fn report(&mut self, diagnostic: Diagnostic, place: Place, text: &str, path: &Path) {
        self.broken.push(path.clone());
        self.diagnostics.push(self.texts.label(diagnostic, place, text));
    }
}

/// A value for a message. What came from the environment is not shown: the variable may hold anything.
fn shown(expanded: &Expanded) -> String {
    match &expanded.template {
        // Credentials that lost their way.
        _ if url_parts(&expanded.text).userinfo.is_some() => "the given text".to_owned(),
        Some(template) => format!("what `{template}` expands to"),
        None => format!("`{}`", expanded.text),
    }
}

fn one_of(words: &[String]) -> String {
    match words {
        [only] => format!("`{only}`"),
        _ => format!("one of {}", words.join(", ")),
    }
}

fn refused(refusal: Refusal, kind: CredentialPlace, path: &Path) -> Diagnostic {
    let hint = match kind {
        CredentialPlace::Userinfo => "put it into an environment variable and write `user:${TOKEN}@host`",
        _ => "put it into an environment variable and write `${TOKEN}`",
    };
    match refusal {
        Refusal::Literal => {
            Diagnostic::error(codes::LITERAL_SECRET, format!("`{path}` holds a credential itself, not a reference"))
                .hint(hint)
        }
        Refusal::Default => Diagnostic::error(
            codes::SECRET_DEFAULT,
            format!("`{path}` gives a default to a reference in a credential's place"),
        )
        .hint("write `${NAME}` without `:-` and set the variable"),
        Refusal::Broken => {
            Diagnostic::error(codes::BAD_REFERENCE, format!("`{path}` has a `${{` that begins no reference")).hint(hint)
        }
    }
}

/// The candidate nearest to a word, if one is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The maps of the format that have a key of this name.
fn elsewhere(key: &str) -> Vec<String> {
    /// More places than this would confuse.
    const MOST: usize = 3;
    let mut places = Vec::new();
    ROOT.walk("", &mut |path, field| {
        if field.name.eq_ignore_ascii_case(key) {
            let place = path.rsplit_once('.').map_or("the top of the file".to_owned(), |(map, _)| format!("`{map}`"));
            places.push(place);
        }
    });
    if places.len() > MOST { Vec::new() } else { places }
}
