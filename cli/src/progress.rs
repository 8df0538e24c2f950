//! Readers of the events: a live view on a terminal, plain lines elsewhere, JSON lines for programs.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ksail::{Event, EventSink, Plan};
use ksail_views::events::{ProgressModel, event_json, event_line};
use ksail_views::json;

use crate::args::Global;
use crate::terminal;

/// How often the live view is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The reader that fits where standard error goes.
pub(crate) fn sink(global: &Global, plan: &Plan, parallelism: usize) -> Arc<dyn EventSink> {
    if global.is_json() {
        Arc::new(JsonLines)
    } else if global.quiet {
        Arc::new(Notes)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Live::start(plan, parallelism))
    } else {
        Arc::new(Lines)
    }
}

struct JsonLines;

impl EventSink for JsonLines {
    fn event(&self, event: Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        terminal::print(&format!("{}\n", json::text(&event_json(&event, now_ms), false)));
    }
}

/// Only what is out of the ordinary.
struct Notes;

impl EventSink for Notes {
    fn event(&self, event: Event) {
        if let Some(line) = event_line(&event).filter(|_| matches!(event, Event::Note { .. })) {
            terminal::note(&line);
        }
    }
}

struct Lines;

impl EventSink for Lines {
    fn event(&self, event: Event) {
        if let Some(line) = event_line(&event) {
            terminal::note(&line);
        }
    }
}

/// Finished steps as lines, and below them what is running.
struct Live {
    bar: ProgressBar,
    model: Arc<Mutex<ProgressModel>>,
}

impl Live {
    fn start(plan: &Plan, parallelism: usize) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let model = Arc::new(Mutex::new(ProgressModel::new(plan, parallelism)));
        let (drawn, shown) = (bar.clone(), Arc::downgrade(&model));
        let began = Instant::now();
        std::thread::spawn(move || {
            // Ends with the last handle of the model.
            while let Some(model) = shown.upgrade() {
                let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let lines = model.lock().unwrap_or_else(PoisonError::into_inner).lines(now_ms, terminal::width());
                drop(model);
                drawn.set_message(lines.join("\n"));
                std::thread::sleep(DRAW_EVERY);
            }
        });
        Self { bar, model }
    }
}

impl EventSink for Live {
    fn event(&self, event: Event) {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).update(&event);
        if let Some(line) =
            event_line(&event).filter(|_| !matches!(event, Event::StepStarted { .. } | Event::StepWaiting { .. }))
        {
            self.bar.println(line);
        }
        if matches!(event, Event::Finished { .. }) {
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
