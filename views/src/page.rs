//! A page of styled lines. Every part of a line is made printable here, so that no caller can forget it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::printable::{columns, printable};

/// What a part of a line is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Faint,
    Add,
    Change,
    Remove,
    Read,
    Warn,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Add => AnsiColor::Green.on_default(),
            Self::Change => AnsiColor::Yellow.on_default(),
            Self::Remove => AnsiColor::Red.on_default(),
            Self::Read => AnsiColor::Cyan.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default().bold(),
        }
    }
}

/// The narrowest page on which prose is still wrapped.
const MIN_WIDTH: usize = 40;

/// Lines, in the making.
#[derive(Debug)]
pub(crate) struct Page {
    out: String,
    color: bool,
    width: usize,
}

impl Page {
    /// An empty page; prose is wrapped to `width` columns, all else stands as long as it is.
    pub(crate) fn new(color: bool, width: usize) -> Self {
        Self { out: String::new(), color, width: width.max(MIN_WIDTH) }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, parts: &[(Tone, &str)]) {
        for (tone, text) in parts {
            let text = printable(text);
            if self.color && *tone != Tone::Plain && !text.trim().is_empty() {
                let style = tone.style();
                let _ = write!(self.out, "{style}{text}{style:#}");
            } else {
                self.out.push_str(&text);
            }
        }
        self.out.push('\n');
    }

    /// Adds an empty line, unless the page is empty or ends with one.
    pub(crate) fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Adds words, wrapped; the first line begins with `first`, the others with as many spaces. Where `first` ends with
    /// `# ` the others do too, but stand deeper, so that no words can be taken for a line of their own.
    pub(crate) fn prose(&mut self, first: &str, tone: Tone, text: &str) {
        let text = printable(text);
        let rest = match first.strip_suffix("# ") {
            Some(before) => format!("{}#   ", " ".repeat(columns(before))),
            None => " ".repeat(columns(first)),
        };
        let room = self.width.saturating_sub(columns(&rest)).max(MIN_WIDTH / 2);
        let (mut line, mut used, mut lead) = (String::new(), 0, first);
        for word in text.split(' ') {
            if used > 0 && used + 1 + columns(word) > room {
                self.line(&[(tone, lead), (tone, &line)]);
                line.clear();
                used = 0;
                lead = &rest;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += columns(word);
        }
        self.line(&[(tone, lead), (tone, &line)]);
    }

    /// The page as text.
    pub(crate) fn finish(self) -> String {
        self.out
    }
}
