//! The proxies of whoever plans, for machines: they pull images and reach the outside as this machine does, and the cluster itself
//! past all proxies, as kind has it.

use std::collections::BTreeMap;

use ksail_kinds::MachineSpec;
use ksail_model::{Secret, Value};

use crate::sources::Project;

/// What ends the names within a cluster.
const SUFFIXES: [&str; 3] = [".svc", ".svc.cluster", ".svc.cluster.local"];

/// The variables that machines get; none where no proxy is set. `past` is what the cluster itself is reached by: ranges and names.
pub(super) fn proxies(project: &dyn Project, past: impl IntoIterator<Item = String>) -> BTreeMap<String, Value> {
    let [http, https, no_proxy] = MachineSpec::PROXIES;
    let mut found: BTreeMap<String, Value> =
        [http, https].into_iter().filter_map(|name| Some((name.to_owned(), given(project, name)?))).collect();
    if found.is_empty() {
        return found;
    }
    let own = match given(project, no_proxy) {
        Some(Value::String(own)) => own,
        _ => String::new(),
    };
    let own = own.split(',').map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty());
    let suffixes = SUFFIXES.map(str::to_owned);
    let mut all: Vec<String> = Vec::new();
    for entry in own.chain(past).chain(suffixes) {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    found.insert(no_proxy.to_owned(), Value::from(all.join(",")));
    found
}

/// A variable, in capitals or not. One that holds a password is known by its name alone.
fn given(project: &dyn Project, name: &str) -> Option<Value> {
    let names = [name.to_owned(), name.to_lowercase()];
    let (name, text) =
        names.iter().find_map(|name| Some((name, project.env(name).filter(|text| !text.is_empty())?)))?;
    Some(if text.contains('@') { Value::Secret(Secret::env(name)) } else { Value::from(text) })
}
