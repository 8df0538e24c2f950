//! Errors and warnings for people and programs.

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use ksail::{Diagnostic, Error, Exit, Severity, SourceFile, codes};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde_json::json;

use crate::args::Global;
use crate::terminal;

/// A command that failed: what to tell, and with which exit code.
pub(crate) struct Failure {
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Texts that the diagnostics point into.
    pub(crate) texts: Vec<SourceFile>,
    pub(crate) exit: Exit,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { diagnostics: error.diagnostics(), texts: Vec::new(), exit: error.exit() }
    }
}

impl Failure {
    /// This failure with the texts that its diagnostics point into.
    pub(crate) fn with_texts(mut self, texts: &[SourceFile]) -> Self {
        self.texts = texts.to_vec();
        self
    }
}

/// Tells a failure and answers its exit code.
pub(crate) fn failure(global: &Global, failure: &Failure) -> ExitCode {
    diagnostics(global, &failure.diagnostics, &failure.texts);
    ExitCode::from(failure.exit as u8)
}

/// Tells diagnostics on standard error: with a snippet for people, a JSON object a line for programs.
pub(crate) fn diagnostics(global: &Global, diagnostics: &[Diagnostic], texts: &[SourceFile]) {
    for diagnostic in diagnostics {
        if global.is_json() {
            terminal::note(&json(diagnostic).to_string());
        } else {
            terminal::note(text(global, diagnostic, texts).trim_end());
        }
    }
}

/// A diagnostic as JSON.
pub(crate) fn json(diagnostic: &Diagnostic) -> serde_json::Value {
    json!({
        "type": "diagnostic",
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "code": diagnostic.code.to_string(),
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "places": diagnostic.labels.iter().map(|label| json!({
            "file": label.file, "line": label.span.line, "column": label.span.column,
            "length": label.span.length, "text": label.text,
        })).collect::<Vec<_>>(),
    })
}

/// Whether a command line that could not be read asks for JSON.
pub(crate) fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    words.contains(&"--format=json") || words.windows(2).any(|pair| pair == ["--format", "json"])
}

/// What is wrong with a command line, as a diagnostic.
pub(crate) fn usage(error: &clap::Error) -> Diagnostic {
    let text = error.render().to_string();
    let is_hint = |line: &&str| line.trim_start().starts_with("tip: ");
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !is_hint(line))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let message = message.join(" ");
    let hint = text.lines().find(is_hint).map(|line| line.trim_start().trim_start_matches("tip: ").to_owned());
    let hint = hint.unwrap_or_else(|| "`ksail COMMAND --help` lists what it takes".to_owned());
    Diagnostic::error(codes::USAGE, message.trim_start_matches("error: ")).hint(hint)
}

fn text(global: &Global, diagnostic: &Diagnostic, texts: &[SourceFile]) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let hint = diagnostic.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    let place =
        diagnostic.labels.first().map(|label| format!("{}:{}:{}: ", label.file, label.span.line, label.span.column));
    let head = format!("{severity}[{}]: {}{}", diagnostic.code, place.unwrap_or_default(), diagnostic.message);
    let snippet = snippet(global, diagnostic, texts).unwrap_or_default();
    let head = if terminal::is_coloured(global, std::io::stderr().is_terminal()) {
        let style = anstyle::Style::new().bold().fg_color(Some(
            match diagnostic.severity {
                Severity::Error => anstyle::AnsiColor::Red,
                Severity::Warning => anstyle::AnsiColor::Yellow,
            }
            .into(),
        ));
        format!("{style}{head}{style:#}")
    } else {
        head
    };
    format!("{head}{snippet}{hint}\n")
}

/// The lines that a diagnostic points at.
fn snippet(global: &Global, diagnostic: &Diagnostic, texts: &[SourceFile]) -> Option<String> {
    let first = diagnostic.labels.first()?;
    let source = texts.iter().find(|text| *text.name == *first.file)?;
    let labels = diagnostic
        .labels
        .iter()
        .filter(|label| label.file == first.file)
        .filter_map(|label| {
            let start = offset(&source.text, label.span.line, label.span.column)?;
            let end =
                offset(&source.text, label.span.line, label.span.column + label.span.length.max(1)).unwrap_or(start);
            let text = Some(label.text.clone()).filter(|text| !text.is_empty());
            Some(LabeledSpan::new(text, start, end.saturating_sub(start).max(1)))
        })
        .collect();
    let theme = if terminal::is_coloured(global, std::io::stderr().is_terminal()) {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let report = Snippet { source: NamedSource::new(&source.name, source.text.clone()), labels };
    let mut out = String::new();
    GraphicalReportHandler::new_themed(theme).with_width(terminal::width()).render_report(&mut out, &report).ok()?;
    // The handler begins with the (empty) message of the report: only the lines are wanted.
    let lines: Vec<&str> = out.lines().skip_while(|line| !line.contains('╭')).collect();
    (!lines.is_empty()).then(|| format!("\n{}", lines.join("\n")))
}

/// The byte offset of a line and column, both from 1; columns count characters.
fn offset(text: &str, line: u32, column: u32) -> Option<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].find('\n')? + 1;
    }
    let rest = &text[start..];
    let length = rest.find('\n').unwrap_or(rest.len());
    let within = rest[..length].char_indices().nth(column.saturating_sub(1) as usize).map_or(length, |(at, _)| at);
    Some(start + within)
}

#[derive(Debug)]
struct Snippet {
    source: NamedSource<String>,
    labels: Vec<LabeledSpan>,
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(" ")
    }
}

impl std::error::Error for Snippet {}

impl miette::Diagnostic for Snippet {
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}
