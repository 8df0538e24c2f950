//! Reads YAML into a tree, with anchors and merge keys followed and every limit named.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use ksail_model::{Diagnostic, Span};

use crate::codes;
use crate::tree::{Data, Entry, Node, Place, Texts};

/// The largest text that is read, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;

/// The most values of one document, aliases followed, so that a few lines cannot stand for billions.
const MAX_NODES: usize = 20_000;

/// The deepest nesting of lists and maps.
const MAX_DEPTH: usize = 64;

/// The same for a file of manifests, which may hold many objects.
const MAX_MANIFEST_BYTES: usize = 16 << 20;
const MAX_MANIFEST_NODES: usize = 2_000_000;

/// The outcome of reading: the tree, if there is one, and what was wrong. Keys that stand twice are reported but
/// still in the tree, so that credentials can be masked in both.
pub(crate) struct Read {
    pub(crate) root: Option<Node>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Reads the text with this index. `shift` is how many characters of its first line come before `yaml`.
pub(crate) fn read(texts: &Texts, text: usize, yaml: &str, shift: u32) -> Read {
    let (documents, diagnostics) = Builder::new(texts, text, shift, MAX_NODES).read(yaml, MAX_TEXT_BYTES, false);
    Read { root: documents.into_iter().next(), diagnostics }
}

/// Reads all documents of a file of manifests.
pub(crate) fn read_all(texts: &Texts, text: usize, yaml: &str) -> (Vec<Node>, Vec<Diagnostic>) {
    Builder::new(texts, text, 0, MAX_MANIFEST_NODES).read(yaml, MAX_MANIFEST_BYTES, true)
}

/// Reading cannot go on; the reason was reported.
struct Stop;

/// A list or map that is not closed yet.
struct Frame {
    anchor: usize,
    place: Place,
    kind: FrameKind,
}

enum FrameKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, merged: Vec<Node>, key: Option<(String, Place, bool)> },
}

