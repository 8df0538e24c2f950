//! A plan for people, in the form that users of Terraform know.

pub(crate) mod blocked;
mod explanation;
mod fields;
mod outputs;
mod print;
mod summary;

use ksail_model::Schemas;
use ksail_plan::{Action, Drift, Mode, Plan, PlanNode};

pub use self::explanation::explanation;
use self::fields::{Field, Shape, Sign, Source};
pub use self::outputs::outputs;
pub use self::summary::summary_line;
use crate::mask::Mask;
use crate::outputs::output_changes;
use crate::page::{Page, Tone};
use crate::words;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// A line a resource that changes, and what is blocked.
    Quiet,
    /// The fields that change.
    #[default]
    Normal,
    /// What does not change too.
    Verbose,
}

/// How a text is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextOptions {
    /// Whether ANSI colours are used. Nothing is told by colour alone.
    pub color: bool,
    /// Columns to which sentences are wrapped. Values are never cut or wrapped.
    pub width: usize,
    /// How much is shown.
    pub verbosity: Verbosity,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { color: false, width: 100, verbosity: Verbosity::Normal }
    }
}

/// The column of a field's sign in a resource.
const FIELD_INDENT: usize = 6;

/// The plan as text, ending with a newline. Sensitive values are not in it, and control characters of any value are
/// written out, so that it is safe to print.
pub fn plan(plan: &Plan, schemas: &dyn Schemas, options: &TextOptions) -> String {
    let mut view = View { page: Page::new(options.color, options.width), plan, schemas, verbosity: options.verbosity };
    view.legend();
    view.drift();
    view.resolutions();
    view.resources();
    view.recorded_only();
    blocked::blocked(&mut view.page, plan, options.verbosity);
    view.yielded();
    view.outputs();
    view.notes();
    view.page.gap();
    view.page.line(&[(Tone::Strong, &summary_line(plan))]);
    view.facts();
    view.page.finish()
}

struct View<'a> {
    page: Page,
    plan: &'a Plan,
    schemas: &'a dyn Schemas,
    verbosity: Verbosity,
}

