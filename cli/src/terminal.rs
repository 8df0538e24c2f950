//! The terminal: what is printed where, in which colours.

use std::io::{IsTerminal as _, Write as _};

use ksail_views::text::{TextOptions, Verbosity};
use tracing_subscriber::EnvFilter;

use crate::args::Global;

/// The width of text where the terminal does not tell.
const DEFAULT_WIDTH: usize = 100;

/// Writes to standard output. Whoever reads it may go away; then there is nobody to tell.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard error, which is not buffered: as a whole.
pub(crate) fn note(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Writes JSON to standard output, with a newline.
pub(crate) fn print_json(json: &serde_json::Value) {
    print(&format!("{}\n", ksail_views::json::text(json, true)));
}

/// Whether colours are wanted on a stream that is a terminal or not.
pub(crate) fn is_coloured(global: &Global, is_terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !global.no_color && !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How text is laid out on standard output.
pub(crate) fn text_options(global: &Global) -> TextOptions {
    let verbosity = match (global.verbose, global.quiet) {
        (true, _) => Verbosity::Verbose,
        (_, true) => Verbosity::Quiet,
        _ => Verbosity::Normal,
    };
    TextOptions { color: is_coloured(global, std::io::stdout().is_terminal()), width: width(), verbosity }
}

/// The columns of the terminal, if `COLUMNS` or the terminal tells.
pub(crate) fn width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .filter(|&columns| columns >= 40)
        .unwrap_or(DEFAULT_WIDTH)
}

/// Whether somebody can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for `yes` on the terminal.
pub(crate) fn ask(question: &str) -> bool {
    let mut err = std::io::stderr().lock();
    let _ =
        write!(err, "\n{question}\n  Only `yes` is taken as a yes.\n\n  Enter a value: ").and_then(|()| err.flush());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// Starts the log on standard error, if `KSAIL_LOG` asks for one.
pub(crate) fn start_logging() {
    if let Ok(filter) = EnvFilter::try_from_env("KSAIL_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    }
}
