//! What a run tells: lines for people on stdout, and what it knows of itself in a file.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ksail_execute::{Event, EventSink};
use ksail_views::events::event_line;
use serde::Serialize;

/// What a run knows of itself.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Nodes that change.
    pub(crate) changes: usize,
    /// Steps that were done.
    pub(crate) done: usize,
    /// From the start of the process to the plan, in milliseconds.
    pub(crate) planned_ms: f64,
    /// From the first step's begin to the seal, in milliseconds.
    pub(crate) dispatched_ms: f64,
    /// From the start of the process to here, in milliseconds.
    pub(crate) total_ms: f64,
    /// Bytes passed to write calls by this process, stdout left out; `None` where the system does not tell.
    pub(crate) written_bytes: Option<u64>,
    /// The largest resident set of this process so far, in bytes; `None` where the system does not tell.
    pub(crate) peak_bytes: Option<u64>,
}

impl Report {
    /// Writes the report.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }
}

/// Bytes passed to write calls by this process so far.
pub(crate) fn written_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: ")).and_then(|number| number.trim().parse().ok())
}

/// The largest resident set of this process so far. What the system tells a parent of a child that is over counts what the parent
/// itself had when it started the child.
pub(crate) fn peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Events as lines on stdout, as a run without a terminal shows them.
pub(crate) struct Lines {
    out: Mutex<Out>,
}

struct Out {
    stdout: BufWriter<Stdout>,
    bytes: u64,
}

impl Lines {
    /// Writes to stdout.
    pub(crate) fn new() -> Self {
        Self { out: Mutex::new(Out { stdout: BufWriter::new(io::stdout()), bytes: 0 }) }
    }

    /// Shows a text that ends with a newline.
    pub(crate) fn show(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.bytes += text.len() as u64;
        // Nobody is left to tell of a closed stdout.
        let _ = out.stdout.write_all(text.as_bytes());
    }

    /// Brings out what is buffered; answers how many bytes were shown.
    pub(crate) fn flush(&self) -> u64 {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.stdout.flush();
        out.bytes
    }
}

impl EventSink for Lines {
    fn event(&self, event: Event) {
        if let Some(mut line) = event_line(&event) {
            line.push('\n');
            self.show(&line);
        }
    }
}

/// Tells an error with its causes on stderr.
pub(crate) fn complain(error: &dyn std::error::Error) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    let _ = writeln!(io::stderr(), "{text}");
}