impl<'a> View<'a> {
    fn legend(&mut self) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let signs: std::collections::BTreeSet<&str> =
            self.plan.nodes.values().map(|node| words::sign(node).0).collect();
        let used: Vec<_> = words::LEGEND.iter().filter(|(sign, ..)| signs.contains(sign)).collect();
        if used.is_empty() {
            return;
        }
        self.page.line(&[(Tone::Plain, "Actions are indicated with the following symbols:")]);
        for (sign, tone, meaning) in used {
            self.page.line(&[(*tone, &format!("{sign:>3}")), (Tone::Plain, " "), (Tone::Plain, meaning)]);
        }
    }

    fn drift(&mut self) {
        if self.plan.drift.is_empty() {
            return;
        }
        self.page.gap();
        self.page.line(&[(Tone::Strong, "Changed outside of ksail since the last apply:")]);
        for drift in &self.plan.drift {
            self.one_drift(drift);
        }
        if self.verbosity > Verbosity::Quiet {
            self.page.gap();
            self.page.line(&[(Tone::Faint, &"─".repeat(40))]);
        }
    }

    fn one_drift(&mut self, drift: &'a Drift) {
        let (sign, tone) = if drift.deleted { ("-", Tone::Remove) } else { ("~", Tone::Change) };
        let response = words::response(drift);
        if self.verbosity == Verbosity::Quiet {
            let text = format!(" {}: {response}", words::drifted(drift));
            return self.page.line(&[(tone, &format!("{sign:>3}")), (Tone::Plain, &text)]);
        }
        self.page.gap();
        self.page.prose("  # ", Tone::Strong, &words::drifted(drift));
        self.page.prose("  # ", Tone::Plain, &format!("({response})"));
        let schema = self.schemas.schema(drift.key.address.kind());
        let mask = Mask::new(schema, &drift.changes);
        let source = Source { schema, mask: &mask, unchanged: false, causes: false };
        let (fields, unchanged) = source.changed(&drift.changes, None, None);
        self.block((sign, tone), &drift.key.address, &fields, unchanged);
    }

    fn resolutions(&mut self) {
        if self.plan.resolutions.is_empty() {
            return;
        }
        self.page.gap();
        let heading = match self.plan.header.at_work {
            Some(_) => "Calls of the operation under way, as they are now:",
            None => "A killed operation goes on:",
        };
        self.page.line(&[(Tone::Strong, heading)]);
        for resolution in &self.plan.resolutions {
            let text = format!("{} (operation {})", words::resolution(resolution), resolution.operation);
            self.page.prose("  - ", Tone::Plain, &text);
        }
    }

    fn is_shown(&self, node: &PlanNode) -> bool {
        match node.action {
            Action::Blocked { .. } => false,
            Action::NoOp => self.verbosity == Verbosity::Verbose || node.import.is_some() || node.moved_from.is_some(),
            _ => true,
        }
    }

    fn resources(&mut self) {
        let plan = self.plan;
        let shown: Vec<&PlanNode> = plan.nodes.values().filter(|node| self.is_shown(node)).collect();
        if !shown.is_empty() {
            self.page.gap();
            let what = match plan.header.mode {
                Mode::Apply | Mode::Destroy => "ksail will perform the following actions:",
                Mode::RefreshOnly => "ksail will take what was seen into the state, and change nothing outside:",
                Mode::Undo { .. } => "ksail will go back to the earlier declarations:",
                Mode::Recover => "ksail will rebuild the state from what was found:",
            };
            self.page.line(&[(Tone::Plain, what)]);
            for node in shown {
                self.resource(node);
            }
        }
        let is_hidden =
            |node: &&PlanNode| node.action == Action::NoOp && !self.is_shown(node) && node.recorded_only().is_empty();
        let hidden = plan.nodes.values().filter(is_hidden).count();
        if hidden > 0 && hidden < plan.nodes.len() {
            self.page.gap();
            let plural = if hidden == 1 { "" } else { "s" };
            self.page.line(&[(Tone::Faint, &format!("  # ({hidden} unchanged resource{plural} hidden)"))]);
        }
    }

    /// What the state alone says, and will say otherwise.
    fn recorded_only(&mut self) {
        let plan = self.plan;
        let recorded: Vec<_> = plan.recorded_only().collect();
        if recorded.is_empty() {
            return;
        }
        self.page.gap();
        self.page.line(&[(Tone::Strong, "Recorded only, without a change outside:")]);
        for (node, changes) in recorded {
            let said: Vec<String> = changes.iter().map(words::record_change).collect();
            self.page.prose("  - ", Tone::Plain, &format!("{}: {}", words::subject(&node.key), said.join("; ")));
        }
    }

    fn resource(&mut self, node: &'a PlanNode) {
        let (sign, tone) = words::sign(node);
        if self.verbosity == Verbosity::Quiet {
            self.page.line(&[(tone, &format!("{sign:>3}")), (Tone::Plain, " "), (Tone::Plain, &words::verdict(node))]);
            if let Some(loses) = &node.loses {
                self.page.prose("      warning: ", Tone::Warn, &format!("loses {loses}"));
            }
            for told in &node.forecast {
                self.page.prose("      ", Tone::Plain, told);
            }
            return;
        }
        self.page.gap();
        self.page.prose("  # ", Tone::Strong, &words::verdict(node));
        for remark in remarks(node) {
            self.page.prose("  # ", Tone::Plain, &format!("({remark})"));
        }
        if let Some(loses) = &node.loses {
            self.page.prose("  # ", Tone::Warn, &format!("warning: this loses {loses}"));
        }
        for told in &node.forecast {
            self.page.prose("  # ", Tone::Plain, told);
        }
        let (fields, unchanged) = self.fields(node);
        self.block((sign, tone), &node.key.address, &fields, unchanged);
    }

    fn fields(&self, node: &PlanNode) -> (Vec<Field>, usize) {
        let verbose = self.verbosity == Verbosity::Verbose;
        let schema = self.schemas.schema(node.key.address.kind());
        let mask = Mask::new(schema, &node.changes);
        let source = Source { schema, mask: &mask, unchanged: verbose, causes: true };
        let (before, after) = (node.before.as_ref(), node.after.as_ref());
        match &node.action {
            Action::Create => (after.map(|after| source.whole(Sign::Add, after)).unwrap_or_default(), 0),
            Action::Delete if node.with_host && !verbose => (Vec::new(), 0),
            Action::Delete => (before.map(|before| source.whole(Sign::Remove, before)).unwrap_or_default(), 0),
            _ => source.changed(&node.changes, before, after),
        }
    }

    fn block(
        &mut self,
        (sign, tone): (&str, Tone),
        address: &ksail_model::Address,
        fields: &[Field],
        unchanged: usize,
    ) {
        let sign = format!("{sign:>3}");
        let head = format!(" resource \"{}\" \"{}\"", address.kind(), address.name());
        if fields.is_empty() && unchanged == 0 {
            return self.page.line(&[(tone, &sign), (Tone::Plain, &head)]);
        }
        self.page.line(&[(tone, &sign), (Tone::Plain, &head), (Tone::Plain, " {")]);
        print::fields(&mut self.page, FIELD_INDENT, fields, unchanged, "attribute");
        self.page.line(&[(Tone::Plain, "    }")]);
    }

    fn yielded(&mut self) {
        if self.plan.yielded.is_empty() || self.verbosity == Verbosity::Quiet {
            return;
        }
        self.page.gap();
        self.page.line(&[(Tone::Strong, "Dependencies that yield, because they would close a cycle:")]);
        for (key, edge) in &self.plan.yielded {
            let text = format!(
                "{} does not wait until {} {} ({})",
                words::subject(key),
                edge.to,
                is(edge.condition),
                edge.origin
            );
            self.page.prose("  - ", Tone::Plain, &text);
        }
    }

    fn outputs(&mut self) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let fields: Vec<Field> = output_changes(self.plan, self.schemas)
            .into_iter()
            .filter(|(_, change)| !change.is_unchanged())
            .map(|(name, change)| {
                let (sign, shape) = match (change.before, change.after) {
                    (Some(before), Some(after)) => (Sign::Change, fields::turns(before, after)),
                    (Some(before), None) => (Sign::Remove, Shape::Whole(before)),
                    (None, after) => (Sign::Add, Shape::Whole(after.unwrap_or_default())),
                };
                Field { label: Some(name), sign, shape, comment: String::new() }
            })
            .collect();
        if fields.is_empty() {
            return;
        }
        self.page.gap();
        self.page.line(&[(Tone::Plain, "Changes to outputs:")]);
        print::fields(&mut self.page, 2, &fields, 0, "output");
    }

    fn notes(&mut self) {
        if self.plan.notes.is_empty() {
            return;
        }
        self.page.gap();
        for note in &self.plan.notes {
            self.page.prose("note: ", Tone::Plain, note);
        }
    }

    fn facts(&mut self) {
        if self.verbosity < Verbosity::Verbose {
            return;
        }
        let header = &self.plan.header;
        let state = if header.new_state { "new state".to_owned() } else { format!("state serial {}", header.serial) };
        let mut text = format!("plan {} for stack {}", self.plan.digest.short(), header.stack);
        if let Some(environment) = &header.environment {
            text.push_str(&format!(", environment {environment}"));
        }
        text.push_str(&format!(", {state}"));
        if let Some(commit) = &header.commit {
            text.push_str(&format!(", commit {commit}"));
        }
        self.page.line(&[(Tone::Faint, &text)]);
    }
}

const fn is(condition: ksail_model::Condition) -> &'static str {
    match condition {
        ksail_model::Condition::Exists => "exists",
        ksail_model::Condition::Established => "is established",
        ksail_model::Condition::Ready => "is ready",
        ksail_model::Condition::Serving => "is serving",
    }
}

/// What is said of a resource beneath its verdict.
fn remarks(node: &PlanNode) -> Vec<String> {
    let mut remarks: Vec<String> = words::reason(&node.reason).into_iter().collect();
    if let Some(from) = &node.moved_from
        && node.action != Action::NoOp
    {
        remarks.push(format!("moved from {from}"));
    }
    if let Some(id) = &node.import {
        let imported = crate::printable::quoted(id);
        remarks.push(format!("imported from {imported}"));
        if matches!(node.action, Action::Replace { .. }) {
            remarks.push("this destroys what is imported".to_owned());
        }
    }
    if node.action.is_change() {
        remarks.extend(node.lifecycle_changes().iter().map(words::record_change));
    }
    if node.action != Action::Delete {
        remarks.extend(node.others.iter().map(|others| format!("left to others: {}", words::others(others))));
    }
    if node.with_host {
        remarks.push("it goes with its host, without a call of its own".to_owned());
    }
    remarks
}