struct Builder<'a> {
    texts: &'a Texts,
    text: usize,
    shift: u32,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    most_nodes: usize,
    /// The text's lines, for the lengths of values of several lines.
    lines: Vec<&'a str>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    fn new(texts: &'a Texts, text: usize, shift: u32, most_nodes: usize) -> Self {
        let lines = texts.0.get(text).map_or_else(Vec::new, |text| text.text.lines().collect());
        Self { texts, text, shift, anchors: HashMap::new(), nodes: 0, most_nodes, lines, diagnostics: Vec::new() }
    }

    fn read(mut self, yaml: &str, most_bytes: usize, several: bool) -> (Vec<Node>, Vec<Diagnostic>) {
        let mut found = Vec::new();
        if yaml.len() > most_bytes {
            let place = self.place(Span { line: 1, column: 1, length: 1 }, 1);
            let message = format!("the file has {} bytes; at most {most_bytes} are read", yaml.len());
            self.report(codes::TOO_LARGE, message, place);
        } else if self.documents(yaml.trim_start_matches('\u{feff}'), several, &mut found).is_err() {
            found.clear();
        }
        (found, self.diagnostics)
    }

    fn documents(&mut self, yaml: &str, several: bool, found: &mut Vec<Node>) -> Result<(), Stop> {
        let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
        let mut frames: Vec<Frame> = Vec::new();
        let mut documents = 0_usize;
        for next in Parser::new_from_str_with_options(yaml, options) {
            let (event, span) = next.map_err(|error| self.syntax(&error))?;
            let place = self.place_of(span);
            let done = match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 && !several {
                        self.report(codes::SEVERAL_DOCUMENTS, "a second document begins here", place);
                        return Ok(());
                    }
                    None
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.count(place, 1)?;
                    let plain = self.is_plain(style, tag.as_deref(), place);
                    let data = Data::Scalar { text: text.into_owned(), plain };
                    let node = Node { data, place, env: None };
                    self.keep(anchor, &node, 1);
                    Some(node)
                }
                Event::SequenceStart(_, anchor, _) => {
                    self.count(place, 1)?;
                    frames.push(Frame { anchor, place, kind: FrameKind::List(Vec::new()) });
                    None
                }
                Event::MappingStart(_, anchor, _) => {
                    self.count(place, 1)?;
                    let kind = FrameKind::Map { entries: Vec::new(), merged: Vec::new(), key: None };
                    frames.push(Frame { anchor, place, kind });
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => frames.pop().map(|frame| self.close(frame, place)),
                Event::Alias(id) => match self.anchors.get(&id).cloned() {
                    Some((node, size)) => {
                        self.count(place, size)?;
                        Some(node)
                    }
                    None => {
                        self.report(codes::BAD_MERGE, "the alias stands within its own anchor", place);
                        return Err(Stop);
                    }
                },
                _ => None,
            };
            if let Some(node) = done {
                match frames.last_mut() {
                    None => found.push(node),
                    Some(frame) => self.put(frame, node)?,
                }
            }
        }
        Ok(())
    }

    /// Puts a finished value into the list or map that it belongs to.
    fn put(&mut self, frame: &mut Frame, node: Node) -> Result<(), Stop> {
        match &mut frame.kind {
            FrameKind::List(list) => list.push(node),
            FrameKind::Map { entries, merged, key } => match key.take() {
                None => {
                    let Data::Scalar { text, plain } = node.data else {
                        self.report(codes::BAD_KEY, "a key must be a text", node.place);
                        return Err(Stop);
                    };
                    *key = Some((text, node.place, plain));
                }
                Some((key, key_place, true)) if key == "<<" => self.merge(merged, node, key_place),
                Some((key, key_place, _)) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                        let error = Diagnostic::error(codes::DUPLICATE_KEY, format!("the key `{key}` stands twice"));
                        let error = self.texts.label(error, key_place, "again here");
                        self.diagnostics.push(self.texts.label(error, first.key_place, "first here"));
                    }
                    entries.push(Entry { key, key_place, value: node });
                }
            },
        }
        Ok(())
    }

    fn merge(&mut self, merged: &mut Vec<Node>, node: Node, key_place: Place) {
        match node.data {
            Data::Map(_) => merged.push(node),
            Data::List(list) if list.iter().all(|element| matches!(element.data, Data::Map(_))) => merged.extend(list),
            _ => self.report(codes::BAD_MERGE, "`<<` takes a map or a list of maps", key_place),
        }
    }

    fn close(&mut self, frame: Frame, end: Place) -> Node {
        let mut place = frame.place;
        place.last_line = end.last_line;
        let data = match frame.kind {
            FrameKind::List(list) => Data::List(list),
            FrameKind::Map { mut entries, merged, .. } => {
                // What stands in the map itself wins over what is merged, and of what is merged the first.
                for node in merged {
                    let Data::Map(others) = node.data else { continue };
                    for other in others {
                        if entries.iter().all(|entry| entry.key != other.key) {
                            entries.push(other);
                        }
                    }
                }
                Data::Map(entries)
            }
        };
        let node = Node { data, place, env: None };
        if frame.anchor != 0 {
            let size = size(&node);
            self.keep(frame.anchor, &node, size);
        }
        node
    }

    fn keep(&mut self, anchor: usize, node: &Node, size: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
    }

    fn count(&mut self, place: Place, nodes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > self.most_nodes {
            let most = self.most_nodes;
            self.report(codes::TOO_LARGE, format!("more than {most} values, aliases followed"), place);
            return Err(Stop);
        }
        Ok(())
    }

    /// Whether a scalar's type follows from its text. `!!str` and quotes make it a text; other tags of YAML itself
    /// leave it to the text, and any further tag is an error.
    fn is_plain(&mut self, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> bool {
        match tag.map(|tag| (tag.core_suffix(), tag)) {
            None => style == ScalarStyle::Plain,
            Some((Some("str"), _)) => false,
            Some((Some(_), _)) => true,
            Some((None, tag)) if tag.original() == "!" => false,
            Some((None, tag)) => {
                self.report(codes::BAD_MERGE, format!("the tag `{}` is not known", tag.original()), place);
                false
            }
        }
    }

    fn syntax(&mut self, error: &ScanError) -> Stop {
        let column = u32::try_from(error.marker().col()).unwrap_or(u32::MAX - 1) + 1;
        let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX).max(1);
        let place = self.place(Span { line, column, length: 1 }, line);
        // The parser's own words hold no text of the file beyond names of anchors, tags and directives.
        self.report(codes::SYNTAX, format!("not readable as YAML: {}", error.info()), place);
        Stop
    }

    fn report(&mut self, code: ksail_model::Code, message: impl Into<String>, place: Place) {
        self.diagnostics.push(self.texts.label(Diagnostic::error(code, message), place, ""));
    }

    fn place_of(&self, span: granit_parser::Span) -> Place {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (line, column) = (number(span.start.line()).max(1), number(span.start.col()) + 1);
        let last_line = number(span.end.line()).max(line);
        let length = if last_line == line {
            number(span.end.col()).saturating_add(1).saturating_sub(column).max(1)
        } else {
            // The rest of its first line.
            let first = self.lines.get(line as usize - 1).copied().unwrap_or("");
            number(first.trim_end().chars().count()).saturating_add(1).saturating_sub(column).max(1)
        };
        self.place(Span { line, column, length }, last_line)
    }

    fn place(&self, mut span: Span, last_line: u32) -> Place {
        if span.line == 1 {
            span.column += self.shift;
        }
        Place { text: self.text, span, last_line }
    }
}

/// How many values a tree has.
fn size(node: &Node) -> usize {
    1 + match &node.data {
        Data::Scalar { .. } => 0,
        Data::List(list) => list.iter().map(size).sum(),
        Data::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
    }
}
