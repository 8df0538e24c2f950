//! What is blocked: each reason once, with all that it blocks.

use ksail_model::{Origin, Path};
use ksail_plan::{Action, Blocked, Plan, PlanNode};

use super::Verbosity;
use crate::page::{Page, Tone};
use crate::words;

/// How many resources are named beneath one reason, unless all is wanted.
const MOST_NAMED: usize = 20;

/// Resources that are blocked for the same reason.
struct Group<'a> {
    reason: String,
    hint: Option<String>,
    members: Vec<(&'a PlanNode, &'a Blocked)>,
}

/// The groups, in the order of their first members.
fn groups(plan: &Plan) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: std::collections::HashMap<(String, Option<String>), usize> = std::collections::HashMap::new();
    for node in plan.nodes.values() {
        let Action::Blocked { why } = &node.action else { continue };
        let (reason, hint) = words::blocked_together(why);
        let at = *known.entry((reason, hint)).or_insert_with_key(|(reason, hint)| {
            groups.push(Group { reason: reason.clone(), hint: hint.clone(), members: Vec::new() });
            groups.len() - 1
        });
        groups[at].members.push((node, why));
    }
    groups
}

/// Names all that is blocked, with its reasons and what resolves them.
pub(crate) fn blocked(page: &mut Page, plan: &Plan, verbosity: Verbosity) {
    let groups = groups(plan);
    if groups.is_empty() {
        return;
    }
    page.gap();
    page.line(&[(Tone::Strong, "Blocked, until someone looks at it:")]);
    for group in groups {
        if verbosity > Verbosity::Quiet {
            page.gap();
        }
        let hint = match group.members.as_slice() {
            [(node, why)] => {
                let text = format!("{} is blocked: {}", words::subject(&node.key), words::blocked(why));
                page.prose("  ! ", Tone::Warn, &text);
                if let Some(place) = place(node, why) {
                    page.prose("    declared at ", Tone::Plain, &place);
                }
                words::blocked_hint(&node.key, why)
            }
            members => {
                let text = format!("{} resources are blocked: {}", members.len(), group.reason);
                page.prose("  ! ", Tone::Warn, &text);
                name(page, members, verbosity);
                group.hint
            }
        };
        if let Some(hint) = hint {
            page.prose("    hint: ", Tone::Plain, &hint);
        }
    }
}

/// Where stands what the outside would refuse.
fn place(node: &PlanNode, why: &Blocked) -> Option<String> {
    let origin = node.declaration.as_ref()?.origins.of(&Path::root())?;
    let is_in_a_file = matches!(origin, Origin::File { .. } | Origin::Overlay { .. });
    (is_in_a_file && matches!(why, Blocked::Refused { .. })).then(|| origin.to_string())
}

fn name(page: &mut Page, members: &[(&PlanNode, &Blocked)], verbosity: Verbosity) {
    let most = if verbosity == Verbosity::Verbose { usize::MAX } else { MOST_NAMED };
    for (node, why) in members.iter().take(most) {
        let own = words::blocked_alone(why).or_else(|| place(node, why));
        let own = own.map(|own| format!(" ({own})")).unwrap_or_default();
        page.prose("      ", Tone::Plain, &format!("{}{own}", words::subject(&node.key)));
    }
    if members.len() > most {
        page.prose("      ", Tone::Faint, &format!("and {} more, which --verbose names", members.len() - most));
    }
}
