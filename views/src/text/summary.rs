//! The plan in one line.

use ksail_plan::{Mode, Plan};

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The plan in one line, without colour or newline: `Plan: 3 to add, 1 to change, 0 to destroy. 2 blocked.`
///
/// A replacement counts as one to add and one to destroy.
pub fn summary_line(plan: &Plan) -> String {
    let counts = plan.counts();
    let moved = plan.nodes.values().filter(|node| node.moved_from.is_some()).count();
    let acts = counts.create
        + counts.update
        + counts.replace
        + counts.delete
        + counts.forget
        + counts.import
        + counts.wait
        + counts.blocked
        + counts.record
        + moved
        + plan.resolutions.len();
    let drift = plan.drift.len();
    if acts == 0 && drift == 0 && plan.changes_outputs() {
        return "No actions. Only outputs change.".to_owned();
    }
    if acts == 0 && drift == 0 {
        return nothing(plan, counts.unchanged);
    }
    let mut line = if acts == 0 {
        "No actions.".to_owned()
    } else {
        let mut parts = vec![
            format!("{} to add", counts.create + counts.replace),
            format!("{} to change", counts.update),
            format!("{} to destroy", counts.delete + counts.replace),
        ];
        let more = [
            (counts.import, "to import"),
            (moved, "to move"),
            (counts.forget, "to forget"),
            (counts.wait, "to wait for"),
            (counts.record, "to record"),
        ];
        parts.extend(more.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")));
        format!("Plan: {}.", parts.join(", "))
    };
    if !plan.resolutions.is_empty() {
        let calls = count(plan.resolutions.len(), "interrupted call", "interrupted calls");
        line.push_str(&format!(" {calls} resolved."));
    }
    if drift > 0 {
        line.push_str(&format!(" {drift} drifted."));
    }
    if counts.blocked > 0 {
        line.push_str(&format!(" {} blocked.", counts.blocked));
    }
    line
}

fn nothing(plan: &Plan, unchanged: usize) -> String {
    let resources = count(unchanged, "resource", "resources");
    match plan.header.mode {
        Mode::Destroy => "No changes. There is nothing to destroy.".to_owned(),
        Mode::RefreshOnly => format!("No changes. The state of {resources} is as it was seen."),
        Mode::Recover => "No changes. Nothing was found that the state does not know.".to_owned(),
        Mode::Undo { .. } => format!("No changes. {resources} are as they were declared then."),
        Mode::Apply if unchanged == 0 => "No changes. Nothing is declared.".to_owned(),
        Mode::Apply => format!("No changes. What is outside matches the declarations ({resources})."),
    }
}
