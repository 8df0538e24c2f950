//! What entries of `spec.manifests[]` come after: `after` of each, as addresses of objects.

use ksail_model::{Address, Diagnostic, Origin, Path, Selector, Step};

use super::KIND;
use crate::check::nearest;
use crate::codes;
use crate::loaded::Loaded;

/// How many edges `after` may make in all: each object of an entry waits for each that is named.
const MOST_EDGES: usize = 500_000;

/// What the objects of each entry wait for, and where that stands.
pub(super) struct Afters(Vec<Vec<(Address, Origin)>>);

/// An object, by its address and the entries that mean it.
pub(super) type Member<'a> = (&'a Address, &'a [usize]);

/// The path of an entry's part.
fn at(entry: usize) -> Path {
    Path::key("spec").child_key("manifests").child(Step::Index(entry))
}

/// A path as it is compared: `./k8s/` is `k8s`.
fn plain(path: &str) -> &str {
    path.trim_start_matches("./").trim_end_matches('/')
}

impl Afters {
    /// Reads `after` of all entries.
    pub(super) fn of(loaded: &Loaded, members: &[Member<'_>]) -> (Self, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let mut edges = 0;
        let entries = &loaded.config.spec.manifests;
        let mut all = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let mut found: Vec<(Address, Origin)> = Vec::new();
            let own = members.iter().filter(|(_, entries)| entries.contains(&index)).count();
            for (position, text) in entry.after.iter().enumerate() {
                let place = at(index).child_key("after").child(Step::Index(position));
                let named = named(loaded, members, text);
                let others = named.iter().filter(|(_, entries)| !entries.contains(&index));
                let before = found.len();
                let origin = loaded.origin(&place);
                found.extend(others.map(|(address, _)| ((*address).clone(), origin.clone())));
                if found.len() == before {
                    problems.push(loaded.label(problem(loaded, members, text, !named.is_empty()), &place, ""));
                }
            }
            edges += own * found.len();
            if edges > MOST_EDGES {
                let message =
                    format!("`after` makes more than {MOST_EDGES} edges: {own} objects come after {}", found.len());
                let error = Diagnostic::error(codes::AFTER_TOO_MUCH, message)
                    .hint("name the few objects that matter, such as the last of the other entry");
                problems.push(loaded.label(error, &at(index).child_key("after"), ""));
                found.clear();
            }
            all.push(found);
        }
        (Self(all), problems)
    }

    /// What an object of these entries waits for.
    pub(super) fn of_entries<'a>(&'a self, entries: &'a [usize]) -> impl Iterator<Item = &'a (Address, Origin)> {
        entries.iter().filter_map(|entry| self.0.get(*entry)).flatten()
    }
}

/// The objects that a text names: those of the entry with this path, or those whose addresses it begins.
fn named<'a>(loaded: &Loaded, members: &[Member<'a>], text: &str) -> Vec<Member<'a>> {
    let entries = &loaded.config.spec.manifests;
    if let Some(entry) = entries.iter().position(|entry| plain(&entry.path) == plain(text)) {
        return members.iter().filter(|(_, entries)| entries.contains(&entry)).copied().collect();
    }
    let selectors: Vec<Selector> =
        [text.to_owned(), format!("{KIND}/{text}")].iter().filter_map(|text| Selector::parse(text).ok()).collect();
    members.iter().filter(|(address, _)| selectors.iter().any(|selector| selector.matches(address))).copied().collect()
}

fn problem(loaded: &Loaded, members: &[Member<'_>], text: &str, is_own: bool) -> Diagnostic {
    if is_own {
        return Diagnostic::error(codes::NOT_DECLARED, format!("all that `{text}` names is in the entry itself"))
            .hint("within an entry, the annotation `ksail.io/after` on an object says what it comes after");
    }
    let error = Diagnostic::error(
        codes::NOT_DECLARED,
        format!("`{text}` names no object of the manifests, and no other entry"),
    );
    let paths = loaded.config.spec.manifests.iter().map(|entry| plain(&entry.path));
    let names = members.iter().flat_map(|(address, _)| {
        let name = address.name();
        // Beginnings that one may mean: the kind, kind and namespace, all of it.
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        let short = ends.clone().map(move |end| &name[..end]);
        let with_kind = ends.map(move |end| &address.without_cluster()[..KIND.len() + 1 + end]);
        short.chain(with_kind)
    });
    match nearest(text, paths.chain(names)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(
            "write an address such as `object/apps.Deployment/web/shop`, a beginning of one, or the path of an entry",
        ),
    }
}
