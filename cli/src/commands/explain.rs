//! `ksail explain`: why a resource changes.

use std::path::PathBuf;

use clap::Args;
use ksail::{Address, BuiltinKinds, Error, Exit, Plan, RecordKey, Selector, codes, explain, read_plan};
use ksail_views::{json, text};

use super::{Outcome, run_plan};
use crate::args::{Global, PlanFlags};
use crate::report::Failure;
use crate::{interrupt, terminal};

/// Tell why a resource changes: which line of which file, or what drifted; what it forces and disturbs
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail explain mirror/docker.io
  ksail explain dev/registry/local --plan plan.json")]
pub(crate) struct Arguments {
    /// The resource; the cluster may be left out
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Explain this plan instead of a new one
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    flags: PlanFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let plan = match &arguments.plan {
        Some(file) => read_plan(&global.chdir_path(file))?,
        None => {
            let platform = super::open(&global.with(&arguments.flags))?;
            super::block_on(async {
                let interrupts = interrupt::listen();
                let options = run_plan::plan_options(&arguments.flags, &interrupts)?;
                platform.plan(&options).await.map(|planned| planned.plan).map_err(super::failed(&platform))
            })??
        }
    };
    let key = find(&plan, &arguments.address)?;
    let Some(explanation) = explain(&plan, &key) else { return Err(unknown(&plan, &arguments.address)) };
    if global.is_json() {
        terminal::print_json(&json::explanation_json(&explanation, &BuiltinKinds));
    } else {
        terminal::print(&text::explanation(&explanation, &BuiltinKinds, &terminal::text_options(global)));
    }
    Ok(Exit::Done)
}

/// The resource of an address, or the only one that it is the beginning of.
fn find(plan: &Plan, text: &str) -> Result<RecordKey, Failure> {
    let named = |key: &&RecordKey| key.to_string() == text || key.address.without_cluster() == text;
    if let Some(key) = plan.nodes.keys().find(named) {
        return Ok(key.clone());
    }
    let Ok(selector) = Selector::parse(text) else { return Err(unknown(plan, text)) };
    let selected: Vec<&RecordKey> = plan.nodes.keys().filter(|key| selector.matches(&key.address)).collect();
    match selected.as_slice() {
        [] => Err(unknown(plan, text)),
        [one] => Ok((*one).clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|key| key.address.without_cluster()).collect();
            let message = format!("{text} is the beginning of {} addresses, and one is explained", several.len());
            Err(Error::new(codes::NOT_FOUND, message, format!("name one of {}", names.join(", "))).into())
        }
    }
}

/// How many addresses are named where none is near.
const MOST_NAMED: usize = 20;

fn unknown(plan: &Plan, text: &str) -> Failure {
    let known: Vec<&str> = plan.nodes.keys().map(|key| key.address.without_cluster()).collect();
    let hint = match near(plan, text) {
        Some(near) => format!("did you mean `{near}`? `ksail graph` shows all addresses"),
        None => {
            let more = match known.len().saturating_sub(MOST_NAMED) {
                0 => String::new(),
                more => format!(", and {more} more, which `ksail graph` shows"),
            };
            format!("it has {}{more}", known.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", "))
        }
    };
    Error::new(codes::NOT_FOUND, format!("{text} is not in the plan"), hint).into()
}

/// The address that a text was most likely meant for. The cluster and the kind may be left out, and of an object its namespace.
fn near<'a>(plan: &'a Plan, text: &str) -> Option<&'a str> {
    let text = text.trim_matches('/').to_lowercase();
    let bound = (text.chars().count() / 4).clamp(1, 6);
    let distance = |address: &Address| {
        let whole = address.without_cluster();
        let name = address.name();
        let parts: Vec<&str> = name.split('/').collect();
        let mut forms = vec![address.as_str().to_owned(), whole.to_owned(), name.to_owned()];
        if let [kind, namespace, object] = parts.as_slice() {
            forms.extend([format!("{kind}/{object}"), format!("{}/{kind}/{object}", address.kind())]);
            // `Deployment/web` is `apps.Deployment/…/web`.
            if let Some((_, short)) = kind.rsplit_once('.') {
                forms.extend([format!("{short}/{namespace}/{object}"), format!("{short}/{object}")]);
            }
        }
        forms.iter().map(|form| strsim::damerau_levenshtein(&text, &form.to_lowercase())).min()
    };
    let nearest = plan.nodes.keys().filter_map(|key| Some((distance(&key.address)?, key.address.without_cluster())));
    nearest.filter(|(distance, _)| *distance <= bound).min().map(|(_, address)| address)
}
