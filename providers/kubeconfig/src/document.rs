//! A kubeconfig's text as a tree that knows where each part stands.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

use crate::tree::Tree;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 64;
/// The most values of a file, aliases followed.
const MAX_NODES: usize = 200_000;

/// Why a text is not a kubeconfig that can be read, as a fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("it is not readable as YAML at line {line}: {why}")]
    Syntax { line: usize, why: String },
    #[error("it holds more than one document")]
    Several,
    #[error("it has more than {MAX_NODES} values, aliases followed")]
    TooLarge,
    #[error("it is not a map with texts as keys")]
    NoMap,
    #[error("`{0}` stands in it twice")]
    Twice(String),
}

/// A value with the bytes that it takes. Those of a block end with its last value, before comments and line breaks.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) bytes: Range<usize>,
    pub(crate) is_flow: bool,
    /// Whether it carries an anchor or a tag, or is an alias: such are read and not rewritten.
    pub(crate) is_special: bool,
    pub(crate) data: Data,
}

#[derive(Debug, Clone)]
pub(crate) enum Data {
    Scalar { text: String, is_plain: bool },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_bytes: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn tree(&self) -> Tree {
        match &self.data {
            Data::Scalar { text, is_plain: true } => Tree::of_plain(text.clone()),
            Data::Scalar { text, is_plain: false } => Tree::Text(text.clone()),
            Data::List(items) => Tree::List(items.iter().map(Self::tree).collect()),
            Data::Map(entries) => Tree::Map(entries.iter().map(|e| (e.key.clone(), e.value.tree())).collect()),
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Self] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    fn size(&self) -> usize {
        1 + match &self.data {
            Data::Scalar { .. } => 0,
            Data::List(items) => items.iter().map(Self::size).sum(),
            Data::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }
}

/// Reads a text. `None` if it holds nothing but comments.
pub(crate) fn read(text: &str) -> Result<Option<Node>, DocumentError> {
    Reader::new(text).read()
}

/// A list or map that is not closed yet.
struct Frame {
    anchor: usize,
    node: Node,
    key: Option<(String, Range<usize>)>,
}

struct Reader<'a> {
    text: &'a str,
    /// The byte at which each character stands.
    offsets: Vec<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Where the value before ends, which is where an empty one stands.
    last: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let body = text.trim_start_matches('\u{feff}');
        let shift = text.len() - body.len();
        let offsets = body.char_indices().map(|(at, _)| at + shift).chain([text.len()]).collect();
        Self { text: body, offsets, anchors: HashMap::new(), nodes: 0, last: shift }
    }

    fn bytes(&self, span: granit_parser::Span) -> Range<usize> {
        let last = *self.offsets.last().unwrap_or(&0);
        let at = |index: usize| self.offsets.get(index).copied().unwrap_or(last);
        let start = at(span.start.index());
        start..at(span.end.index()).max(start)
    }

    fn count(&mut self, nodes: usize) -> Result<(), DocumentError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES { Err(DocumentError::TooLarge) } else { Ok(()) }
    }

    fn read(mut self) -> Result<Option<Node>, DocumentError> {
        let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
        let mut frames: Vec<Frame> = Vec::new();
        let (mut documents, mut root) = (0_usize, None);
        for next in Parser::new_from_str_with_options(self.text, options) {
            let (event, span) = next.map_err(|error| DocumentError::Syntax {
                line: error.marker().line().max(1),
                why: error.info().to_string(),
            })?;
            let bytes = self.bytes(span);
            let done = match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(DocumentError::Several);
                    }
                    None
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.count(1)?;
                    let is_plain = style == ScalarStyle::Plain;
                    // What is empty is told to stand where the next thing begins.
                    let bytes = if is_plain && text.is_empty() { self.last..self.last } else { bytes };
                    let data = Data::Scalar { text: text.into_owned(), is_plain: is_plain && tag.is_none() };
                    let is_special = anchor != 0 || tag.is_some();
                    let node = Node { bytes, is_flow: false, is_special, data };
                    self.keep(anchor, &node);
                    Some(node)
                }
                Event::SequenceStart(style, anchor, tag) => {
                    self.count(1)?;
                    frames.push(Frame::new(bytes, style, anchor, tag.is_some(), Data::List(Vec::new())));
                    None
                }
                Event::MappingStart(style, anchor, tag) => {
                    self.count(1)?;
                    frames.push(Frame::new(bytes, style, anchor, tag.is_some(), Data::Map(Vec::new())));
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => frames.pop().map(|frame| self.close(frame, bytes.end)),
                Event::Alias(id) => {
                    let known = self.anchors.get(&id).cloned().ok_or(DocumentError::NoMap)?;
                    self.count(known.size())?;
                    Some(Node { bytes, is_special: true, ..known })
                }
                _ => None,
            };
            if let Some(node) = done {
                self.last = node.bytes.end.max(self.last);
                match frames.last_mut() {
                    None => root = Some(node),
                    Some(frame) => frame.put(node)?,
                }
            }
        }
        match root {
            Some(node) if node.tree().is_null() => Ok(None),
            Some(node) if matches!(node.data, Data::Map(_)) => {
                let keys: Vec<&str> = node.entries().iter().map(|entry| entry.key.as_str()).collect();
                let twice = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key));
                match twice {
                    Some((_, key)) => Err(DocumentError::Twice((*key).to_owned())),
                    None => Ok(Some(node)),
                }
            }
            Some(_) => Err(DocumentError::NoMap),
            None => Ok(None),
        }
    }

    /// A block ends with its last value; its end is told where the next thing begins.
    fn close(&mut self, frame: Frame, end: usize) -> Node {
        let mut node = frame.node;
        node.bytes.end = if node.is_flow { end } else { self.last.max(node.bytes.start) };
        self.keep(frame.anchor, &node);
        node
    }

    fn keep(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }
}

impl Frame {
    fn new(bytes: Range<usize>, style: StructureStyle, anchor: usize, is_tagged: bool, data: Data) -> Self {
        let is_flow = style == StructureStyle::Flow;
        Self { anchor, node: Node { bytes, is_flow, is_special: anchor != 0 || is_tagged, data }, key: None }
    }

    fn put(&mut self, value: Node) -> Result<(), DocumentError> {
        match &mut self.node.data {
            Data::List(items) => items.push(value),
            Data::Map(entries) => match self.key.take() {
                Some((key, key_bytes)) => entries.push(Entry { key, key_bytes, value }),
                None => {
                    let Data::Scalar { text, .. } = value.data else { return Err(DocumentError::NoMap) };
                    self.key = Some((text, value.bytes));
                }
            },
            Data::Scalar { .. } => {}
        }
        Ok(())
    }
}
