//! What the file says of the life of resources: rules, moves, removals, imports.

use std::sync::Arc;

use ksail_kinds::BuiltinKinds;
use ksail_model::{
    Address, DeclaredGraph, Diagnostic, Import, Move, Origin, Path, Removal, Schemas as _, Selector, Severity, Step,
};

use super::addresses;
use crate::check::nearest;
use crate::codes;
use crate::format::LifecycleRule;
use crate::loaded::Loaded;

/// Puts them into the graph. Texts that are no addresses were refused before.
pub(super) fn apply(loaded: &Loaded, graph: &mut DeclaredGraph) -> Vec<Diagnostic> {
    let mut work = Work { loaded, graph, problems: Vec::new() };
    work.rules();
    work.moves();
    work.removals();
    work.imports();
    work.problems
}

struct Work<'a> {
    loaded: &'a Loaded,
    graph: &'a mut DeclaredGraph,
    problems: Vec<Diagnostic>,
}

/// The path of a list's entry under `spec`.
fn entry(list: &str, index: usize) -> Path {
    Path::key("spec").child_key(list).child(Step::Index(index))
}

impl Work<'_> {
    fn address(&self, text: &str) -> Option<Address> {
        addresses::read(text, self.loaded.config.name()).ok()
    }

    fn origin(&self, path: &Path) -> Origin {
        self.loaded.origin(path)
    }

    fn problem(&mut self, diagnostic: Diagnostic, path: &Path) {
        self.problems.push(self.loaded.label(diagnostic, path, ""));
    }

    fn rules(&mut self) {
        for (index, rule) in self.loaded.config.spec.lifecycle.iter().enumerate() {
            let at = entry("lifecycle", index);
            let Ok(selector) = Selector::parse(&rule.r#match) else { continue };
            let matching: Vec<Address> =
                self.graph.declarations.keys().filter(|address| selector.matches(address)).cloned().collect();
            if matching.is_empty() {
                let mut warning =
                    Diagnostic::warning(codes::MATCHES_NOTHING, format!("`{}` matches no resource", rule.r#match));
                let known =
                    self.graph.declarations.keys().flat_map(|address| [address.kind(), address.without_cluster()]);
                if let Some(near) = nearest(&rule.r#match, known) {
                    warning = warning.hint(format!("did you mean `{near}`?"));
                }
                self.problem(warning, &at.child_key("match"));
            }
            if rule.create_before_destroy == Some(true) {
                self.refuse_coexistence(&matching, &at.child_key("createBeforeDestroy"));
            }
            let ignored: Vec<Path> = rule.ignore.iter().filter_map(|text| Path::parse(text).ok()).collect();
            for (position, path) in ignored.iter().enumerate() {
                self.unknown_field(&matching, path, &at.child_key("ignore").child(Step::Index(position)));
            }
            self.refuse_contradictions(index, &matching);
            for address in &matching {
                let Some(declaration) = self.graph.declarations.get_mut(address) else { continue };
                let lifecycle = &mut Arc::make_mut(declaration).lifecycle;
                lifecycle.protect = lifecycle.protect.or(rule.protect);
                lifecycle.create_before_destroy |= rule.create_before_destroy.unwrap_or_default();
                for path in &ignored {
                    if !lifecycle.ignore.contains(path) {
                        lifecycle.ignore.push(path.clone());
                    }
                }
            }
        }
    }

    /// An error where an earlier rule says `true` of a resource and this one `false`, or the other way around.
    fn refuse_contradictions(&mut self, index: usize, matching: &[Address]) {
        let loaded = self.loaded;
        let rules = &loaded.config.spec.lifecycle;
        type Said = fn(&LifecycleRule) -> Option<bool>;
        let words: [(&str, Said); 2] =
            [("protect", |rule| rule.protect), ("createBeforeDestroy", |rule| rule.create_before_destroy)];
        for (word, said) in words {
            let Some(now) = said(&rules[index]) else { continue };
            let contradicted = rules[..index].iter().enumerate().find_map(|(earlier, rule)| {
                let selector = Selector::parse(&rule.r#match).ok().filter(|_| said(rule) == Some(!now))?;
                Some((earlier, matching.iter().find(|address| selector.matches(address))?))
            });
            let Some((earlier, address)) = contradicted else { continue };
            let message = format!(
                "two rules contradict each other about {address}: this one says `{word}: {now}`, an earlier one `{}`",
                !now
            );
            let error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, message)
                .hint("let one of the two match less, or say it once");
            let error = loaded.label(error, &entry("lifecycle", index).child_key(word), "");
            let error = loaded.label(error, &entry("lifecycle", earlier).child_key(word), "");
            self.problems.push(error);
        }
    }

    /// Warns of a field that none of the resources has.
    fn unknown_field(&mut self, matching: &[Address], field: &Path, at: &Path) {
        let Some(Step::Key(first)) = field.steps().first() else { return };
        let mut known: Vec<String> = Vec::new();
        for declaration in matching.iter().filter_map(|address| self.graph.declarations.get(address)) {
            known.extend(declaration.spec.as_map().into_iter().flat_map(|fields| fields.keys().cloned()));
            known.extend(declaration.choices.iter().map(|choice| choice.path().to_string()));
            // What the declaration leaves to the provider can be ignored too.
            let schema = BuiltinKinds.schema(declaration.address.kind());
            known.extend(schema.into_iter().flat_map(|schema| &schema.fields).map(|field| field.path.to_string()));
        }
        if known.is_empty() || known.contains(first) {
            return;
        }
        let message = format!("`{field}` is ignored, which none of the matching resources has");
        let mut warning = Diagnostic::warning(codes::MATCHES_NOTHING, message);
        warning.hint = nearest(first, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        self.problem(warning, at);
    }

    /// One error for each kind that cannot exist twice, with one of its addresses.
    fn refuse_coexistence(&mut self, matching: &[Address], path: &Path) {
        let mut seen: Vec<&str> = Vec::new();
        for address in matching {
            if seen.contains(&address.kind()) {
                continue;
            }
            seen.push(address.kind());
            if let Some(Err(why)) = BuiltinKinds.schema(address.kind()).map(|schema| schema.may_coexist) {
                let message = format!("{address} cannot be created before the old one is destroyed: {why}");
                let error = Diagnostic::error(codes::CANNOT_COEXIST, message).hint("leave `createBeforeDestroy` out");
                self.problem(error, path);
            }
        }
    }

    fn still_declared(&mut self, address: &Address, path: &Path, what: &str) {
        if self.graph.declarations.contains_key(address) {
            let message = format!("{address} is {what}, and the file still declares it");
            let error = Diagnostic::error(codes::STILL_DECLARED, message).hint("remove the entry, or what declares it");
            self.problem(error, path);
        }
    }

    fn not_declared(&self, address: &Address, what: &str) -> Diagnostic {
        let mut error =
            Diagnostic::error(codes::NOT_DECLARED, format!("{what} {address}, which the file does not declare"));
        let known = self.graph.declarations.keys().map(Address::as_str);
        error.hint = nearest(address.as_str(), known).map(|near| format!("did you mean `{near}`?"));
        error
    }

    fn moves(&mut self) {
        for (index, moved) in self.loaded.config.spec.moved.iter().enumerate() {
            let at = entry("moved", index);
            let (Some(from), Some(to)) = (self.address(&moved.from), self.address(&moved.to)) else { continue };
            self.still_declared(&from, &at.child_key("from"), "moved");
            // Not an error: entries outlive what they moved, so that every state of the past is carried over.
            if !self.graph.declarations.contains_key(&to) {
                let mut warning = self.not_declared(&to, "the move leads to");
                warning.severity = Severity::Warning;
                self.problem(warning, &at.child_key("to"));
            }
            let origin = self.origin(&at.child_key("from"));
            self.graph.moved.push(Move { from, to, origin });
        }
    }

    fn removals(&mut self) {
        for (index, removed) in self.loaded.config.spec.removed.iter().enumerate() {
            let at = entry("removed", index).child_key("from");
            let Some(from) = self.address(&removed.from) else { continue };
            self.still_declared(&from, &at, "removed");
            let removal = Removal { from, destroy: removed.destroy.unwrap_or(true), origin: self.origin(&at) };
            self.graph.removed.push(removal);
        }
    }

    fn imports(&mut self) {
        for (index, import) in self.loaded.config.spec.imports.iter().enumerate() {
            let at = entry("imports", index).child_key("to");
            let Some(to) = self.address(&import.to) else { continue };
            if !self.graph.declarations.contains_key(&to) {
                let error = self.not_declared(&to, "the import leads to");
                self.problem(error, &at);
            }
            let origin = self.origin(&at);
            self.graph.imports.push(Import { to, id: import.id.clone(), origin });
        }
    }
}
